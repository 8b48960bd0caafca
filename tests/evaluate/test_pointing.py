"""Pointing accuracy by hand, and boxes read for the samples of a real LMDB pair."""

import json

import numpy as np
import pytest

from pysrn.console import MissingError
from pysrn.data.lmdb_pair import PairReader
from pysrn.evaluate.pointing import cells_inside, pointing, read_boxes


def test_by_hand():
    maps = np.zeros((2, 3, 4, 4))
    maps[0, 0, 1, 2] = 1  # centre at x = 0.625, y = 0.375
    maps[0, 1, 0, 0] = 1  # centre at 0.125, 0.125
    maps[1, 0, 3, 3] = 1
    boxes = [
        {0: [(0.0, 0.0, 0.1, 0.1), (0.6, 0.3, 0.7, 0.4)], 1: [(0.2, 0.0, 1.0, 1.0)]},
        {0: [(0.0, 0.0, 0.5, 0.5)]},
    ]
    found = pointing(maps, boxes)
    assert found.hits.tolist() == [1, 0, 0]
    assert found.total.tolist() == [2, 1, 0]
    assert found.accuracy == 0.25  # (1/2 + 0/1) / 2; the third label has no box
    # cells inside: 1 of 16 and 4 of 16 for label 0, 12 of 16 for label 1
    assert found.chance.tolist() == [(1 / 16 + 4 / 16) / 2, 12 / 16, 0]
    assert found.mean_chance == pytest.approx((2.5 / 16 + 12 / 16) / 2)


def test_x_is_the_column():
    inside = cells_inside([(0.5, 0.0, 1.0, 0.25)], 4, 4)
    assert np.argwhere(inside).tolist() == [[0, 2], [0, 3]]


def test_boxes_of_a_pairs_samples(shapes_folder):
    pair = PairReader(shapes_folder, "test")
    annotation = shapes_folder / "annotations" / "test.json"
    boxes = read_boxes(annotation, shapes_folder / "images" / "test", pair, range(len(pair)))
    content = json.loads(annotation.read_text())
    for index, places in enumerate(boxes):
        assert sorted(places) == np.flatnonzero(pair.labels(index) == 1).tolist()
        number = int(pair.keys[index].split("_")[1]) + 1
        theirs = [row for row in content["annotations"] if row["image_id"] == number]
        assert sum(len(found) for found in places.values()) == len(theirs)
        for row in theirs:
            x, y, width, height = (value / 256 for value in row["bbox"])
            assert pytest.approx((x, y, x + width, y + height)) in places[row["category_id"] - 1]
    assert boxes[5] == read_boxes(annotation, shapes_folder / "images" / "test", pair, [5])[0]


def test_annotations_of_other_images_are_refused(shapes_folder):
    pair = PairReader(shapes_folder, "test")
    with pytest.raises(MissingError, match="does not know the image"):
        read_boxes(shapes_folder / "annotations" / "train.json", shapes_folder / "images" / "train", pair, range(21))
