"""The COCO reader on hand-made files and on genuine ones."""

import csv
import json

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.coco import read_coco
from pysrn.recipes import class_names

CONTENT = {
    "images": [{"id": 9, "file_name": "b.jpg"}, {"id": 4, "file_name": "sub/a.jpg"}],
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2, 3.5, 4]},
        {"id": 2, "image_id": 9, "category_id": 7, "bbox": [5, 6, 7, 8]},
    ],
}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path, tmp_path

    return write


def test_labels_boxes_and_order(write):
    path, images = write(CONTENT)
    found = read_coco(path, images)
    assert found.classes == ("cat", "dog")  # by category id
    assert [s.key_name for s in found.samples] == ["sub_a", "b"]  # by image id
    assert [s.path for s in found.samples] == [images / "sub/a.jpg", images / "b.jpg"]
    np.testing.assert_array_equal([s.labels for s in found.samples], [[-1, -1], [-1, 1]])
    assert found.boxes["sub_a"] == []
    assert [(b.label, b.box) for b in found.boxes["b"]] == [(1, (1, 2, 3.5, 4)), (1, (5, 6, 7, 8))]


def test_the_order_of_the_classes_can_be_given(write):
    found = read_coco(*write(CONTENT), classes=["dog", "cat"])
    assert found.classes == ("dog", "cat")
    np.testing.assert_array_equal(found.samples[1].labels, [1, -1])


def without(part, row=None, name=None):
    content = json.loads(json.dumps(CONTENT))
    if name:
        del content[part][row][name]
    else:
        del content[part]
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [', "not a JSON file"),
        ([], 'no list "images"'),
        (without("images"), 'no list "images"'),
        (without("annotations"), 'no list "annotations"'),
        (without("annotations", 1, "category_id"), '"annotations" row 1 has no valid "category_id"'),
        (without("images", 0, "file_name"), '"images" row 0 has no valid "file_name"'),
        ({**CONTENT, "annotations": [{**CONTENT["annotations"][0], "image_id": 5}]}, "image 5"),
        ({**CONTENT, "annotations": [{**CONTENT["annotations"][0], "bbox": [1]}]}, "bbox"),
        ({**CONTENT, "annotations": [{**CONTENT["annotations"][0], "bbox": ["1", 2, 3, 4]}]}, "bbox"),
        ({**CONTENT, "images": CONTENT["images"][:1] * 2}, "used twice"),
    ],
)
def test_damaged_files_are_refused_by_name(write, content, words):
    path, images = write(content)
    with pytest.raises(SrnError, match=words) as caught:
        read_coco(path, images)
    assert str(path) in str(caught.value)


def test_empty_missing_and_foreign(write, tmp_path):
    with pytest.raises(MissingError, match="empty"):
        read_coco(*write({**CONTENT, "images": [], "annotations": []}))
    path, images = write(CONTENT)
    with pytest.raises(MissingError, match="no file"):
        read_coco(tmp_path / "other.json", images)
    with pytest.raises(MissingError, match="no folder"):
        read_coco(path, tmp_path / "nowhere")
    with pytest.raises(SrnError, match="differing: dog, horse"):
        read_coco(path, images, classes=["cat", "horse"])


@pytest.mark.parametrize(("part", "images", "boxes"), [("train2017", 80, 739), ("val2017", 79, None)])
def test_genuine_annotations_agree_with_the_independent_label_rows(shared_data, part, images, boxes):
    folder = shared_data / "coco_images"
    annotation = folder / "coco_mini" / "annotations" / f"instances_{part}.json"
    found = read_coco(annotation, folder / "coco_mini" / part, class_names("coco"))
    assert len(found.samples) == images
    if boxes:
        assert sum(map(len, found.boxes.values())) == boxes
    with (folder / "manifest.csv").open() as stream:
        rows = {row[0]: np.array(row[3:], int) for row in list(csv.reader(stream))[1:]}
    for sample in found.samples:
        np.testing.assert_array_equal(sample.labels == 1, rows[f"coco_mini/{part}/{sample.path.name}"] == 1)
        assert sample.path.is_file()
