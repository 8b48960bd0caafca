"""One's own data in the formats of annotation tools: found, told apart, divided, and read alike."""

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.own.formats import read_own
from pysrn.data.readers.registry import check_options
from tests.data.readers.own.exported import (
    CLASSES,
    EXPECTED,
    PARTS,
    SIZE,
    TEST,
    TRAIN,
    shown,
    write_coco,
    write_image,
    write_voc,
    write_yolo,
)  # fmt: skip
from tools.make_lmdb import main

WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}
BOX = [2, 2, 10, 10]
TITLES = {"coco": "COCO JSON", "voc": "PASCAL VOC XML", "yolo": "YOLO label files"}
every_format = pytest.mark.parametrize("form", WRITERS)


@every_format
def test_the_same_labels_and_boxes_from_every_format(form, tmp_path, capsys):
    WRITERS[form](tmp_path)
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED
    assert found["train"].classes == (tuple(sorted(CLASSES)) if form == "voc" else CLASSES)
    for split, images in PARTS.items():
        for sample in found[split].samples:
            boxes = found[split].boxes[sample.key_name]
            sides = np.tile(SIZE, 2)
            places = {found[split].classes[b.label]: np.array(b.box) * (sides if b.relative else 1) for b in boxes}
            assert set(places) == set(images[sample.path.name])
            for name, box in places.items():
                np.testing.assert_allclose(box, images[sample.path.name][name], atol=1e-6)
        assert not found[split].left_out
    said = capsys.readouterr().err
    assert f"{tmp_path}: {TITLES[form]}; 3 classes: " in said
    assert "1 classes have no training image: Traffic Light" in said


@every_format
def test_a_validation_part_is_the_test_split_where_there_is_no_other(form, tmp_path, capsys):
    WRITERS[form](tmp_path / "two", {"train": TRAIN, "valid": TEST})
    assert shown(read_own(tmp_path / "two")) == EXPECTED
    assert "there is no test part: its validation part is the test split" in capsys.readouterr().err
    WRITERS[form](tmp_path / "three", {**PARTS, "valid": TRAIN})
    assert shown(read_own(tmp_path / "three")) == EXPECTED
    assert "its validation part is not read" in capsys.readouterr().err


@every_format
def test_what_is_not_divided_is_divided_only_when_asked(form, tmp_path):
    images = {f"{number}.jpg": {"cat": [1, 1, 5, 5]} for number in range(20)}
    WRITERS[form](tmp_path, {"train": images})
    with pytest.raises(MissingError, match="train and test") as caught:
        read_own(tmp_path)
    assert "--test-fraction 0.2" in caught.value.cure
    first, second = (shown(read_own(tmp_path, ReaderOptions(test_fraction=0.2))) for _ in range(2))
    assert first == second and len(first["test"]) == 4 and first["train"] | first["test"] == shown_all(images)
    assert set(first["test"]) & set(first["train"]) == set()
    with pytest.raises(UsageError, match="leaves none"):
        read_own(tmp_path, ReaderOptions(test_fraction=0.01))
    WRITERS[form](tmp_path, {"test": TEST})
    with pytest.raises(UsageError, match="has the parts"):
        read_own(tmp_path, ReaderOptions(test_fraction=0.2))


def shown_all(images):
    return {name: dict.fromkeys(things, 1) for name, things in images.items()}


@every_format
def test_a_class_list_orders_the_classes_and_may_have_more(form, tmp_path):
    WRITERS[form](tmp_path)
    (tmp_path / "classes.txt").write_text("no\nbird\nTraffic Light\ncat\n")
    found = read_own(tmp_path, ReaderOptions(form=form))
    assert found["test"].classes == ("no", "bird", "Traffic Light", "cat") and shown(found) == EXPECTED
    (tmp_path / "classes.txt").write_text("cat\nno\n")
    with pytest.raises(SrnError, match="class list has not: Traffic Light; the first in .*t1.jpg"):
        read_own(tmp_path, ReaderOptions(form=form))


@every_format
def test_images_without_a_label_are_kept_or_dropped(form, tmp_path):
    WRITERS[form](tmp_path)
    found = read_own(tmp_path, ReaderOptions(drop_unlabelled=True))
    assert list(shown(found)["train"]) == ["a.jpg", "b c.jpg"]
    assert [(file.rpartition("/")[2], why) for file, why in found["train"].left_out] == [("empty.jpg", "no label")]


