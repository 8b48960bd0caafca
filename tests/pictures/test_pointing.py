"""Pointing accuracy by hand, boxes read for the samples of a real LMDB pair, and class-activation maps."""

import json
from itertools import chain

import cv2
import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.build import build_dataset
from pysrn.data.pair.lmdb_pair import PairReader, write_pair
from pysrn.data.readers.coco import read_coco
from pysrn.data.readers.options import ReaderOptions
from pysrn.nets.map_places import Places, Side
from pysrn.pictures.attention import activation_maps_of
from pysrn.pictures.pointing import Pointing, cells_inside, label_groups, pointing, read_boxes
from pysrn.predict.deploy import DeployNet
from pysrn.predict.splits import whole_views
from pysrn.recipes import class_names
from tests.data.readers.own.exported import SIZE, TRAIN, write_coco, write_voc, write_yolo
from tests.srn import INPUT

EVEN = Places(*[Side(16, 4, 4, 0, 3)] * 2)  # four cells side by side, each in the middle of its own quarter


def test_by_hand():
    maps = np.zeros((2, 3, 4, 4))
    maps[0, 0, 1, 2] = 1  # centre at x = 0.625, y = 0.375
    maps[0, 1, 0, 0] = 1  # centre at 0.125, 0.125
    maps[1, 0, 3, 3] = 1
    boxes = [
        {0: [(0.0, 0.0, 0.1, 0.1), (0.6, 0.3, 0.7, 0.4)], 1: [(0.2, 0.0, 1.0, 1.0)]},
        {0: [(0.0, 0.0, 0.5, 0.5)]},
    ]
    found = pointing(maps, boxes, EVEN)
    assert found.hits.tolist() == [1, 0, 0]
    assert found.total.tolist() == [2, 1, 0]
    assert found.accuracy == 0.25  # (1/2 + 0/1) / 2; the third label has no box
    # cells inside: 1 of 16 and 4 of 16 for label 0, 12 of 16 for label 1
    assert found.chance.tolist() == [(1 / 16 + 4 / 16) / 2, 12 / 16, 0]
    assert found.mean_chance == pytest.approx((2.5 / 16 + 12 / 16) / 2)


def test_x_is_the_column():
    inside = cells_inside([(0.5, 0.0, 1.0, 0.25)], *EVEN.centres())
    assert np.argwhere(inside).tolist() == [[0, 2], [0, 3]]


def test_cells_are_judged_where_they_lie(shapes_model):
    """The public trunk's cell (3, 10) lies at pixel (50.5, 162.5) of 224, not at (56, 168)."""
    places = DeployNet(shapes_model).places("att_map")
    maps = np.zeros((1, 2, 14, 14))
    maps[:, :, 3, 10] = 1

    def box(x, y, half=3):
        return [((x - half) / 224, (y - half) / 224, (x + half) / 224, (y + half) / 224)]

    found = pointing(maps, [{0: box(162.5, 50.5), 1: box(168, 56)}], places)
    assert found.hits.tolist() == [1, 0] and found.total.tolist() == [1, 1]
    assert found.chance.tolist() == [1 / 196, 0]  # no cell lies in the second


def test_activation_maps_lie_where_the_features_do(shapes_model):
    net = DeployNet(shapes_model, folded=True)
    y, x = net.places(net.features).centres()
    np.testing.assert_allclose(224 * y, 32 * np.arange(7) + 2.5)
    np.testing.assert_array_equal(x, y)


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
    train = PairReader(shapes_folder, "train")  # its names, 000000 to 000003, are in the test split too
    for chosen in (range(4), []):
        with pytest.raises(SrnError, match="is not of .*, train: its image 00000. has other labels"):
            read_boxes(shapes_folder / "annotations" / "test.json", shapes_folder / "images" / "test", train, chosen)


