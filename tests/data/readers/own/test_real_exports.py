"""`exports.tar.xz`: the small data set of `exported.py` as other people's tools wrote it.

supervision 0.31.2, datumaro 1.13.12, fiftyone 1.22.1 and pycocotools 2.0.11, by `tests/real/write_exports.py`.
"""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from pysrn.data.readers.own.formats import read_own
from tests.data.readers.own.exported import CLASSES, EXPECTED, PARTS, SIZE, shown
from tests.real.write_exports import WRITERS


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    """The unpacked archive."""
    folder = tmp_path_factory.mktemp("exports")
    with tarfile.open(Path(__file__).with_name("exports.tar.xz")) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


@pytest.mark.parametrize("name", WRITERS)
def test_labels_and_boxes_come_back(name, exports):
    found = read_own(exports / name)
    expected = {split: dict(images) for split, images in EXPECTED.items()}
    left_out = []
    if name == "datumaro_voc":  # it writes no XML file for an image without objects
        del expected["train"]["empty.jpg"]
        left_out = [(str(exports / name / "Annotations" / "empty.xml"), "no XML file")]
    assert shown(found) == expected and set(found["test"].classes) == set(CLASSES)
    assert found["train"].left_out == left_out and not found["test"].left_out
    for split, images in PARTS.items():
        for sample in found[split].samples:
            places = found[split].boxes[sample.key_name]
            assert len(places) == (0 if name == "pycocotools_rle" else len(images[sample.path.name]))
            for place in places:
                box = np.array(place.box) * (np.tile(SIZE, 2) if place.relative else 1)
                assert np.abs(box - images[sample.path.name][found[split].classes[place.label]]).max() <= 1
