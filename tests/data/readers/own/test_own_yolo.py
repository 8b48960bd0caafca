"""YOLO label files: names and paths of `data.yaml`, rows, images without labels, and numbers that are no class."""

import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.own.formats import read_own
from tests.data.readers.own.exported import EXPECTED, PARTS, SIZE, TRAIN, shown, write_image, write_yolo, yolo

YAML = {
    "a list": "train: train/images\ntest: test/images\nnames: ['cat', 'Traffic Light', 'no']\n",
    "a block": "names:\n- cat\n- Traffic Light\n- no  # false to YAML\ntrain: train/images\ntest: test/images\n",
    "a mapping": "names:\n  0: cat\n  1: Traffic Light\n  2: no\ntrain: train/images\ntest: test/images\n",
    "quoted numbers": 'names: {"2": "no", "0": cat, "1": "Traffic Light"}\ntrain: train/images\ntest: test/images\n',
    "a byte order mark": "\ufefftrain: train/images\ntest: test/images\nnames: [cat, Traffic Light, no]\n",
    "from path": "path: .\ntrain: ./train/images/\ntest: test/images\nnames: [cat, Traffic Light, no]\n",
    "path of another machine": "path: /x\ntrain: train/images\ntest: test/images\nnames: [cat, Traffic Light, no]",
    "paths of another machine": "train: /content/x/train\ntest: /content/x/test\nnames: [cat, Traffic Light, no]\n",
    "paths in lists": "train: [train/images]\ntest:\n  - test/images\nnames: [cat, Traffic Light, no]\n",
    "no paths": "nc: 3\nnames: [cat, Traffic Light, no]\n",
    "whole parts": "train: train\ntest: test\nnames: [cat, Traffic Light, no]\n",
    "windows": "train: .\\train\\images\ntest: ..\\test\\images\nnames: [cat, Traffic Light, no]\n",
}


@pytest.mark.parametrize("case", YAML)
def test_names_and_paths(case, tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(YAML[case])
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED and found["train"].classes == ("cat", "Traffic Light", "no")
    assert not found["train"].left_out


def test_the_layout_of_parts_below_images_and_a_path_above(tmp_path):
    root = tmp_path / "coco8"
    for part, folder in (("train", "train2017"), ("test", "val2017")):
        for name, things in PARTS[part].items():
            write_image(root / "images" / folder / name)
            label = (root / "labels" / folder / name).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(yolo(things))
    (root / "coco8.yaml").write_text(
        "path: ../coco8\ntrain: images/train2017\nval: images/val2017\ntest:\nnames: [cat, Traffic Light, no]\n"
    )
    assert shown(read_own(root)) == EXPECTED


def test_an_export_is_read_from_itself_wherever_it_lies(tmp_path):
    """`../train/images` leads out of the folder of data.yaml, and there may be another data set."""
    write_yolo(tmp_path / "images", {"train": {"x.jpg": {}}, "test": {"y.jpg": {}}})
    write_yolo(tmp_path / "images" / "mine")
    assert shown(read_own(tmp_path / "images" / "mine")) == EXPECTED


def test_an_empty_test_folder_is_none(tmp_path, capsys):
    write_yolo(tmp_path, {"train": PARTS["train"], "valid": PARTS["test"]})
    (tmp_path / "test" / "images").mkdir(parents=True)
    assert shown(read_own(tmp_path)) == EXPECTED
    said = capsys.readouterr().err
    assert "data.yaml: test: ../test/images is not there" in said and "its validation part is the test split" in said


def test_lists_of_images(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "lists").mkdir()
    for part, images in PARTS.items():
        lines = "".join(f"./{part}/images/{name}\n" for name in images)
        (tmp_path / "lists" / f"{part}.txt").write_text(lines.replace("./train", "/home/me/x/train") + "\n")
    (tmp_path / "data.yaml").write_text(
        "train: lists/train.txt\ntest: lists/test.txt\nnames: [cat, Traffic Light, no]\n"
    )
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED
    assert [path.name for path in found["train"].sources] == ["data.yaml", "train.txt"]
    (tmp_path / "lists" / "test.txt").write_text("test/images/t1.jpg\ntest/images/t9.jpg\n")
    with pytest.raises(MissingError, match=r"lists/test.txt line 2: no image test/images/t9.jpg"):
        read_own(tmp_path)


def test_label_studio_has_a_class_list_in_place_of_a_yaml(tmp_path):
    for name, things in TRAIN.items():
        write_image(tmp_path / "images" / name)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / name).with_suffix(".txt").write_text(yolo(things))
    (tmp_path / "classes.txt").write_text("cat\nTraffic Light\nno\n")
    (tmp_path / "notes.json").write_text('{"categories": [], "info": {}}')
    found = read_own(tmp_path, ReaderOptions(test_fraction=0.34))
    assert shown(found)["train"] | shown(found)["test"] == EXPECTED["train"]