def test_files_of_equal_stems_keep_their_own_boxes(tmp_path):
    images = [("a.jpg", 100, 50), ("a.png", 50, 100), ("b/a.jpg", 80, 80)]
    for file, width, height in images:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / file), np.full((height, width, 3), 99, np.uint8))
    content = {
        "images": [{"id": number, "file_name": row[0]} for number, row in enumerate(images)],
        "annotations": [{"image_id": n, "category_id": n % 2, "bbox": [10, 10 * n, 20, 10]} for n in range(3)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_coco(tmp_path / "a.json", tmp_path)
    write_pair(found.samples, tmp_path / "pair", "test", found.classes, 0, dataset="folder", workers=1)
    pair = PairReader(tmp_path / "pair", "test")
    boxes = dict(
        zip((key[9:] for key in pair.keys), read_boxes(tmp_path / "a.json", tmp_path, pair, range(3)), strict=True)
    )
    assert boxes["a"] == {0: [pytest.approx((0.1, 0.0, 0.3, 0.2))]}
    assert boxes["a~2"] == {1: [pytest.approx((0.2, 0.1, 0.6, 0.2))]}
    assert boxes["b_a"] == {0: [pytest.approx((0.125, 0.25, 0.375, 0.375))]}


@pytest.mark.parametrize("write", [write_coco, write_voc, write_yolo])
def test_boxes_from_the_folder_of_ones_own_data(write, tmp_path):
    write(tmp_path / "mine")
    build_dataset("folder", tmp_path / "pair", tmp_path / "mine", workers=1)
    pair = PairReader(tmp_path / "pair", "train")
    places = dict(zip(pair.keys, read_boxes(tmp_path / "mine", tmp_path / "none", pair, range(3)), strict=True))
    found = next(boxes for key, boxes in places.items() if key.endswith("b c"))
    width, height = SIZE
    assert {pair.classes[label]: boxes for label, boxes in found.items()} == {
        name: [pytest.approx((x / width, y / height, (x + w) / width, (y + h) / height))]
        for name, (x, y, w, h) in TRAIN["b c.jpg"].items()
    }
    write(
        tmp_path / "other", {"train": {"a.jpg": {"no": [1, 1, 2, 2]}}, "test": {"b.jpg": {"no": [1, 1, 2, 2]}}}, ("no",)
    )
    with pytest.raises(SrnError, match="other classes than"):
        read_boxes(tmp_path / "other", tmp_path, pair, range(3))


def test_own_data_are_read_as_the_pair_was(tmp_path):
    """Divided by chance, with names merged, one of several formats: by the same flags, and without them refused."""
    write_coco(tmp_path / "mine", {"all": TRAIN | {"d.jpg": {"Cat": [6, 8, 12, 16]}}}, ("cat", "Cat", "no"))
    write_voc(tmp_path / "mine", {"all": {"a.jpg": {"cat": [6, 8, 12, 16]}}})
    options = ReaderOptions(form="coco", test_fraction=0.5, merge_alike=True)
    build_dataset("folder", tmp_path / "pair", tmp_path / "mine", workers=1, options=options)
    pair = PairReader(tmp_path / "pair", "test")
    places = read_boxes(tmp_path / "mine", tmp_path, pair, range(2), options)
    assert [set(boxes) for boxes in places] == [set(np.flatnonzero(row == 1)) for row in pair.all_labels()]
    with pytest.raises(UsageError, match="several formats"):
        read_boxes(tmp_path / "mine", tmp_path, pair, range(2))
    with pytest.raises(UsageError, match="--annotations FOLDER"):
        read_boxes(tmp_path / "mine/all/_annotations.coco.json", tmp_path / "mine/all", pair, range(2), options)


def test_tables_have_no_boxes(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("file,labels\na.jpg,cat\n")
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((9, 9, 3), 99, np.uint8))
    build_dataset("folder", tmp_path / "pair", tmp_path, workers=1)
    assert read_boxes(tmp_path, tmp_path, PairReader(tmp_path / "pair", "test"), [0]) == [{}]


def test_kinds_of_labels():
    groups = label_groups(class_names("shapes"))
    assert [len(groups[kind]) for kind in ("objects", "relations", "faint things")] == [8, 6, 2]
    assert sorted(chain.from_iterable(groups.values())) == list(range(16))
    assert {class_names("shapes")[label] for label in groups["faint things"]} == {"dots", "wave"}
    assert label_groups(class_names("coco")) == {}
    found = Pointing(np.array([1, 4, 0]), np.array([2, 4, 0]), np.array([0.5, 0.25, 0]))
    assert found.of_labels([1, 2]).accuracy == 1 and found.of_labels([0]).mean_chance == 0.5
    assert np.isnan(found.of_labels([2]).accuracy)


@pytest.mark.parametrize("folded", [False, True])
def test_activation_maps_average_to_the_score(shapes_folder, shapes_model, folded):
    net = DeployNet(shapes_model, 3, folded=folded)
    pair = PairReader(shapes_folder, "test")
    maps = activation_maps_of(net, pair, [4, 2, 9, 0], batch_size=3)
    features = net.forward(whole_views(pair, [2], INPUT), [net.features])[net.features][0]
    weights = net.net.params["cls_fc"][0].data[5]
    assert maps[1, 5, 1, 6] == pytest.approx(float(features[:, 1, 6] @ weights), rel=1e-3)
    assert maps.shape == (4, 16, 7, 7)
    bias = net.net.params["cls_fc"][1].data
    scores = net.forward(whole_views(pair, [4, 2, 9], INPUT))["score_cls"]
    np.testing.assert_allclose(maps[:3].mean(axis=(2, 3)) + bias, scores, rtol=1e-3, atol=1e-4)
    assert maps.std(axis=(2, 3)).min() > 0