ALIKE = [("Cat", "cat"), ("traffic_light", "Traffic Light"), ("no ", "no"), ("caf\u00e9", "cafe\u0301")]


@pytest.mark.parametrize(
    ("form", "one", "other"),  # blanks at the ends of an XML element say nothing
    [(form, *pair) for form in WRITERS for pair in ALIKE if form != "voc" or pair[0] == pair[0].strip()],
    ids=ascii,
)
def test_names_that_look_alike_are_refused_or_merged(form, one, other, tmp_path, capsys):
    images = {
        "a.jpg": {one: BOX},
        "b.jpg": {other: BOX},
        "c.jpg": {other: BOX},
        "d.jpg": {"bird": BOX, one: BOX, other: BOX},
    }
    parts = {"train": images, "test": {"e.jpg": {other: BOX}}}
    WRITERS[form](tmp_path, parts, (one, other, "bird"))
    with pytest.raises(SrnError, match="class names that look alike: .*a.jpg.*b.jpg") as caught:
        read_own(tmp_path)
    assert "--merge-alike" in caught.value.cure
    found = read_own(tmp_path, ReaderOptions(merge_alike=True))
    assert sorted(found["train"].classes) == sorted([other, "bird"])
    assert shown(found)["train"] == {
        "a.jpg": {other: 1}, "b.jpg": {other: 1}, "c.jpg": {other: 1}, "d.jpg": {other: 1, "bird": 1},
    }  # fmt: skip
    assert "merged into class" in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text(f"bird\n{one.strip()}\n")
    if one.strip() == one:
        assert read_own(tmp_path, ReaderOptions(form=form, merge_alike=True))["test"].classes == ("bird", one)


@every_format
def test_names_in_different_parts_look_alike(form, tmp_path):
    WRITERS[form](tmp_path, {"train": {"a.jpg": {"Cat": BOX}}, "test": {"b.jpg": {"cat": BOX}}}, ("Cat", "cat"))
    with pytest.raises(SrnError, match="look alike: .*'Cat', .*'cat'"):
        read_own(tmp_path)


def test_several_formats_in_one_folder_are_refused(tmp_path):
    for write in WRITERS.values():
        write(tmp_path)
    with pytest.raises(UsageError, match="data of several formats: coco, voc, yolo") as caught:
        read_own(tmp_path)
    assert "--format coco" in caught.value.cure
    for form in WRITERS:
        assert {name for part in shown(read_own(tmp_path, ReaderOptions(form=form))).values() for name in part} >= {
            "a.jpg",
            "t2.jpg",
        }
    (tmp_path / "train.csv").write_text("file,labels\na.jpg,cat\n")
    with pytest.raises(UsageError, match="coco, voc, yolo, csv"):
        read_own(tmp_path)


def test_tables_are_read_as_before_and_named(tmp_path, capsys):
    for split, images in PARTS.items():
        for name in images:
            write_image(tmp_path / "images" / name)
        rows = "".join(f"{name},{';'.join(things)}\n" for name, things in images.items())
        (tmp_path / f"{split}.csv").write_text("file,labels\n" + rows)
    (tmp_path / "classes.txt").write_text("cat\nno\nTraffic Light\n")
    assert shown(read_own(tmp_path)) == shown(read_own(tmp_path, ReaderOptions(form="csv"))) == EXPECTED
    assert f"{tmp_path}: label tables" in capsys.readouterr().err
    with pytest.raises(UsageError, match="not for tables"):
        read_own(tmp_path, ReaderOptions(test_fraction=0.5))
    with pytest.raises(MissingError, match="no COCO JSON there"):
        read_own(tmp_path, ReaderOptions(form="coco"))


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_a_folder_with_nothing_says_what_is_needed(fraction, tmp_path, capsys):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "data.yaml").write_text("train: images\n")
    with pytest.raises(MissingError, match="train.csv and test.csv are needed") as caught:
        read_own(tmp_path, ReaderOptions(test_fraction=fraction))
    assert all(word in caught.value.cure for word in ("COCO", "VOC", "YOLO"))
    assert "data.yaml: no `names:` in it" in capsys.readouterr().err


