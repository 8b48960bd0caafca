"""Fixtures: a small real data set with its LMDB pair, and a caffemodel for it with random weights of realistic size."""

from pathlib import Path

import pytest

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.data.build import build_dataset
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.predict.splits import whole_views
from pysrn.recipes import class_names
from pysrn.systems.srn.heads import HeadSpec
from tests.srn import INPUT, Architecture


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory) -> Path:
    """Images, annotations and LMDB pairs: 4 training and 21 test images of `shapes`."""
    folder = tmp_path_factory.mktemp("shapes")
    build_dataset("shapes", folder, seed=3, counts={"train": 4, "test": 21}, workers=1)
    return folder


@pytest.fixture(scope="session")
def shapes_model(tmp_path_factory, shapes_folder) -> Path:
    """A caffemodel of the whole net."""
    architecture = Architecture("resnet14", len(class_names("shapes")), HeadSpec(32, 32))
    path = tmp_path_factory.mktemp("model") / "weights.caffemodel"
    return write_realistic(path, architecture, whole_views(PairReader(shapes_folder, "test"), range(4), INPUT))
