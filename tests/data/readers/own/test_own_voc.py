"""PASCAL VOC's XML with classes of one's own: layouts, difficult objects, and what costs no label."""

import os

import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.readers.own.formats import read_own
from tests.data.readers.own.exported import EXPECTED, PARTS, TRAIN, shown, write_image, write_voc, xml

LAYOUTS = {  # XML file and image folder of each part
    "beside": ("{}", "{}"),
    "FiftyOne": ("{}/labels", "{}/data"),
    "own folders": ("{}/annotations", "{}/images"),
    "folders of parts": ("Annotations/{}", "JPEGImages/{}"),
    "one folder of images": ("Annotations/{}", "images"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    annotations, images = LAYOUTS[layout]
    for part, things in PARTS.items():
        for name, objects in things.items():
            write_image(tmp_path / images.format(part) / name)
            file = (tmp_path / annotations.format(part) / name).with_suffix(".xml")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(xml(name, objects))
    assert shown(read_own(tmp_path)) == EXPECTED


@pytest.mark.parametrize("top", [".", "VOC2012", "VOCdevkit/VOC2007"])
@pytest.mark.parametrize("lists", [{"train": "train", "test": "test"}, {"train": "trainval", "test": "val"}])
@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_as_voc_is_laid_out(top, lists, ending, tmp_path):
    folder = tmp_path / top
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for part, images in PARTS.items():
        stems = [name.removesuffix(".jpg") for name in images]
        (folder / "ImageSets" / "Main" / f"{lists[part]}.txt").write_text("".join(f"{s}{ending}\n" for s in stems))
        (folder / "ImageSets" / "Main" / f"cat_{lists[part]}.txt").write_text("a  1\n")
        for name, things in images.items():
            write_image(folder / "JPEGImages" / name)
            write_image(folder / "SegmentationClass" / name.replace(".jpg", ".png"))
            (folder / "Annotations" / name).with_suffix(".xml").write_text(xml("", things))
    write_image(folder / "JPEGImages" / "unlisted.jpg")
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED
    assert not found["train"].left_out and len(found["train"].sources) == 1


def test_only_difficult_objects_leave_a_label_unspecified(tmp_path, capsys):
    write_voc(tmp_path)
    hard, plain = "<difficult>1</difficult>", "<difficult>0</difficult>"
    (tmp_path / "train" / "a.xml").write_text(xml("a.jpg", {"cat": [1, 1, 3, 3], "no": [2, 2, 4, 4]}, hard))
    for name, order in (("b c", (hard, plain)), ("empty", (plain, hard))):
        both = "".join(xml("", {"cat": [1, 1, 3, 3]}, more) for more in order)
        (tmp_path / "train" / f"{name}.xml").write_text(both.replace("</annotation><annotation>", ""))
    found = read_own(tmp_path)
    assert shown(found)["train"] == {
        "a.jpg": {"cat": 0, "no": 0}, "b c.jpg": {"cat": 1}, "empty.jpg": {"cat": 1},
    }  # fmt: skip
    assert "2 labels are unspecified: all their objects are `difficult`" in capsys.readouterr().err
    assert len(found["train"].boxes["train_b c"]) == 2


BOXES = ["", "<bndbox/>", "<bndbox><xmin>1</xmin></bndbox>", "<polygon><x1>1</x1></polygon>",
         "<bndbox><xmin>9</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>",
         "<bndbox><xmin>nan</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"]  # fmt: skip


@pytest.mark.parametrize("box", BOXES)
def test_a_missing_or_odd_box_costs_no_label(box, tmp_path, capsys):
    write_voc(tmp_path)
    text = f"<annotation><object><name> cat\n</name>{box}</object></annotation>"
    (tmp_path / "train" / "a.xml").write_text(text)
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED and found["train"].boxes["train_a"] == []
    assert "1 objects have no valid box: their labels are kept" in capsys.readouterr().err


DAMAGED = {
    "cut off": ("<annotation><obj", "damaged annotation: not an XML file"),
    "another root": ("<a/>", "damaged annotation: its root is 'a'"),
    "an object without a name": ("<annotation><object/></annotation>", "damaged annotation: object 1: no class name"),
    "an object with two names": (
        "<annotation><object><name>cat</name><name>dog</name></object></annotation>",
        "damaged annotation: object 1: 2 class names",
    ),
    "an object of another spelling": (
        "<annotation><Object><name>cat</name></Object></annotation>",
        "damaged annotation: an object in another element, or not spelled 'object'",
    ),
    "an object in another element": (
        "<annotation><objects><object><name>cat</name></object></objects></annotation>",
        "damaged annotation: an object in another element, or not spelled 'object'",
    ),
    "difficult is a word": (xml("", {"cat": [1, 1, 2, 2]}, "<difficult>very</difficult>"), "difficult is 'very'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_left_out_with_its_image(case, tmp_path):
    write_voc(tmp_path)
    text, reason = DAMAGED[case]
    (tmp_path / "train" / "a.xml").write_text(text)
    found = read_own(tmp_path)
    ((file, why),) = found["train"].left_out
    assert file == str(tmp_path / "train" / "a.xml") and reason in why
    assert "a.jpg" not in shown(found)["train"] and shown(found)["test"] == EXPECTED["test"]


def test_names_of_files_that_are_not_utf_8(tmp_path):
    """As an archive of Windows leaves them: also of files that are no images."""
    write_voc(tmp_path)
    folder = os.fsencode(tmp_path / "train")
    for ending in (b".jpg", b".xml"):
        os.rename(folder + b"/a" + ending, folder + b"/\xe9" + ending)
    found = read_own(tmp_path)["train"]
    assert sorted(os.fsencode(sample.path.name) for sample in found.samples) == [b"b c.jpg", b"empty.jpg", b"\xe9.jpg"]
    assert not found.left_out


ENCODED = {
    "declared": ('<?xml version="1.0" encoding="ISO-8859-1"?>', "latin-1", "caf\u00e9"),
    "Windows": ("<?xml version='1.0' encoding='windows-1252'?>", "cp1252", "caf\u00e9"),
    "Chinese": ('<?xml version="1.0" encoding="GBK"?>', "gbk", "\u732b"),
    "Japanese": ('<?xml version="1.0" encoding="Shift_JIS" standalone="yes"?>', "shift_jis", "\u732b"),
    "UTF-16": ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16", "\u732b"),
    "a mark": ("", "utf-8-sig", "\u732b"),
}


@pytest.mark.parametrize("case", ENCODED)
def test_encodings(case, tmp_path):
    head, encoding, name = ENCODED[case]
    write_voc(tmp_path, PARTS | {"train": {"a.jpg": {name: [6, 8, 12, 16]}}})
    path = tmp_path / "train" / "a.xml"
    path.write_bytes((head + path.read_text("utf-8")).encode(encoding))
    assert shown(read_own(tmp_path))["train"] == {"a.jpg": {name: 1}}


def test_an_encoding_that_nothing_names_is_refused_with_its_cure(tmp_path):
    """Left out, the images of every class with such a letter would be gone."""
    write_voc(tmp_path)
    path = tmp_path / "train" / "a.xml"
    path.write_bytes(path.read_text().replace("cat", "caf\u00e9").encode("cp1252"))
    with pytest.raises(SrnError, match=f"^{path}: not an XML file") as caught:
        read_own(tmp_path)
    assert f"iconv -f CP1252 -t UTF-8 {path}" in caught.value.cure


def test_files_without_a_partner_are_left_out(tmp_path):
    write_voc(tmp_path)
    write_image(tmp_path / "train" / "new.jpg")
    (tmp_path / "train" / "gone.xml").write_text(xml("gone.jpg", {"cat": [1, 1, 2, 2]}))
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED
    assert found["train"].left_out == [
        (str(tmp_path / "train" / "gone.xml"), "no image: gone.jpg"),
        (str(tmp_path / "train" / "new.jpg"), "no XML file of this image"),
    ]


def test_the_image_is_found_by_the_name_in_the_file_and_among_several(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "train" / "a.jpg").rename(tmp_path / "train" / "Photo 1.JPG")
    text = (tmp_path / "train" / "a.xml").read_text()
    (tmp_path / "train" / "a.xml").write_text(text.replace("a.jpg", "C:\\photos\\Photo 1.JPG"))
    write_image(tmp_path / "train" / "b c.png")
    found = read_own(tmp_path)
    assert sorted(shown(found)["train"]) == ["Photo 1.JPG", "b c.jpg", "empty.jpg"]
    assert found["train"].left_out == [(str(tmp_path / "train" / "b c.png"), "no XML file of this image")]
    (tmp_path / "train" / "b c.xml").write_text(xml("", TRAIN["b c.jpg"]))
    assert any(why.startswith("several images: ") for _, why in read_own(tmp_path)["train"].left_out)


def test_names_of_images_do_not_make_parts(tmp_path):
    """`train/test_1.jpg` is a training image."""
    parts = {"train": {"test_1.jpg": {"cat": [1, 1, 2, 2]}}, "test": {"train_1.jpg": {"cat": [1, 1, 2, 2]}}}
    write_voc(tmp_path, parts)
    assert {part: list(images) for part, images in shown(read_own(tmp_path)).items()} == {
        "train": ["test_1.jpg"], "test": ["train_1.jpg"],
    }  # fmt: skip


def test_other_xml_files_are_no_data_set(tmp_path):
    (tmp_path / "project.xml").write_text("<project/>")
    (tmp_path / ".idea").mkdir()
    (tmp_path / ".idea" / "x.xml").write_text("<annotation/>")
    with pytest.raises(MissingError, match="train.csv and test.csv"):
        read_own(tmp_path)
