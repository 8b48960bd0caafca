"""Class names that look alike: refused with both spellings and their lines, or merged, in every reader of names."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pysrn.console import SrnError, UsageError
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.names.folding import folded
from pysrn.data.readers.names.look_alikes import matched, one_spelling
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.records import Naming
from pysrn.data.readers.registry import read_splits
from pysrn.recipes import class_names
from tests.data import small_sets
from tests.data.own_tables import named, read, write

ALIKE = [
    ("Cat", "cat"),
    ("traffic light", "traffic_light"),
    ("traffic light", "Traffic-Light"),
    ("trafficlight", "traffic light"),
    ("hot dog", "hot\u00a0dog"),
    ("hot dog", "hot  dog"),
    ("caf\u00e9", "cafe\u0301"),
    ("\uff23\uff21\uff34", "cat"),
    ("cat", "c\u200bat"),
    ("cat", "\ufeffcat"),
    ("cat", "ca\u00adt"),
    ("stra\u00dfe", "STRASSE"),
    ("x-ray", "x\u2011ray"),
    ("3", "3.0"),
    ("heart\ufe0f", "heart"),
    ("cat", "c\N{CYRILLIC SMALL LETTER A}t"),
    ("CAT", "\N{CYRILLIC CAPITAL LETTER ES}\N{CYRILLIC CAPITAL LETTER A}\N{CYRILLIC CAPITAL LETTER TE}"),
    ("cat", "\N{CYRILLIC CAPITAL LETTER ES}at"),
    ("fox", "f\N{GREEK SMALL LETTER OMICRON}x"),
    ("NO", "\N{GREEK CAPITAL LETTER NU}O"),
    ("goat", "\N{LATIN SMALL LETTER SCRIPT G}oat"),
    ("cat", "\uff43\uff41\uff54"),
    ("cat.", "cat"),
    ("cat", "cat!"),
    ("cat", "cat :"),
    ("cat", "cat\u2026"),
    ("cat", "#cat"),
    ("cat", "\u2022 cat"),
    ("cat", "(cat)"),
    ("'dog'", "dog"),
    ("\u201cdog\u201d", "dog"),
    ("dog's", "dog\u2019s"),
    ("cat", "ca\ufefft"),
    ("cat", "cat\u3164"),
    ("cat", "cat\u202c"),
]
# Of the second ones those that nobody types on purpose: the other spelling is kept, though more images have these.
ODD = [other for _, other in ALIKE if set("\u200b\ufeff\u00ad\u202c\u0430\u03bf\u0261") & set(other)]
ODD += ["\N{CYRILLIC CAPITAL LETTER ES}at", "\N{GREEK CAPITAL LETTER NU}O"]
DIFFERENT = [
    ("10-20", "1020"),
    ("-1", "1"),
    ("2019-01", "2019 1"),
    ("C++", "C"),
    ("cafe", "caf\u00e9"),
    ("x" * 60 + "1234567890", "x" * 60 + "abcdefghij"),
    ("y" * 400 + "1", "y" * 400 + "2"),
    ("dog", "hot dog"),
    ("C#", "C"),
    ("5%", "5"),
    (".5", "5"),
    ("\u043a\u043e\u0442", "\u043a\u0438\u0442"),
    ("<5", ">5"),
    ("No. 1", "No. 11"),
]


def in_cells(root, one, other):
    write(
        root, train=f'file,labels\np1.jpg,"{one}"\np2.jpg,"{other}"\np3.jpg,{other};x\n', test="file,labels\np4.jpg,x\n"
    )
    return {"p1.jpg": {0}, "p2.jpg": {1}, "p3.jpg": {1, "x"}}, ("line 2", "line 3")


def in_the_header(root, one, other):
    head = f'file,"{one}","{other}",x\n'
    write(root, train=f"{head}p1.jpg,1,0,0\np2.jpg,0,1,0\np3.jpg,0,1,1\n", test=f"{head}p4.jpg,0,0,1\n")
    return {"p1.jpg": {0}, "p2.jpg": {1}, "p3.jpg": {1, "x"}}, ("line 1", "line 1")


FORMS = [in_cells, in_the_header]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("one", "other"), ALIKE, ids=ascii)
def test_alike_in_one_table(tmp_path, capsys, form, one, other):
    has, lines = form(tmp_path, one, other)
    with pytest.raises(SrnError, match="look alike: ") as caught:
        read(tmp_path)
    words = str(caught.value)
    assert "--merge-alike" in caught.value.cure and words.isprintable()
    assert all(line in words for line in lines) and str(tmp_path / "train.csv") in words
    for name in (one, other):
        assert repr(name) in words or ascii(name) in words

    train = read(tmp_path, merge_alike=True)["train"]
    (kept,) = set(train.classes) - {"x"}  # the one of more images, if it is plainly written
    assert kept == (one if other in ODD else printable(other, None))
    assert named(train) == {file: {label if label == "x" else kept for label in labels} for file, labels in has.items()}
    assert "merged into class" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=lambda name: name[-9:])
def test_different_names_stay_apart(tmp_path, form, one, other):
    has, _ = form(tmp_path, one, other)
    train = read(tmp_path)["train"]
    assert set(train.classes) == {one, other, "x"}
    whole = {0: one, 1: other, "x": "x"}
    assert named(train) == {file: {whole[label] for label in labels} for file, labels in has.items()}


@pytest.mark.parametrize(
    ("one", "other"), [("\u2764\ufe0f", "\u2764"), ("c\u0430t", "cat"), ("caf\u00e9", "cafe\u0301")]
)
def test_what_looks_the_same_is_shown_by_its_codes(one, other):
    with pytest.raises(SrnError) as caught:
        one_spelling([Naming(name, Path("t.csv"), f"line {line}") for line, name in enumerate((one, other), 1)])
    assert ascii(one) in str(caught.value) and ascii(other) in str(caught.value)


def test_three_spellings_and_three_groups(tmp_path, capsys):
    rows = ["Cat", "cat", "CAT;dog", "cat", "Dog", "a b", "a_b", "cow", "Cow"]
    table = "".join(f"p{number}.jpg,{labels}\n" for number, labels in enumerate(rows, 1))
    write(tmp_path, train=f"file,labels\n{table}", test="file,labels\np1.jpg,cat\n")
    with pytest.raises(SrnError, match="line 2 'Cat', line 3 'cat', line 4 'CAT'; .*; and 1 more$"):
        read(tmp_path)
    train = read(tmp_path, merge_alike=True)["train"]
    assert len(train.classes) == 4 and [len(has) for has in named(train).values()] == [1, 1, 2, 1, 1, 1, 1, 1, 1]
    assert "merged into class 'cat' (3 rows): 'CAT' (1 rows), 'Cat' (1 rows)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("file,labels\np1.jpg,cat\np2.jpg,cat\n", "file,labels\np3.jpg,Cat\n"),
        ("file,cat,x\np1.jpg,1,0\np2.jpg,1,0\n", "file,Cat,x\np3.jpg,1,0\n"),
        ("file,cat,x\np1.jpg,1,0\np2.jpg,1,0\n", "file,labels\np3.jpg,Cat\n"),
    ],
)
def test_alike_across_train_and_test(tmp_path, train, test):
    write(tmp_path, train=train, test=test)
    with pytest.raises(SrnError, match="train.csv line . 'cat', .*test.csv line . 'Cat'"):
        read(tmp_path)
    splits = read(tmp_path, merge_alike=True)
    assert named(splits["test"]) == {"p3.jpg": {"cat"}} and "Cat" not in splits["test"].classes


@pytest.mark.parametrize("train", ["file,labels\np1.jpg,Cat\np2.jpg,Cat\n", "file,Cat\np1.jpg,1\np2.jpg,1\n"])
def test_the_spelling_of_classes_txt_is_kept(tmp_path, train):
    write(tmp_path, train=train, test=train, classes="fish\r\ncat\r\n" if "labels" in train else "cat\r\n")
    with pytest.raises(SrnError, match="classes.txt line . 'cat', .*train.csv line . 'Cat'"):
        read(tmp_path)
    found = read(tmp_path, merge_alike=True)["train"]
    assert found.classes[-1] == "cat" and named(found) == {"p1.jpg": {"cat"}, "p2.jpg": {"cat"}}


def test_a_split_that_is_not_read_does_not_matter(tmp_path, capsys):
    write(tmp_path, all="file,labels,split\np1.jpg,cat,train\np2.jpg,Cat;cow,val\np3.jpg,cat,test\n")
    assert read(tmp_path)["train"].classes == ("cat",)
    assert "the 1 rows of split 'val' are not read" in capsys.readouterr().err


def test_lists_with_classes_txt(tmp_path):
    write(tmp_path, classes="cat\nCat\ndog\n")
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("p1.jpg 1 0 0\np2.jpg 0 1 1\n")
    with pytest.raises(SrnError, match="classes.txt line 1 'cat', line 2 'Cat'"):
        read(tmp_path, lists=tmp_path)
    found = read(tmp_path, lists=tmp_path, merge_alike=True)["test"]
    assert found.classes == ("cat", "dog") and named(found) == {"p1.jpg": {"cat"}, "p2.jpg": {"cat", "dog"}}


def small(root, form):
    images = {f"n{number}": (number, b"") for number in range(4)}
    small_sets.write_set(form, root, {"train": dict(list(images.items())[:2]), "test": dict(list(images.items())[2:])})
    return lambda **more: read_splits(
        small_sets.dataset_of(form), root, ReaderOptions(lists=small_sets.options_of(form, root).lists, **more)
    )


def test_a_list_of_a_known_data_set_may_spell_its_names_otherwise(tmp_path):
    load = small(tmp_path, "lists")
    expected = [sample.labels.tolist() for sample in load()["train"].samples]
    names = [name.upper().replace(" ", "_") for name in class_names("wider_attribute")]
    assert names != list(class_names("wider_attribute"))
    path = tmp_path / "lists/classes.txt"
    path.write_text("\n".join(names))
    found = load()["train"]
    assert found.classes == class_names("wider_attribute")
    assert [sample.labels.tolist() for sample in found.samples] == expected
    path.write_text("\n".join([names[0].lower(), *names[:1], *names[2:]]))  # two alike, one missing
    with pytest.raises(SrnError, match="classes.txt line 1 .*, line 2 "):
        load()


def test_a_table_of_nus_wide_may_spell_its_names_otherwise_but_not_twice(tmp_path):
    names = list(class_names("nus_wide"))
    rows = [[int(row == column) for column in range(len(names))] for row in range(9)]
    for head, words in (([name.title() for name in names], None), ([*names[:-1], names[0].upper()], "look alike: ")):
        table = [",".join(map(str, row)) for row in (["file", *head], *([f"p{n}.jpg", *r] for n, r in enumerate(rows)))]
        write(tmp_path, train="\n".join(table), test="\n".join(table))
        if words:
            with pytest.raises(SrnError, match=words):
                read_splits("nus_wide", tmp_path)
        else:
            found = read_splits("nus_wide", tmp_path)["train"]
            assert found.classes == tuple(names)
            np.testing.assert_array_equal([sample.labels == 1 for sample in found.samples], rows)


def test_coco_and_voc_know_their_names_exactly(tmp_path):
    load = small(tmp_path / "coco", "coco")
    path = tmp_path / "coco/annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 99, "name": "Person"})
    path.write_text(json.dumps(content))
    with pytest.raises(SrnError, match="differing: Person"):
        load()
    load = small(tmp_path / "voc", "voc2007")
    path = next((tmp_path / "voc").rglob("n0.xml"))
    path.write_text(path.read_text().replace("<name>aeroplane", "<name>Aeroplane"))
    assert "unknown class 'Aeroplane'" in load()["train"].left_out[0][1]


@pytest.mark.parametrize("dataset", ["coco", "nus_wide", "wider_attribute", "voc2007", "shapes"])
def test_no_known_names_look_alike(dataset):
    names = class_names(dataset)
    assert len(set(map(folded, names))) == len(names)
    assert matched(names, names) == {name: name for name in names}


def test_folding_twice_changes_nothing_and_every_unicode_form_is_one(tmp_path):
    for name in (*(name for pair in ALIKE + DIFFERENT for name in pair), "-", "_", " ", "\u200b", "Ⅷ½"):
        assert folded(folded(name)) == folded(name) != ""
        assert len({folded(unicodedata.normalize(form, name)) for form in ("NFC", "NFD", "NFKC", "NFKD")}) == 1


def test_long_names_show_where_they_differ():
    one, other = "z" * 200 + "A" + "z" * 200 + "1", "z" * 200 + "a" + "z" * 200 + "1"
    with pytest.raises(SrnError) as caught:
        one_spelling([Naming(name, "t.csv", f"line {line}") for line, name in enumerate((one, other), 1)])
    assert "zA" in str(caught.value) and "za" in str(caught.value) and len(str(caught.value)) < 500


def test_merging_is_for_names_that_a_user_wrote(tmp_path):
    with pytest.raises(UsageError, match="merge-alike"):
        read_splits("voc2007", tmp_path, ReaderOptions(merge_alike=True))
