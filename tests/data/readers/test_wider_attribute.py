"""The WIDER-Attribute reader on hand-made files in the genuine format and on the full-size label lists."""

import gzip
import json

import cv2
import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.pair.pixels import sample_pixels
from pysrn.data.readers.wider_attribute import read_wider_attribute
from pysrn.recipes import DATASETS, class_names

# As the distributed files spell them.
NAMES = ["Male", "longHair", "sunglass", "Hat", "Tshirt", "longSleeve", "formal", "shorts", "jeans", "longPants"]
NAMES += ["skirt", "faceMask", "logo", "stripe"]
ATTRIBUTES = {str(number): name for number, name in enumerate(NAMES)}
SCENES = {"0": "Parade", "1": "Handshaking"}
VALUES = [1, -1, 0, 1, -1, 0, -1, -1, -1, 1, -1, 0, 1, -1]
PERSON = {"attribute": VALUES, "bbox": [10, 20, 30.5, 40]}
OTHER = {"attribute": [-value for value in VALUES], "bbox": [1, 2, 3, 4]}
IMAGES = [
    {"file_name": "train/0--Parade/0_Parade_1.jpg", "scene_id": 0, "targets": [PERSON, OTHER]},
    {"file_name": "val/1--Handshaking/1_Handshaking_2.jpg", "scene_id": 1, "targets": [OTHER]},
]


def content(images=IMAGES, attributes=ATTRIBUTES):
    return {"images": images, "attribute_id_map": attributes, "scene_id_map": SCENES}


@pytest.fixture
def write(tmp_path):
    def write(content, name="wider_attribute_trainval.json", folder="."):
        for part in ("train", "val", "test"):
            (tmp_path / "Image" / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder).mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / folder / name).write_text(text)
        return tmp_path

    return write


def test_a_person_is_a_sample_with_three_valued_labels(write):
    root = write(content())
    found = read_wider_attribute(root, "train")
    assert [sample.key_name for sample in found.samples] == [
        "train_0--Parade_0_Parade_1_01",
        "train_0--Parade_0_Parade_1_02",
        "val_1--Handshaking_1_Handshaking_2_01",
    ]
    assert found.samples[0].path == root / "Image/train/0--Parade/0_Parade_1.jpg"
    assert found.samples[0].box == (10, 20, 30.5, 40)
    assert found.samples[0].labels.dtype == np.int8
    np.testing.assert_array_equal([s.labels for s in found.samples], np.outer([1, -1, -1], VALUES))
    assert found.classes == class_names("wider_attribute")
    assert (found.left_out, found.sources) == ([], (root / "wider_attribute_trainval.json",))


@pytest.mark.parametrize("annotations", [".", "wider_attribute_annotation", "Anno"])
@pytest.mark.parametrize("images", ["Image", "wider_attribute_image", "wider_attribute_image/Image", "."])
def test_the_layouts_in_use_are_found(tmp_path, annotations, images):
    (tmp_path / annotations).mkdir(exist_ok=True)
    (tmp_path / annotations / "wider_attribute_test.json").write_text(json.dumps(content()))
    with pytest.raises(MissingError, match="image folder not found: no 'train', 'val' in .*Image"):
        read_wider_attribute(tmp_path, "test")
    (tmp_path / images / "train").mkdir(parents=True)
    found = read_wider_attribute(tmp_path, "test")
    assert found.samples[0].path == tmp_path / images / IMAGES[0]["file_name"]
    with pytest.raises(MissingError, match="no wider_attribute_trainval.json"):
        read_wider_attribute(tmp_path, "train")


def test_the_pixels_are_those_of_the_box_inside_the_image(write):
    image = np.random.RandomState(0).randint(0, 255, (60, 80, 3), np.uint8)
    persons = [{**PERSON, "bbox": box} for box in ([8, 4, 32, 32], [-16, -16, 32, 32], [64, 44, 99, 99])]
    root = write(content([{"file_name": "train/x.png", "targets": persons}]))
    cv2.imwrite(str(root / "Image/train/x.png"), image)
    found = read_wider_attribute(root, "train")
    for sample, part in zip(found.samples, (image[4:36, 8:40], image[:16, :16], image[44:, 64:]), strict=True):
        np.testing.assert_array_equal(sample_pixels(sample, 32), cv2.resize(part, (32, 32)))


