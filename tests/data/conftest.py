"""A small real data set and its LMDB pairs, made once: 40 training and 12 test images of `shapes`."""

from pathlib import Path

import pytest

from pysrn.data.build import build_dataset


@pytest.fixture(scope="session")
def small_shapes(tmp_path_factory) -> Path:
    """Folder with the JPEG files, annotations and LMDB pairs."""
    folder = tmp_path_factory.mktemp("shapes")
    build_dataset("shapes", folder, seed=3, counts={"train": 40, "test": 12}, workers=1)
    return folder
