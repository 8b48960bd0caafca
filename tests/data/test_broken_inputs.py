"""Broken images and annotations, in every format: skipped with the reason or refused in one line, no good record lost.

`broken_images.py` makes the images, `small_sets.py` the data sets around them; the tables here spoil annotations.
"""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from broken_images import COLOUR, PAGE, WHOLE, broken_files, good_files
from small_sets import FORMATS, IMAGE_FOLDERS, SPLITS, dataset_of, labels_of, options_of, write_set

from pysrn.console import SrnError
from pysrn.data.build import build_dataset
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.readers.label_text import LARGEST_TEXT

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 600  # assumed: three times what the tool takes for a data set without faults


def build(form, root, out):
    return build_dataset(dataset_of(form), out, root, options=options_of(form, root), workers=1)


def stored(out):
    """{name: labels} of all records, whose pictures must be whole; a WIDER key carries its folder and person."""
    found = {}
    for split in SPLITS:
        reader = PairReader(out, split)
        for index, key in enumerate(reader.keys):
            name = re.sub(r"^\d{8}_(?:train_|test_|actor_)?|_01$", "", key)
            assert name not in found
            found[name] = reader.labels(index).tolist()
            assert np.abs(reader.image(index).mean((0, 1))[::-1] - COLOUR).max() < 16, name
    return found


def skipped(out):
    with (out / "skipped.csv").open(newline="", encoding="utf-8") as stream:
        return [tuple(row) for row in csv.reader(stream)][1:]


def of_all_images(form):
    """Every broken and every unusual file, in turn in both splits: the set, its good labels, its broken names."""
    images, good, broken = {split: {} for split in SPLITS}, {}, {}
    kinds = [(content, True) for content in good_files().values()]
    kinds += [(content, False) for content in broken_files().values()]
    for number, (content, whole) in enumerate(kinds):
        split, name = SPLITS[number % 2], f"n{number}"
        images[split][name] = (number, content)
        if whole:
            good[name] = labels_of(form, number).tolist()
        else:
            broken[name] = split
    return images, good, broken


def check_images(form, root, out, good, broken):
    assert stored(out) == good
    rows = skipped(out)
    assert {Path(file).stem: split for split, file, _ in rows} == broken and len(rows) == len(broken)
    assert all(Path(file).parent.resolve() == root / IMAGE_FOLDERS[form][split] for split, file, _ in rows)
    assert all(reason and reason.isprintable() and len(reason) < 200 for *_, reason in rows)


@pytest.mark.parametrize("form", FORMATS)
def test_broken_images_are_listed_and_good_ones_kept(form, tmp_path):
    images, good, broken = of_all_images(form)
    write_set(form, tmp_path, images)
    assert build(form, tmp_path, tmp_path / "out") == {
        split: sum(name in good for name in images[split]) for split in SPLITS
    }
    check_images(form, tmp_path, tmp_path / "out", good, broken)