def test_no_label_at_all_is_refused(tmp_path):
    write_coco(tmp_path, {part: {key: {} for key in images} for part, images in PARTS.items()})
    with pytest.raises(SrnError, match="no image has a label"):
        read_own(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        ("coco", {"form": "voc"}, "--format is for one's own data"),
        ("folder", {"form": "coco", "lists": "x"}, "--format is for one's own data"),
        ("shapes", {"coco_json": ("a", "b")}, "--coco-json is for"),
        ("folder", {"coco_json": ("a", "b"), "form": "voc"}, "--coco-json is not for --format voc"),
        ("coco", {"merge_alike": True}, "--merge-alike is for"),
        ("folder", {"test_fraction": 1.0}, "between 0 and 1"),
        ("voc2007", {"test_fraction": 0.5}, "--test-fraction is for"),
    ],
)
def test_options_that_do_not_fit(dataset, options, words):
    with pytest.raises(UsageError, match=words):
        check_options(dataset, ReaderOptions(**options))


@every_format
def test_the_tool_builds_from_each(form, tmp_path, capsys):
    WRITERS[form](tmp_path / "mine")
    words = ["folder", "--root", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]
    assert main(words) == 0 and main([*words, "--format", form]) == 0
    assert "train: 3 images" in capsys.readouterr().out
    assert main([*words, "--format", "csv"]) == 3
    assert main(["folder", "--out", str(tmp_path / "out"), "--verify"]) == 0


def test_the_tool_takes_named_json_files(tmp_path, capsys):
    write_coco(tmp_path / "mine")
    files = [str(tmp_path / "mine" / part / "_annotations.coco.json") for part in PARTS]
    for number, root in enumerate(([], ["--root", str(tmp_path / "mine")])):
        assert main(["folder", "--coco-json", *files, *root, "--out", str(tmp_path / f"out{number}")]) == 0
        assert "test: 2 images" in capsys.readouterr().out
    assert main(["folder", "--coco-json", files[0], "none.json", "--out", str(tmp_path / "out")]) == 3


@every_format
@pytest.mark.parametrize("made", ["cat|dog", "cat, dog", "Cat_dog"])
def test_names_made_of_others_are_told(form, made, tmp_path, capsys):
    """They can be meant, and no separator can be given: so nothing is refused."""
    images = {"1.jpg": {"cat": BOX}, "2.jpg": {"dog": BOX}, "3.jpg": {made: BOX}}
    WRITERS[form](tmp_path, {"train": images, "test": {"t.jpg": {"cat": BOX}}}, ("cat", "dog", made))
    assert shown(read_own(tmp_path))["train"] == shown_all(images)
    said = capsys.readouterr().err
    assert "warning: 1 class names are made of others by " in said and f"{made!r} (" in said
    (tmp_path / "classes.txt").write_text(f"cat\ndog\n{made}\n")  # who lists it means it
    read_own(tmp_path, ReaderOptions(form=form))
    assert "made of others" not in capsys.readouterr().err


@every_format
@pytest.mark.parametrize("which", ["a*", "*"])
def test_endings_in_capitals_lose_no_label(form, which, tmp_path):
    """As cameras and Windows write them; some or all of the files."""
    WRITERS[form](tmp_path)
    for path in sorted(tmp_path.rglob(which)):
        if path.suffix in (".json", ".xml", ".txt", ".yaml"):
            path.rename(path.with_suffix(path.suffix.upper()))
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED and not found["train"].left_out


def test_the_xml_files_of_a_list_may_end_in_capitals(tmp_path):
    write_voc(tmp_path)
    for part, images in PARTS.items():
        for name in images:
            for ending, folder, new in ((".jpg", "JPEGImages", ".jpg"), (".xml", "Annotations", ".XML")):
                (tmp_path / folder).mkdir(exist_ok=True)
                path = (tmp_path / part / name).with_suffix(ending)
                path.rename(tmp_path / folder / path.with_suffix(new).name)
        lists = tmp_path / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text("".join(f"{name[:-4]}\n" for name in images))
    assert shown(read_own(tmp_path)) == EXPECTED