def swapped(*pair):
    names = list(NAMES)
    names[pair[0]], names[pair[1]] = names[pair[1]], names[pair[0]]
    return {str(number): name for number, name in enumerate(names)}


REFUSED = {
    "no JSON": ('{"images"', "not a JSON file"),
    "nested deeply": ("[" * 99_999, "not a JSON file"),
    "a list": ([], "no JSON object"),
    "no images": (content(images=None), 'no list "images"'),
    "images are an object": (content(images={}), 'no list "images"'),
    "no attribute map": (content(attributes=None), "the order of the attributes is not known"),
    "attribute map is a list": (content(attributes=NAMES), "the order of the attributes is not known"),
    "attribute is a number": (content(attributes={**ATTRIBUTES, "3": 3}), "the order of the attributes is not known"),
    "attribute ids are words": (content(attributes={name: name for name in NAMES}), "its ids are not numbers"),
    "13 attributes": (content(attributes=dict(list(ATTRIBUTES.items())[:13])), "lists 13 attributes, not 14"),
    "other order": (content(attributes=swapped(1, 2)), "attribute 1 is 'sunglass', expected 'Long hair'"),
    "shorts for skirt": (content(attributes=swapped(7, 10)), "attribute 7 is 'skirt', expected 'Shorts'"),
    "no images listed": (content(images=[]), "empty"),
    "nothing usable": (content(images=[{"file_name": "train/x.jpg", "targets": []}]), "train/x.jpg: no person"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_damaged_files_are_refused_by_name(write, case):
    broken, words = REFUSED[case]
    root = write(broken)
    with pytest.raises(SrnError, match=words) as caught:
        read_wider_attribute(root, "train")
    assert str(root / "wider_attribute_trainval.json") in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("names", [class_names("wider_attribute"), [name.upper() for name in NAMES]])
@pytest.mark.parametrize("first", [0, 1])
def test_attribute_names_may_be_spelt_otherwise_and_stand_in_any_order(write, names, first):
    listed = {str(number): name for number, name in enumerate(names, first)}
    shuffled = dict(sorted(listed.items()))  # "10" before "2"
    assert len(read_wider_attribute(write(content(attributes=shuffled)), "train").samples) == 3


BAD_PERSONS = {
    "null": None,
    "a list": [1, 2, 3, 4],
    "no box": {"attribute": VALUES},
    "zero width": {**PERSON, "bbox": [1, 2, 0, 4]},
    "zero height": {**PERSON, "bbox": [1, 2, 3, 0.0]},
    "negative width": {**PERSON, "bbox": [1, 2, -3, 4]},
    "NaN": {**PERSON, "bbox": [1, float("nan"), 3, 4]},
    "infinite": {**PERSON, "bbox": [1, 2, float("inf"), 4]},
    "larger than a float": {**PERSON, "bbox": [10**400, 2, 3, 4]},
    "text": {**PERSON, "bbox": ["1", "2", "3", "4"]},
    "truth": {**PERSON, "bbox": [True, 2, 3, 4]},
    "three numbers": {**PERSON, "bbox": [1, 2, 3]},
    "no attributes": {"bbox": [1, 2, 3, 4]},
    "attributes are an object": {**PERSON, "attribute": ATTRIBUTES},
    "13 attributes": {**PERSON, "attribute": VALUES[:13]},
    "15 attributes": {**PERSON, "attribute": [*VALUES, 1]},
    "attribute 4": {**PERSON, "attribute": [4, *VALUES[1:]]},
    "attribute text": {**PERSON, "attribute": ["1", *VALUES[1:]]},
    "attribute truth": {**PERSON, "attribute": [True, *VALUES[1:]]},
    "attribute 0.5": {**PERSON, "attribute": [0.5, *VALUES[1:]]},
    "attribute null": {**PERSON, "attribute": [None, *VALUES[1:]]},
}


@pytest.mark.parametrize("case", BAD_PERSONS)
def test_a_damaged_person_is_left_out_and_the_others_stay(write, case):
    root = write(content([{**IMAGES[0], "targets": [PERSON, BAD_PERSONS[case], OTHER]}]))
    found = read_wider_attribute(root, "train")
    assert [sample.key_name[-2:] for sample in found.samples] == ["01", "03"]
    [(file, reason)] = found.left_out
    assert file == str(root / "Image" / IMAGES[0]["file_name"]) and reason.startswith("person 2: ")
    assert "\n" not in reason and len(reason) < 200


BAD_ROWS = {  # row, word of the reason
    "null": (None, "no file name"),
    "no file name": ({"targets": [PERSON]}, "no file name"),
    "file name is a number": ({**IMAGES[0], "file_name": 3}, "file_name 3 is no file name"),
    "absolute": ({**IMAGES[0], "file_name": "/x.jpg"}, "leads out of"),
    "upwards": ({**IMAGES[0], "file_name": "train/../../x.jpg"}, "leads out of"),
    "NUL": ({**IMAGES[0], "file_name": "train/\0.jpg"}, "NUL"),
    "no targets": ({"file_name": "train/y.jpg"}, 'no list "targets"'),
    "targets are an object": ({"file_name": "train/y.jpg", "targets": PERSON}, 'no list "targets"'),
    "no person": ({"file_name": "train/y.jpg", "targets": []}, "no person"),
    "listed again": ({**IMAGES[1], "file_name": "val//1--Handshaking/1_Handshaking_2.jpg"}, "listed again"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_damaged_image_is_left_out_and_the_others_stay(write, case):
    row, word = BAD_ROWS[case]
    found = read_wider_attribute(write(content([*IMAGES, row])), "train")
    assert len(found.samples) == 3
    [(_, reason)] = found.left_out
    assert word in reason


def test_key_names_are_unique_whatever_the_file_names(write):
    files = ["train/x.jpg", "train_x.jpg", "train/x.png", "train/x_01.jpg", "train/x.jpg"]
    rows = [{"file_name": name, "targets": [PERSON] * (number + 1)} for number, name in enumerate(files)]
    found = read_wider_attribute(write(content(rows)), "train")
    assert len({sample.key_name for sample in found.samples}) == len(found.samples) == 15
    assert not found.left_out


@pytest.mark.parametrize(("split", "lists"), [("train", ("train", "val")), ("test", ("test",))])
def test_the_full_size_labels_come_back(shared_data, write, split, lists):
    """Genuine JSON made of the label lists: persons are counted through, the numbers that are missing have no size."""
    rows, expected, persons = [], [], 0
    for part in lists:
        with gzip.open(shared_data / "wider_attribute_labels" / f"WIDER_{part}_list.txt.gz", "rt") as stream:
            lines = [line.split() for line in stream]
        listed = {int(name.rpartition("/")[2].removesuffix(".png")): flags.split(",")[:14] for name, flags in lines}
        persons += max(listed)
        of_list = {"0": -1, "1": 1, "4": 0}  # the lists merge 0 into -1 but in the test split
        targets = []
        for number in range(1, max(listed) + 1):
            values = [of_list[flag] for flag in listed.get(number, "0" * 14)]
            targets.append({"attribute": values, "bbox": [number, 7, 50, 100 if number in listed else 0]})
        expected += [[of_list[flag] for flag in listed[number]] for number in sorted(listed)]
        rows += [
            {"file_name": f"{part}/0--Parade/{start}.jpg", "scene_id": 0, "targets": targets[start : start + 4]}
            for start in range(0, len(targets), 4)
        ]
    published = {"train": DATASETS["wider_attribute"].train_images, "test": DATASETS["wider_attribute"].test_images}
    assert persons == {"train": 28_345, "test": 29_179}[split]  # 57,524 in all, as the data set's page says
    root = write(content(rows), "wider_attribute_trainval.json" if split == "train" else "wider_attribute_test.json")

    found = read_wider_attribute(root, split)
    assert len(found.samples) == published[split] == len({sample.key_name for sample in found.samples})
    assert len(found.left_out) == persons - published[split]
    assert all("no valid box: [" in reason for _, reason in found.left_out)
    labels = np.stack([sample.labels for sample in found.samples])
    np.testing.assert_array_equal(labels, expected)
    if split == "test":
        assert (labels == 0).any(0).all()
