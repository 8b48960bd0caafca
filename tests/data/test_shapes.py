"""The embedded data set: the same for good, its relations true by the boxes, its labels balanced."""

import hashlib
import json

import cv2
import numpy as np
import pytest

from pysrn.data.readers.coco import read_coco
from pysrn.data.shapes.dataset import write_shapes
from pysrn.data.shapes.render import render
from pysrn.data.shapes.scene import ABOVE, CANVAS, CENTRE_MARGIN, CLASSES, COMPANY, FAR_X, FAR_Y, OBJECTS, compose

# Of 40 scenes of the split "train" with seed 7. Whoever changes a constant of the scenes changes these
# knowingly.
BOXES_SHA256 = "c11d9ccbb37a7f41996e375cd336b3b57ca1452b5127edb27404be222fe79079"
PIXELS_SHA256 = "ee1f51dc433b4e6dcd4cfd7838ba5b8df26a60be08f84ab810b7d3a98765008f"


@pytest.fixture(scope="module")
def scenes():
    return [compose(0, "train", index) for index in range(1200)]


@pytest.fixture(scope="module")
def labels(scenes):
    return np.array([[name in scene.boxes for name in CLASSES] for scene in scenes])


def test_scenes_and_pixels_are_those_of_record():
    boxes, pixels = hashlib.sha256(), hashlib.sha256()
    for index in range(40):
        scene = compose(7, "train", index)
        boxes.update(repr(sorted(scene.boxes.items())).encode())
        pixels.update(render(scene, 7, "train", index).tobytes())
    assert boxes.hexdigest() == BOXES_SHA256
    assert pixels.hexdigest() == PIXELS_SHA256


def test_seed_split_and_index_each_matter():
    scenes = [compose(0, "train", 0), compose(1, "train", 0), compose(0, "test", 0), compose(0, "train", 1)]
    assert len({repr(sorted(scene.boxes.items())) for scene in scenes}) == 4


def test_labels_are_balanced(labels):
    rates = dict(zip(CLASSES, labels.mean(0), strict=True))
    assert all(0.12 < rate < 0.55 for rate in rates.values()), rates


@pytest.mark.parametrize("pair", ABOVE)
def test_presence_does_not_give_the_relation_away(labels, pair):
    upper, lower = (labels[:, CLASSES.index(name)] for name in pair)
    relation = labels[:, CLASSES.index(f"{pair[0]} above {pair[1]}")]
    both = upper & lower
    assert not relation[~both].any()
    assert both.sum() > 300
    assert 0.42 < relation[both].mean() < 0.58


def test_local_relations_hold_about_half_the_time(labels):
    for relation, thing in (("object inside ring", "ring"), ("object beside star", "star")):
        present = labels[:, CLASSES.index(thing)]
        holds = labels[:, CLASSES.index(relation)]
        assert not holds[~present].any()
        assert 0.35 < holds[present].mean() < 0.6


def test_faint_things_come_in_company(labels):
    for faint, company in COMPANY.items():
        there = labels[:, CLASSES.index(faint)]
        together = labels[:, [CLASSES.index(name) for name in company]].all(1)
        assert there[together].mean() > 0.75 and there[~together].mean() < 0.1


def middle(box):
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def expected_relations(boxes):
    """The relation labels by the boxes of the objects alone, written down once more."""
    there, found = {name: box for name, box in boxes.items() if name in OBJECTS}, set()
    for upper, lower in ABOVE:
        if {upper, lower} <= set(there) and middle(there[upper])[1] < middle(there[lower])[1]:
            found.add(f"{upper} above {lower}")
    for name, (x, y, w, h) in there.items():
        if "ring" in there and name != "ring":
            rx, ry, rw, rh = there["ring"]
            if rx <= x and ry <= y and x + w <= rx + rw and y + h <= ry + rh:
                found.add("object inside ring")
        if "star" in there and name != "star":
            sx, _, sw, _ = there["star"]
            gap = sx - (x + w) if x < sx else x - (sx + sw)
            if 0 <= gap <= 5 and abs(middle(there[name])[1] - middle(there["star"])[1]) <= 12:
                found.add("object beside star")
    return found


def mirrored(boxes):
    return {name: (CANVAS - x - w, y, w, h) for name, (x, y, w, h) in boxes.items()}


def test_relations_follow_from_the_boxes_and_survive_mirroring(scenes):
    for scene in scenes:
        told = {name for name in scene.boxes if name not in (*OBJECTS, *COMPANY)}
        assert told == expected_relations(scene.boxes) == expected_relations(mirrored(scene.boxes))


def test_long_range_pairs_are_far_apart_and_no_case_is_close(scenes):
    for scene in scenes:
        for upper, lower in ABOVE:
            if {upper, lower} <= set(scene.boxes):
                dx, dy = np.abs(middle(scene.boxes[upper]) - middle(scene.boxes[lower]))
                assert dx >= FAR_X and dy >= FAR_Y


def test_objects_stay_away_from_the_border_and_from_each_other(scenes):
    for scene in scenes:
        boxes = [(thing.name, thing.box) for thing in scene.things]
        for name, (x, y, w, h) in boxes:
            assert min(x, y) >= 10 and max(x + w, y + h) <= CANVAS - 10, name
            assert (middle((x, y, w, h)) >= CENTRE_MARGIN).all()
            # A crop of 224 leaves out at most 32 pixels: the centre stays in view.
            assert (middle((x, y, w, h)) <= CANVAS - CENTRE_MARGIN).all()
        for i, (a, (ax, ay, aw, ah)) in enumerate(boxes):
            for b, (bx, by, bw, bh) in boxes[:i]:
                overlap = min(ax + aw, bx + bw) > max(ax, bx) and min(ay + ah, by + bh) > max(ay, by)
                assert not overlap or "ring" in (a, b)


def test_an_object_is_drawn_where_its_box_says():
    scene = compose(0, "train", 5)
    picture = render(scene, 0, "train", 5).astype(int)
    for thing in scene.things:
        if thing.name in OBJECTS and thing.name != "ring":
            x, y = middle(thing.box).astype(int)
            centre = picture[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1))
            assert centre.max() - centre.min() > 60, f"{thing.name}: no saturated colour at its centre"


def test_files_are_coco_and_do_not_depend_on_the_workers(tmp_path):
    for workers in (1, 2):
        write_shapes(tmp_path / str(workers), {"train": 6, "test": 3}, seed=5, workers=workers)
    one, two = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "12")
    assert one == two and len(one) == 6 + 3 + 2
    found = read_coco(tmp_path / "1/annotations/train.json", tmp_path / "1/images/train", CLASSES)
    for index, sample in enumerate(found.samples):
        scene = compose(5, "train", index)
        assert {CLASSES[i] for i in np.flatnonzero(sample.labels == 1)} == set(scene.boxes)
        assert {CLASSES[b.label]: b.box for b in found.boxes[sample.key_name]} == scene.boxes
        decoded = cv2.imread(str(sample.path)).astype(int)
        assert decoded.shape == (256, 256, 3)
        assert np.abs(decoded - render(scene, 5, "train", index)).mean() < 6  # JPEG, quality 90
    content = json.loads((tmp_path / "1/annotations/test.json").read_text())
    assert {"id", "image_id", "category_id", "bbox", "area", "iscrowd"} <= set(content["annotations"][0])