def test_labelimg_lays_the_labels_beside_the_images(tmp_path):
    for part, images in PARTS.items():
        for name, things in images.items():
            write_image(tmp_path / part / name)
            (tmp_path / part / name).with_suffix(".txt").write_text(yolo(things))
    (tmp_path / "classes.txt").write_text("cat\nTraffic Light\nno\n")
    assert shown(read_own(tmp_path)) == EXPECTED


ROWS = {  # nothing of it changes a label; the box is there or not
    "an outline": ("0 .1 .2 .3 .2 .3 .6", (0.1, 0.2, 0.2, 0.4)),
    "an oriented box": ("0 .1 .2 .3 .2 .3 .6 .1 .6", (0.1, 0.2, 0.2, 0.4)),
    "a confidence": ("0 .2 .4 .2 .4 .9", (0.1, 0.2, 0.2, 0.4)),
    "a class as a float": ("0.0 .2 .4 .2 .4", (0.1, 0.2, 0.2, 0.4)),
    "blanks and empty lines": ("\n  0\t.2  .4 .2 .4  \r\n\n", (0.1, 0.2, 0.2, 0.4)),
    "numbers as floats": ("0.000000e+00 2.0e-01 4e-1 .2 .4", (0.1, 0.2, 0.2, 0.4)),
    "no box": ("0", None),
    "half a box": ("0 .1 .2", None),
    "no size": ("0 .1 .2 0 0", None),
    "not finite": ("0 nan .1 .2 .3", None),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows(case, tmp_path, capsys):
    write_yolo(tmp_path)
    text, box = ROWS[case]
    (tmp_path / "train" / "labels" / "a.txt").write_text(text)
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED
    places = found["train"].boxes["train_images_a"]
    assert [(b.label, b.relative) for b in places] == ([(0, True)] if box else [])
    assert all(b.box == pytest.approx(box) for b in places)
    assert ("1 rows have no valid box" in capsys.readouterr().err) == (box is None)


@pytest.mark.parametrize("points", [".5 .5 2 .6 .6 1", ".5 .5 .6 .6", ".5 .5 2"])
def test_behind_the_box_of_a_pose_stand_points(points, tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "train" / "labels" / "a.txt").write_text(f"0 .2 .4 .2 .4 {points}")
    with (tmp_path / "data.yaml").open("a") as stream:
        stream.write("kpt_shape: [2, 3]\n")
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED
    (place,) = found["train"].boxes["train_images_a"]
    assert place.box == pytest.approx((0.1, 0.2, 0.2, 0.4))


@pytest.mark.parametrize("row", ["3 .1 .1 .1 .1", "-1 .1 .1 .1 .1", "0.5 .1 .1 .1 .1", "cat .1 .1 .1 .1", "0 .1 x .1",
                                 "inf .1 .1 .1 .1", "nan"])  # fmt: skip
def test_what_is_no_class_number_is_refused_with_its_line(row, tmp_path):
    write_yolo(tmp_path)
    path = tmp_path / "test" / "labels" / "t1.txt"
    path.write_text(f"0 .1 .1 .1 .1\n\n{row}\n")
    with pytest.raises(SrnError, match=f"{path} line 3: .*data.yaml has 3 names, 0 to 2"):
        read_own(tmp_path)


def test_images_without_a_label_file_have_no_label(tmp_path, capsys):
    write_yolo(tmp_path)
    (tmp_path / "train" / "labels" / "empty.txt").unlink()
    assert shown(read_own(tmp_path)) == EXPECTED
    assert "1 images have no label file, so no label" in capsys.readouterr().err
    (tmp_path / "train" / "labels" / "empty.txt").write_text("\n \n")
    (tmp_path / "train" / "labels" / "gone.txt").write_text("0 .1 .1 .1 .1\n")
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED
    stray = str(tmp_path / "train" / "labels" / "gone.txt")
    assert found["train"].left_out == [(stray, "a label file without an image")]
    for path in (tmp_path / "test" / "labels").iterdir():
        path.unlink()
    with pytest.raises(MissingError, match="test: none of 2 images has a label file; looked for .*test/labels/t1.txt"):
        read_own(tmp_path)


REFUSED = {
    "damaged": ("names: [cat", "not a YAML file"),
    "names are a word": ("names: cat\n", "no list of class names"),
    "names are empty": ("names: []\n", "no list of class names"),
    "a name is a list": ("names: [[cat], dog]\n", "0: .* is no class number and name"),
    "a name is empty": ("names: [cat, '']\n", "1: '' is no class number and name"),
    "a number is a word": ("names: {cat: 0}\n", "'cat': '0' is no class number and name"),
    "fewer names than nc": ("nc: 4\nnames: [cat, Traffic Light, no]\n", "it says '4' classes .* has 3 names"),
    "more names than nc": ("nc: 2\nnames: [cat, Traffic Light, no]\n", "it says '2' classes .* has 3 names"),
    "nc is a word": ("nc: three\nnames: [cat, Traffic Light, no]\n", "it says 'three' classes"),
    "a file that is not there": ("names: obj.names\n", "no list of class names"),
    "Latin-1": ("names: [cat, Traffic Light, caf\u00e9]\n".encode("cp1252"), "is not UTF-8"),
    "a number twice": ("names:\n  0: cat\n  0: dog\n", "a class number stands there twice"),
    "a number twice, once with a zero": ("names:\n  1: cat\n  01: dog\n", "a class number stands there twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_yaml_is_refused(case, tmp_path):
    write_yolo(tmp_path)
    content, words = REFUSED[case]
    (tmp_path / "data.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SrnError, match=f"{tmp_path / 'data.yaml'}.*{words}") as caught:
        read_own(tmp_path)
    assert case != "Latin-1" or "iconv -f CP1252" in caught.value.cure


def test_numbers_without_a_name_are_told_and_never_used(tmp_path, capsys):
    write_yolo(tmp_path)
    path = tmp_path / "data.yaml"
    path.write_text("nc: 4\nnames: {0: cat, 1: Traffic Light, 3: no}\ntrain: train/images\ntest: test/images\n")
    for part in PARTS:
        for label in (tmp_path / part / "labels").iterdir():
            label.write_text(
                "".join(f"3{row[1:]}" if row[0] == "2" else row for row in label.read_text().splitlines(True))
            )
    assert shown(read_own(tmp_path)) == EXPECTED
    assert f"{path}: names: no name for the numbers 2" in capsys.readouterr().err
    (tmp_path / "train" / "labels" / "a.txt").write_text("2 .1 .1 .1 .1\n")
    with pytest.raises(SrnError, match="a.txt line 1: '2' is no class number.*3 names, 0 to 3") as caught:
        read_own(tmp_path)
    assert str(path) in caught.value.cure


DARKNET = {  # files beside the images, and where the images are
    "CVAT": ({"obj.data": "classes = 3\ntrain = data/train.txt\ntest = data/test.txt\nnames = data/obj.names\n",
              "obj.names": None, "train.txt": "data/obj_train_data/", "test.txt": "data/obj_test_data/"},
             {"train": "obj_train_data", "test": "obj_test_data"}),
    "datumaro": ({"obj.data": "# a comment\nclasses=3\ntrain=data/train.txt\nvalid=data/valid.txt\n"
                  "names=data/obj.names\n", "obj.names": None,
                  "train.txt": "data/obj_train_data/", "valid.txt": "data/obj_valid_data/"},
                 {"train": "obj_train_data", "test": "obj_valid_data"}),
    "darknet": ({"cfg/my.data": "classes= 3\ntrain  = /home/me/d/train.txt\nvalid  = test.txt\nnames = my.names\n",
                 "my.names": None, "train.txt": "/home/me/d/img/", "test.txt": "img/"},
                {"train": "img", "test": "img"}),
    "names alone": ({"obj.names": None, "train.txt": "data/obj_train_data/", "test.txt": "data/obj_test_data/"},
                    {"train": "obj_train_data", "test": "obj_test_data"}),
    "names in data.yaml": ({"data.yaml": "names: obj.names\ntrain: train.txt\ntest: data/test.txt\n", "obj.names": None,
                            "train.txt": "data/a/", "test.txt": "data/b/"}, {"train": "a", "test": "b"}),
}  # fmt: skip


@pytest.mark.parametrize("case", DARKNET)
def test_exports_for_darknet(case, tmp_path):
    """CVAT calls it YOLO 1.1: the labels lie beside the images, and names start from a folder that is not there."""
    files, folders = DARKNET[case]
    for part, images in PARTS.items():
        for name, things in images.items():
            write_image(tmp_path / folders[part] / name)
            (tmp_path / folders[part] / name).with_suffix(".txt").write_text(yolo(things))
    for file, text in files.items():
        if file.endswith(".txt"):
            text = "".join(f"{text}{name}\n" for name in PARTS["train" if file == "train.txt" else "test"])
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("cat\nTraffic Light\nno\n" if text is None else text)
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED and found["train"].classes == ("cat", "Traffic Light", "no")
    assert len(found["train"].boxes) == 3 and not found["train"].left_out


def test_another_number_of_classes_than_names_in_darknets_file(tmp_path):
    write_image(tmp_path / "obj_train_data" / "a.jpg")
    (tmp_path / "obj_train_data" / "a.txt").write_text("1 .5 .5 .1 .1\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.jpg\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text("classes = 3\ntrain = data/train.txt\nnames = data/obj.names\n")
    with pytest.raises(SrnError, match="obj.data: it says '3' classes .* has 2 names"):
        read_own(tmp_path)
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    with pytest.raises(MissingError, match="only the part train") as caught:  # CVAT's, of one task
        read_own(tmp_path)
    assert "--test-fraction" in caught.value.cure


def test_one_name_for_two_numbers_is_one_class(tmp_path, capsys):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [cat, Traffic Light, cat]\ntrain: train/images\ntest: test/images\n")
    found = read_own(tmp_path)
    assert found["train"].classes == ("cat", "Traffic Light") and shown(found)["test"]["t2.jpg"] == {"cat": 1}
    assert "cat stands there twice: it is one class" in capsys.readouterr().err


def test_two_yaml_files_are_refused_and_others_do_no_harm(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "train_settings.yml").write_text("lr: 0.1\n")
    assert shown(read_own(tmp_path)) == EXPECTED
    (tmp_path / "old.yaml").write_text("names: [a]\n")
    with pytest.raises(UsageError, match="several YAML files with names: data.yaml, old.yaml"):
        read_own(tmp_path)


def test_boxes_are_fractions(tmp_path):
    write_yolo(tmp_path)
    (place,) = read_own(tmp_path)["train"].boxes["train_images_a"]
    x, y, width, height = TRAIN["a.jpg"]["cat"]
    assert place.box == pytest.approx((x / SIZE[0], y / SIZE[1], width / SIZE[0], height / SIZE[1]))