def test_what_root_may_read_anyway(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads files without permission")
    images = {"train": {"n0": (0, WHOLE["png"]), "n1": (1, WHOLE["png"])}, "test": {"n2": (2, WHOLE["png"])}}
    write_set("coco", tmp_path, images)
    (tmp_path / "train2014/n1.jpg").chmod(0)
    assert build("coco", tmp_path, tmp_path / "out") == {"train": 1, "test": 1}
    assert skipped(tmp_path / "out")[0][2] == "Permission denied"
    (tmp_path / "annotations/instances_train2014.json").chmod(0)
    with pytest.raises(PermissionError, match="instances_train2014.json"):  # run_main prints it as one line
        build("coco", tmp_path, tmp_path / "other")


# Damage of annotations: (format, name, what does it, outcome). The outcome is a pattern of the one line with which it
# is refused, or the names of the images that are left out; n0 to n3 are for training, n4 and n5 for testing.

COCO, VOC, WIDER, LISTS = (
    "annotations/instances_train2014.json",
    "VOC2007/ImageSets/Main/trainval.txt",
    "wider_attribute_trainval.json",
    "lists/wider_att_train",
)
N1_XML = "VOC2007/Annotations/n1.xml"
NUS_NAMES, NUS_SKY, NUS_CONCEPTS = (
    "ImageList/TrainImagelist.txt",
    "TrainTestLabels/Labels_sky_Train.txt",
    "ConceptsList/Concepts81.txt",
)
# The annotation files of a format, each with what a refusal calls it.
ANNOTATIONS = {
    "coco": {COCO: "instances_train", "annotations/instances_val2014.json": "instances_val"},
    "voc2007": {VOC: "trainval.txt", N1_XML: {"n1"}},
    "wider_attribute": {WIDER: "wider_attribute_trainval.json"},
    "nus_wide": {NUS_NAMES: "TrainImagelist.txt", NUS_SKY: "Labels_sky_Train.txt", NUS_CONCEPTS: "Concepts81.txt"},
    "lists": {f"{LISTS}_imglist.txt": "train.*_imglist.txt", f"{LISTS}_label.txt": "wider_att_train_label.txt"},
    "folder": {"train.csv": "train.csv|test.csv: only one table", "test.csv": "test.csv|train.csv: only one table"},
}


def becomes(file, content):
    def act(root):
        path = root / file
        before = path.read_bytes()
        path.unlink()
        if callable(content):
            after = content(before)
            if isinstance(after, bytes):
                path.write_bytes(after)
        else:
            path.write_bytes(content)

    return act


def instead(file, make):
    def act(root):
        (root / file).unlink()
        make(root / file)

    return act


def replaced(file, old, new):
    """The first `old` in a text file becomes `new`, which may hold any bytes."""
    old, new = (text.encode() if isinstance(text, str) else text for text in (old, new))

    def change(content):
        assert old in content
        return content.replace(old, new, 1)

    return becomes(file, change)


def edited(file, *path, **fields):
    """Fields of an object in a JSON file get other values; `...` removes one, `path` leads to the object."""

    def change(content):
        whole = json.loads(content)
        part = whole
        for step in path:
            part = part[step]
        for name, value in fields.items():
            if value is ...:
                del part[name]
            else:
                part[name] = value
        return json.dumps(whole).encode()

    return becomes(file, change)


def added(file, part, row):
    def change(content):
        whole = json.loads(content)
        whole[part].append(row)
        return json.dumps(whole).encode()

    return becomes(file, change)


def of_whole_files():
    """What can befall any file, for each annotation file."""
    ways = {
        "missing": lambda path: None,
        "a folder": os.mkdir,
        "a pipe": os.mkfifo,
        "a link to itself": lambda path: path.symlink_to(path),
        "a terabyte": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    }
    contents = {
        "empty": b"",
        "blank": b" \n\n\n",
        "cut off": lambda content: content[: len(content) // 2 + 1],
        "a page of HTML": PAGE,
        "UTF-16": lambda content: content.decode().encode("utf-16"),
        "a JPEG": WHOLE["jpeg"],
        "zeros": lambda content: bytes(len(content)),
    }
    for form, files in ANNOTATIONS.items():
        for file, outcome in files.items():
            for name, make in ways.items():
                # Copies of NUS-WIDE may lack the list of concepts.
                there = name == "a terabyte" or file != NUS_CONCEPTS
                yield form, f"{file} is {name}", instead(file, make), outcome if there else set()
            for name, content in contents.items():
                if (file, name) not in ((N1_XML, "UTF-16"), (VOC, "cut off")):  # good XML; a shorter list
                    yield form, f"{file} is {name}", becomes(file, content), outcome


def of_coco():
    for part in ("images", "annotations", "categories"):
        for name, value in (("without", ...), ("null", None), ("an object", {}), ("a text", "x")):
            yield f"{name} {part}", edited(COCO, **{part: value}), rf'train2014.json: no list "{part}"'
    yield "no images", edited(COCO, images=[]), '"annotations" row 0 names image'
    yield "no categories", edited(COCO, categories=[]), "lists no categories"
    yield "a list", becomes(COCO, b"[1, 2]"), "no JSON object"
    yield "nested too deeply", becomes(COCO, b"[" * 100000), "not a JSON file"
    yield "a number of many digits", edited(COCO, "images", 1, id=10**4000), '"annotations" row 2 names image'
    yield "Latin-1", replaced(COCO, "n1.jpg", b"\xe9.jpg"), "not a JSON file: 'utf-8'"
    image, annotation, category = ("images", 1), ("annotations", 2), ("categories", 0)
    for value in (..., None, "101", 1.5, True, [101]):
        yield f"image id {value}", edited(COCO, *image, id=value), '"annotations" row 2 names image 101'
        yield (
            f"image_id {value}",
            edited(COCO, *annotation, image_id=value),
            '"annotations" row 2 has no valid "image_id"',
        )
        yield f"category id {value}", edited(COCO, *category, id=value), '"categories" row 0 has no valid "id"'
        yield f"category_id {value}", edited(COCO, *annotation, category_id=value), {"n1"}
        if value != "101":
            yield f"bbox {value}", edited(COCO, *annotation, bbox=value), {"n1"}
            yield f"file_name {value}", edited(COCO, *image, file_name=value), {"n1"}
            yield f"category {value}", edited(COCO, *category, name=value), '"categories" row 0 has no valid "name"'
    yield "an image id twice", edited(COCO, *image, id=100), '"images" row 1: the image id 100 is used twice'
    yield "a category id twice", edited(COCO, *category, id=2), "used twice"
    yield "a category twice", edited(COCO, *category, name="bicycle"), "used twice"
    yield "another category", edited(COCO, *category, name="tree"), "differing: person, tree"
    yield "a category too many", added(COCO, "categories", {"id": 99, "name": "tree"}), "differing: tree"
    yield "a category out of range", edited(COCO, *annotation, category_id=81), {"n1"}
    yield (
        "an image out of range",
        edited(COCO, *annotation, image_id=7),
        '"annotations" row 2 names image 7: not listed',
    )
    for box in ([1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, -4], [1, 2, 3, float("nan")], [1, 2, 3, 10**400]):
        yield f"bbox {str(box)[:30]}", edited(COCO, *annotation, bbox=box), {"n1"}
    for name in ("", "..", "../train2014/n1.jpg", "/etc/passwd", "n\0.jpg", "\ud800.jpg", "n" * 5000, "no.jpg", "."):
        yield f"file_name {name[:30]!r}", edited(COCO, *image, file_name=name), {"n1"}
    yield "a name twice", edited(COCO, *image, file_name="n0.jpg"), {"n0", "n1"}
    yield "a row that is no object", added(COCO, "annotations", [1]), '"annotations" row 8 has no valid "image_id"'
    yield "an image that is no object", added(COCO, "images", "n9.jpg"), set()


def of_voc2007():
    for name in ("nowhere", "../n1", "n 1", "n1.jpg", "\x1b[31m"):
        yield f"lists {name!r}", replaced(VOC, "n1", name), {"n1"}
    yield "lists one twice", replaced(VOC, "n1", "n0"), {"n1"}
    yield "cut off in a name", replaced(VOC, "n3\n", "n"), {"n3"}
    yield "a name not in UTF-8", replaced(VOC, "n1", b"\xe9"), {"n1"}
    for name, old, new in (
        ("a class that is not known", ">bicycle<", ">cycle<"),
        ("no class", "<name>bicycle</name>", ""),
        ("difficult out of range", "<difficult>0<", "<difficult>2<"),
        ("difficult without a value", "<difficult>0<", "<difficult><"),
        ("no box", "bndbox>", "box>"),
        ("half a box", "<xmax>9</xmax>", ""),
        ("a corner that is a word", "<xmax>9<", "<xmax>nine<"),
        ("a corner that is no number", "<xmax>9<", "<xmax>nan<"),
        ("an endless corner", "<xmax>9<", "<xmax>inf<"),
        ("corners the wrong way round", "<xmax>9<", "<xmax>-9<"),
        ("two roots", "<annotation>", "<annotation/><annotation>"),
        ("an encoding that is not known", "<annotation>", '<?xml version="1.0" encoding="klingon"?><annotation>'),
        ("a byte that is not UTF-8", "<annotation>", b"<annotation>\xe9"),
        ("an entity that is not known", "<annotation>", "<annotation>&nbsp;"),
        ("a document type", "<annotation>", '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>'),
        ("far too much", "<annotation>", "<annotation>" + " " * (1 << 20)),
    ):
        yield name, replaced(N1_XML, old, new), {"n1"}
    yield "UTF-16", becomes(N1_XML, lambda content: content.decode().encode("utf-16")), set()  # XML says what it is


def of_wider_attribute():
    place = '"attribute_id_map"'
    yield "without images", edited(WIDER, images=...), 'trainval.json: no list "images"'
    yield "images of no row", edited(WIDER, images=[]), "lists no images"
    for name, value in (("without", ...), ("null", None), ("a list", ATTRIBUTE_LIST)):
        yield f"{name} attributes", edited(WIDER, attribute_id_map=value), f"{place} is not there or not a map"
    yield "an attribute too few", edited(WIDER, "attribute_id_map", **{"13": ...}), f"{place} lists 13 attributes"
    yield "an attribute id", edited(WIDER, "attribute_id_map", **{"13": ..., "x": "stripe"}), "ids are not numbers"
    yield "another order", edited(WIDER, "attribute_id_map", **{"0": "Hat", "3": "Male"}), "attribute 0 is 'Hat'"
    image, person = ("images", 1), ("images", 1, "targets", 0)
    for value in (..., None, {}, [], [7], "x", [[]]):
        yield f"targets {value}", edited(WIDER, *image, targets=value), {"n1"}
    for name in (
        ...,
        None,
        5,
        "",
        "../train/n1.jpg",
        "/etc/passwd",
        "train/\0.jpg",
        "train/\ud800.jpg",
        "train/no.jpg",
    ):
        yield f"file_name {name!r}", edited(WIDER, *image, file_name=name), {"n1"}
    for box in (..., None, [1, 2, 3], [1, 2, 0, 4], [1, 2, 3, -4], [500, 500, 9, 9], [1, 2, 3, float("inf")], "x"):
        yield f"bbox {box}", edited(WIDER, *person, bbox=box), {"n1"}
    for value in (2, "1", True, None, 0.5, float("nan"), -(10**30)):
        yield f"attribute {value}", edited(WIDER, *person, attribute=[value] + [1] * 13), {"n1"}
    for value in (..., None, [1] * 13, [1] * 15, "x"):
        yield f"attributes {value}", edited(WIDER, *person, attribute=value), {"n1"}
    yield "a row that is no object", added(WIDER, "images", 5), set()


ATTRIBUTE_LIST = ["Male"] * 14


def of_nus_wide():
    for name in (b"", b"..\\n1.jpg", b"\xe9.jpg", b"\x07.jpg", b"actor\\no.jpg", b"n" * 3000):
        yield f"lists {name[:20]}", replaced(NUS_NAMES, b"actor\\n1.jpg", name), {"n1"}
    yield "lists one twice", replaced(NUS_NAMES, "n1", "n0"), {"n0", "n1"}
    yield "a name too many", replaced(NUS_NAMES, "actor", "actor\\n9.jpg\nactor"), r"_Train.txt has 4 lines and .*has 5"
    yield (
        "a label out of range",
        becomes(NUS_SKY, b"0\n2\n0\n0\n"),
        "Labels_sky_Train.txt line 2: label 2 .*out of range",
    )
    yield "a label that is a word", becomes(NUS_SKY, b"0\nyes\n0\n0\n"), "Labels_sky_Train.txt line 2: 'yes'"
    yield "a label that is no number", becomes(NUS_SKY, b"0\nnan\n0\n0\n"), "Labels_sky_Train.txt line 2: label nan"
    yield "a label that is not there", becomes(NUS_SKY, b"0\n\n0\n0\n"), "Labels_sky_Train.txt line 2"
    yield "two labels in a line", becomes(NUS_SKY, b"0\n1 0\n0\n0\n"), "Labels_sky_Train.txt line 2: 2 labels"
    yield "a line too few", becomes(NUS_SKY, b"0\n0\n0\n"), "Labels_sky_Train.txt has 3 lines"
    yield "another concept", replaced(NUS_CONCEPTS, "sky", "heaven"), "Concepts81.txt: .*differing: heaven, sky"
    yield "a concept twice", replaced(NUS_CONCEPTS, "sky", "sun"), "Concepts81.txt: a class stands there twice"


def of_lists():
    names, labels = f"{LISTS}_imglist.txt", f"{LISTS}_label.txt"
    bare = becomes(names, b"n0.jpg\nn1.jpg\nn2.jpg\nn3.jpg\n")
    row = " ".join(map(str, labels_of("lists", 1)))

    def both(*acts):
        return lambda root: [act(root) for act in acts]

    bomb = instead(labels, lambda path: Path(f"{path}.gz").write_bytes(gzip.compress(bytes(LARGEST_TEXT + 1), 1)))
    packed = instead(names, lambda path: Path(f"{path}.gz").write_bytes(gzip.compress(b"n0.jpg\n")))
    yield "an archive that grows", both(bomb, packed), "label.txt.gz: more than 128 MiB"
    for name in (b"", b"../n1.jpg", b"\xe9.jpg", b"\x07.jpg", b"no.jpg", b"n" * 3000):
        yield f"lists {name[:20]}", both(bare, replaced(names, b"n1.jpg", name)), {"n1"}
    yield "lists one twice", both(bare, replaced(names, "n1", "n0")), {"n0", "n1"}
    yield (
        "a sum that is not its labels'",
        replaced(names, "n1.jpg -", "n1.jpg "),
        "imglist.txt line 2: the number behind",
    )
    yield "a name too few", both(bare, replaced(names, "n1.jpg\n", "")), "imglist.txt has 3 lines and .*label.txt has 4"
    for value in ("2", "-2", "nan", "yes", "0.5", "1e9", "1,", ""):
        new = f"{value} {row.split(' ', 1)[1]}" if value else row.split(" ", 1)[1]
        yield f"a label {value!r}", both(bare, replaced(labels, row, new)), "label.txt line 2"
    yield "15 labels", both(bare, becomes(labels, b"1 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" * 4)), "line 1: 15 labels"
    yield (
        "other classes",
        lambda root: (root / "lists/classes.txt").write_text("Male\nFemale\n"),
        "classes.txt: not the 14",
    )


def of_folder():
    table, row = "train.csv", "n1.jpg,"
    for name in (b"", b"../n1.jpg", b"\xe9.jpg", b"\x07.jpg", b"no.jpg", b"n" * 3000):
        yield f"lists {name[:20]}", replaced(table, b"n1.jpg", name), {"n1"}
    yield (
        "lists one twice",
        replaced(table, "n2", "n0"),
        "train.csv line 2 and line 4: the same image, n0.jpg, has 'cat'",
    )
    for name, head in (
        ("no header", ""),
        ("only a file column", "file\n"),
        ("a class twice", "file,cat,dog,bird,fish,cat\n"),
        ("a class without a name", "file,cat,dog,,fish,cow\n"),
        ("a header that names no file", "picture,cat,dog,bird,fish,cow\n"),
    ):
        yield name, replaced(table, "file,cat,dog,bird,fish,cow\n", head), "train.csv line 1"
    for value in ("2", "yes", "-", "nan", "1e400"):
        yield (
            f"a label {value!r}",
            replaced(table, row + "0", row + value),
            f"train.csv line 3: '{value}' in column 'cat'",
        )
    yield "a cell too few", replaced(table, row + "0,", row), "train.csv line 3: 5 columns"
    yield "a cell too many", replaced(table, row, row + "1,"), "train.csv line 3: 7 columns"
    yield "a quote without an end", replaced(table, "n1", '"n1'), "train.csv line"
    for cell in ("cat,dog", "[1]", "['cat'", "cat|dog, cow"):
        labels = becomes(table, f'file,labels\nn0.jpg,cat\nn1.jpg,"{cell}"\n'.encode())
        yield f"label names {cell}", labels, "train.csv line 3: .* is no list of label names"
    yield "a huge cell", replaced(table, row, row + "1" * 200000), "train.csv line 3"
    yield "a split that is not known", replaced(table, "file,cat", "file,split"), "train.csv line 2: split"
    yield "other classes in test", replaced("test.csv", "dog", "wolf"), "test.csv: .*differing: dog, wolf"
    yield "classes.txt with other names", lambda root: (root / "classes.txt").write_text("cat\ndog\n"), "train.csv"
    yield "classes.txt with one twice", lambda root: (root / "classes.txt").write_text("cat\ncat\n"), "classes.txt"


CASES = [
    *of_whole_files(),
    *(
        (form, *case)
        for form, cases in (
            ("coco", of_coco()),
            ("voc2007", of_voc2007()),
            ("wider_attribute", of_wider_attribute()),
            ("nus_wide", of_nus_wide()),
            ("lists", of_lists()),
            ("folder", of_folder()),
        )
        for case in cases
    ),
]


def small_set(form, root):
    images = {f"n{number}": (number, WHOLE["jpeg"]) for number in range(6)}
    write_set(form, root, {"train": dict(list(images.items())[:4]), "test": dict(list(images.items())[4:])})


@pytest.mark.parametrize(
    ("form", "act", "outcome"), [(form, *rest) for form, _, *rest in CASES], ids=[f"{c[0]}: {c[1]}" for c in CASES]
)
def test_broken_annotations(form, act, outcome, tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    small_set(form, root)
    act(root)
    if isinstance(outcome, str):
        with pytest.raises(SrnError, match=outcome) as raised:
            build(form, root, out)
        line = str(raised.value)
        assert line.isprintable() and len(line) < 700 and not out.exists(), line
        return
    build(form, root, out)
    assert stored(out) == {f"n{n}": labels_of(form, n).tolist() for n in range(6) if f"n{n}" not in outcome}
    reasons = [reason for *_, reason in skipped(out)]
    assert all(reasons) and len(reasons) >= len(outcome)


def test_there_are_many_cases_and_no_two_alike():
    assert len(CASES) + len(broken_files()) > 400
    assert not [case for case, number in Counter((form, name) for form, name, *_ in CASES).items() if number > 1]


# Runs the tool in a child, whose largest resident set it prints last: this process would count its own parent's.
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(done.returncode)
"""


def run_tool(form, root, out):
    command = [sys.executable, ROOT / "tools" / "make_lmdb.py", dataset_of(form), "--root", root, "--out", out]
    command += ["--lists", root / "lists"] if form == "lists" else []
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURED, *map(str, command)],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2, 3), done.stderr
    assert int(done.stdout.splitlines()[-1]) < MEGABYTES
    return done


def test_the_tool_takes_a_set_full_of_broken_images(tmp_path):
    images, good, broken = of_all_images("coco")
    write_set("coco", tmp_path, images)
    done = run_tool("coco", tmp_path, tmp_path / "out")
    assert done.returncode == 0 and f"{sum(s == 'train' for s in broken.values())} images left out" in done.stderr
    check_images("coco", tmp_path, tmp_path / "out", good, broken)


@pytest.mark.parametrize("form", FORMATS)
def test_the_tool_refuses_in_one_line(form, tmp_path):
    root = tmp_path / "root"
    small_set(form, root)
    file = next(iter(ANNOTATIONS[form]))
    becomes(file, PAGE)(root)
    done = run_tool(form, root, tmp_path / "out")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode in (1, 3) and len(errors) == 1 and Path(file).name in errors[0]
    assert not (tmp_path / "out").exists()
