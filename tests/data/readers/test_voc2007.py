"""The PASCAL VOC reader on hand-made files in the genuine format and on the full-size label lists."""

import csv

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.readers.voc2007 import read_voc2007
from pysrn.data.readers.voc_xml import LARGEST_XML
from pysrn.recipes import DATASETS, class_names

CLASSES = class_names("voc2007")
BOUNDS = "<bndbox><xmin>8</xmin><ymin>12</ymin><xmax>352</xmax><ymax>498</ymax></bndbox>"


def an_object(name, difficult="0", bounds=BOUNDS):
    mark = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"\t<object><name>{name}</name><pose>Left</pose><truncated>1</truncated>{mark}{bounds}</object>\n"


def an_annotation(*objects, name="000001"):
    return (
        f"<annotation>\n\t<folder>VOC2007</folder><filename>{name}.jpg</filename>\n"
        "\t<source><database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation></source>\n"
        "\t<owner><name>person</name></owner>\n"
        "\t<size><width>353</width><height>500</height><depth>3</depth></size><segmented>0</segmented>\n"
        f"{''.join(objects)}</annotation>\n"
    )


DOG = an_annotation(an_object("dog"))


@pytest.fixture
def write(tmp_path):
    def write(annotations, listed=None, split="trainval", devkit="VOCdevkit/VOC2007"):
        folder = tmp_path / devkit
        for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, text in annotations.items():
            (folder / "Annotations" / f"{name}.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
        listed = "".join(f"{name}\n" for name in annotations) if listed is None else listed
        (folder / f"ImageSets/Main/{split}.txt").write_bytes(listed if isinstance(listed, bytes) else listed.encode())
        return tmp_path

    return write


def test_labels_boxes_and_paths(write):
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    root = write(
        {
            "000007": an_annotation(
                an_object("cat", "1"), an_object("dog", "1"), an_object("dog"), an_object("dog", "1")
            ),
            "000005": an_annotation(an_object(" person ", None, BOUNDS.replace("8", "8.25", 1) + part)),
        }
    )
    found = read_voc2007(root, "train")
    assert [sample.key_name for sample in found.samples] == ["000007", "000005"]  # the order of the list
    assert found.samples[0].path == root / "VOCdevkit/VOC2007/JPEGImages/000007.jpg"
    assert found.samples[0].labels.dtype == np.int8
    cat, dog, person = map(CLASSES.index, ("cat", "dog", "person"))
    for sample, values in zip(found.samples, ({cat: 0, dog: 1}, {person: 1}), strict=True):
        np.testing.assert_array_equal(sample.labels, [values.get(label, -1) for label in range(20)])
    # 345 x 487 pixels: both corners are inside, and they count from 1
    assert [(b.label, b.box) for b in found.boxes["000007"]] == [(n, (7, 11, 345, 487)) for n in (cat, dog, dog, dog)]
    assert [b.box for b in found.boxes["000005"]] == [(7.25, 11, 344.75, 487)]
    assert found.classes == CLASSES and not found.left_out
    assert found.sources == (root / "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",)


@pytest.mark.parametrize("devkit", ["VOCdevkit/VOC2007", "VOC2007", "."])
def test_the_layouts_in_use_are_found(write, devkit):
    root = write({"000001": DOG}, split="test", devkit=devkit)
    assert read_voc2007(root, "test").samples[0].path == root / devkit / "JPEGImages/000001.jpg"
    with pytest.raises(MissingError, match="no file .*trainval.txt"):
        read_voc2007(root, "train")


@pytest.mark.parametrize("listed", ["1\r\n2\r\n", "\ufeff1\n\n 2 ", "1\n2"])
def test_line_ends_and_blanks_of_the_list_do_no_harm(write, listed):
    assert len(read_voc2007(write({"1": DOG, "2": DOG}, listed), "train").samples) == 2


def test_missing_parts_are_named(write, tmp_path):
    with pytest.raises(MissingError, match="no folder ImageSets in"):
        read_voc2007(tmp_path, "train")
    root = write({"1": DOG})
    for name in ("JPEGImages", "Annotations"):
        folder = root / "VOCdevkit/VOC2007" / name
        folder.rename(root / name)
        with pytest.raises(MissingError, match=f"no folder .*{name}"):
            read_voc2007(root, "train")
        (root / name).rename(folder)
    with pytest.raises(MissingError, match="trainval.txt: the file is empty"):
        read_voc2007(write({}, "\n\n"), "train")
    with pytest.raises(SrnError, match="trainval.txt: the file is UTF-16"):
        read_voc2007(write({}, b"\xff\xfe1\0"), "train")
    with pytest.raises(SrnError, match=r"trainval.txt: none .* can be used \(1\); first, .*9.jpg: 9.xml: no such file"):
        read_voc2007(write({}, "9\n"), "train")


BOMB = '<!DOCTYPE a [<!ENTITY x0 "dog">' + "".join(f'<!ENTITY x{n + 1} "{f"&x{n};" * 10}">' for n in range(9)) + "]>"


def bounds(**changed):
    values = {"xmin": "8", "ymin": "12", "xmax": "352", "ymax": "498"} | changed
    return f"<bndbox>{''.join(f'<{k}>{v}</{k}>' for k, v in values.items() if v is not None)}</bndbox>"


def boxed(**changed):
    return an_annotation(an_object("dog"), an_object("dog", bounds=bounds(**changed)))


BROKEN = {  # content, word of the reason
    "empty": ("", "not an XML file"),
    "cut off": (DOG[:-40], "not an XML file"),
    "cut off inside a tag": (DOG[: DOG.index("<object>") + 4], "not an XML file"),
    "more behind the end": (DOG + DOG, "not an XML file"),
    "an image": (b"\xff\xd8\xff\xe0" * 9, "not an XML file"),
    "NUL": (b"\0" * 100, "not an XML file"),
    "not UTF-8": (DOG.replace("Left", "L\xe8ft").encode("latin-1"), "not an XML file"),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?>' + DOG, "not an XML file"),
    "encoding that is none": ('<?xml version="1.0" encoding="utf-7"?>' + DOG, "not an XML file"),
    "undefined entity": (DOG.replace("dog", "&dog;"), "not an XML file"),
    "entity bomb": (BOMB + DOG.replace("dog", "&x9;"), "DOCTYPE"),
    "external entity": ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + DOG, "DOCTYPE"),
    "too large": (DOG + " " * LARGEST_XML, "too large"),
    "nested deeply": ("<a>" * 100_000 + "</a>" * 100_000, "its root is 'a'"),
    "HTML": ("<html><body>404</body></html>", "its root is 'html'"),
    "nothing in it": ("<annotation/>", "no object"),
    "no object": (an_annotation(), "no object"),
    "objects elsewhere": (an_annotation(f"<objects>{an_object('dog')}</objects>"), "an object in another element"),
    "unknown class": (an_annotation(an_object("dog"), an_object("unicorn")), "object 2: unknown class 'unicorn'"),
    "class in capitals": (an_annotation(an_object("Dog")), "unknown class 'Dog'"),
    "class of many lines": (an_annotation(an_object("a\nb" * 9999)), "unknown class"),
    "no class": (DOG.replace("<name>dog</name>", ""), "unknown class ''"),
    "empty class": (DOG.replace("<name>dog</name>", "<name/>"), "unknown class ''"),
    "difficult 2": (an_annotation(an_object("dog", "2")), "difficult is '2'"),
    "difficult empty": (an_annotation(an_object("dog", "")), "difficult is ''"),
    "no bndbox": (an_annotation(an_object("dog", bounds="")), "no valid bndbox"),
    "no xmax": (boxed(xmax=None), "object 2: no valid bndbox"),
    "text for a number": (boxed(xmin="left"), "no valid bndbox"),
    "empty number": (boxed(ymin=""), "no valid bndbox"),
    "NaN": (boxed(xmin="nan"), "no valid bndbox"),
    "infinite": (boxed(xmax="inf"), "no valid bndbox"),
    "larger than a float": (boxed(xmax="9" * 400), "no valid bndbox"),
    "corners swapped": (boxed(xmin="352", xmax="8"), "no valid bndbox"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_annotation_is_left_out_and_the_others_stay(write, case):
    content, word = BROKEN[case]
    found = read_voc2007(write({"1": DOG, "2": content, "3": DOG}), "train")
    assert [sample.key_name for sample in found.samples] == ["1", "3"] == list(found.boxes)
    [(file, reason)] = found.left_out
    assert file.endswith("/JPEGImages/2.jpg") and reason.startswith("2.xml: ") and word in reason
    assert "\n" not in reason and len(reason) < 200


def test_what_is_no_file_is_left_out(write):
    root = write({"1": DOG}, "1\n2\n3\n" + "x" * 300)
    annotations = root / "VOCdevkit/VOC2007/Annotations"
    (annotations / "2.xml").mkdir()
    (annotations / "3.xml").symlink_to("3.xml")
    found = read_voc2007(root, "train")
    assert [sample.key_name for sample in found.samples] == ["1"]
    assert [reason.partition(": ")[2] for _, reason in found.left_out] == ["no such file"] * 2 + ["File name too long"]


@pytest.mark.parametrize("line", ["1", "../1", "/1", "a/1", "1 1", "1\x00", ".", "", "1\u2028"])
def test_a_bad_line_of_the_list_is_left_out(write, line):
    found = read_voc2007(write({"1": DOG}, f"1\n{line}\n"), "train")
    assert [sample.key_name for sample in found.samples] == ["1"]
    assert len(found.left_out) == (line != "")
    assert all("\n" not in file and "trainval.txt" in reason for file, reason in found.left_out)


@pytest.mark.parametrize(
    ("split", "listed", "published"),
    [
        ("train", "trainval", DATASETS["voc2007"].train_images),
        ("test", "classification_test", DATASETS["voc2007"].test_images),
    ],
)
def test_the_full_size_labels_come_back(shared_data, write, split, listed, published, capsys):
    """Genuine XML made of the data set's own image labels: 1 is a plain object, 0 a difficult one only."""
    with (shared_data / "voc2007_labels" / f"{listed}.csv").open() as stream:
        header, *rows = csv.reader(stream)
    assert tuple(header[1:]) == CLASSES
    values = np.array([row[1:] for row in rows], int)
    annotations = {}
    for row, labels in zip(rows, values, strict=True):
        objects = [an_object(CLASSES[n], "1") for n in np.flatnonzero(labels >= 0)]  # difficult ones beside plain ones
        objects += [an_object(CLASSES[n]) for n in np.flatnonzero(labels == 1)]
        annotations[row[0]] = an_annotation(*objects, name=row[0])
    root = write(annotations, split="trainval" if split == "train" else "test")
    found = read_voc2007(root, split)
    assert len(found.samples) == len(rows) == published and not found.left_out
    assert [sample.key_name for sample in found.samples] == [row[0] for row in rows]
    np.testing.assert_array_equal([sample.labels for sample in found.samples], values)
    assert capsys.readouterr().out == ""


def test_boxes_are_those_of_real_images(shared_data, write):
    """Real VOC boxes, as pairs of corners, of images whose objects are all of the 20 classes."""
    folder = shared_data / "voc2012_85" / "ground-truth"
    annotations, corners = {}, {}
    for path in sorted(folder.glob("*.txt")):
        lines = [line.split() for line in path.read_text().splitlines()]
        lines = [line for line in lines if line[0] in CLASSES]
        if lines:
            corners[path.stem] = [[int(value) for value in line[1:]] for line in lines]
            places = [dict(zip(("xmin", "ymin", "xmax", "ymax"), line[1:], strict=True)) for line in lines]
            objects = [an_object(line[0], bounds=bounds(**place)) for line, place in zip(lines, places, strict=True)]
            annotations[path.stem] = an_annotation(*objects)
    found = read_voc2007(write(annotations), "train")
    assert len(found.samples) == len(corners) > 50
    for name, expected in corners.items():
        boxes = np.array([place.box for place in found.boxes[name]])
        np.testing.assert_array_equal(boxes[:, :2] + 1, np.array(expected)[:, :2])
        np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], np.array(expected)[:, 2:])
