"""Quotes, halves of lists and confidences in label names are refused by name; what nobody sees is told."""

import pytest

from pysrn.console import SrnError
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.own.formats import read_own
from tests.data.own_tables import named, read, write
from tests.data.readers.own.exported import write_coco, write_voc, write_yolo

HEAD = "file,labels\n"
TEST = f"{HEAD}p9.jpg,cow\n"
ODD = {
    'cat;"dog"': ("'\"dog\"'", "has quotes"),
    'cat;"dog;pig"': ("'\"dog'", "has quotes"),
    "cat;'dog'": ("\"'dog'\"", "has quotes"),
    "cat;\u201cdog\u201d": ("\u201cdog\u201d", "has quotes"),
    "cat;dog\u00bb": ("dog\u00bb", "has quotes"),
    "{cat;dog}": ("'dog}'", "a piece of a list"),
    "(cat;dog)": (r"'\(cat'", "a piece of a list"),
    "cat:0.9": ("'cat:0.9'", "with its confidence"),
    "cat;dog=.75": ("'dog=.75'", "with its confidence"),
    "dog (90%)": (r"'dog \(90%\)'", "with its confidence"),
    "dog(0.93)": (r"'dog\(0.93\)'", "with its confidence"),
    "dog: 1.00": ("'dog: 1.00'", "with its confidence"),
    "0:0.98": ("'0:0.98'", "with its confidence"),
}


@pytest.mark.parametrize("cell", ODD)
def test_what_is_more_than_a_name_is_refused(cell, tmp_path):
    name, reason = ODD[cell]
    write(tmp_path, train=f"{HEAD}p1.jpg,cow\np2.jpg,{cell}\n", test=TEST)
    with pytest.raises(SrnError, match=f"train.csv line 3: class name .*{name}.* .*{reason}") as caught:
        read(tmp_path)
    assert "write the name alone" in caught.value.cure and "classes.txt" in caught.value.cure


def test_a_list_of_the_classes_has_the_last_word(tmp_path):
    table = f"{HEAD}p1.jpg,gain:0.5\np2.jpg,'x'\n"
    write(tmp_path, train=table, test=f"{HEAD}p3.jpg,'x'\n", classes="gain:0.5\n'x'\n")
    assert named(read(tmp_path)["train"]) == {"p1.jpg": {"gain:0.5"}, "p2.jpg": {"'x'"}}


def test_headers_are_names_too(tmp_path):
    table = "file,'cat','dog'\np1.jpg,1,0\n"
    write(tmp_path, train=table, test=table)
    with pytest.raises(SrnError, match="train.csv line 1: class name \"'cat'\" has quotes in it"):
        read(tmp_path)


@pytest.mark.parametrize("write_format", [write_coco, write_voc, write_yolo])
def test_every_format_is_asked(write_format, tmp_path):
    images = {"a.jpg": {"'cat'": [2, 2, 10, 10]}}
    write_format(tmp_path, {"train": images, "test": {"b.jpg": images["a.jpg"]}}, ("'cat'",))
    with pytest.raises(SrnError, match="class name \"'cat'\" has quotes in it"):
        read_own(tmp_path)
    (tmp_path / "classes.txt").write_text("'cat'\n")
    form = write_format.__name__.removeprefix("write_")
    assert read_own(tmp_path, ReaderOptions(form=form))["train"].classes == ("'cat'",)


@pytest.mark.parametrize("name", ["'80s", "rock 'n' roll", 'TV 12"', "dogs'", "dog (pet)", "(other)", "<unk>", "16:9",
                                  "f/1.4", "milk 3.5%", "C:", ":)", "size=XL", "v:2.5"])  # fmt: skip
def test_good_names_are_let_be(name, tmp_path, capsys):
    write(tmp_path, train=f"{HEAD}p1.jpg,{name}\np2.jpg,cow\n", test=TEST)
    assert read(tmp_path)["train"].classes == tuple(sorted((name, "cow")))
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cat:2", "cat=1", "cat 0.93"])
def test_numbers_that_may_be_meant_are_told(name, tmp_path, capsys):
    write(tmp_path, train=f"{HEAD}p1.jpg,{name}\np2.jpg,cow\n", test=TEST)
    assert name in read(tmp_path)["train"].classes
    assert f"1 class names end in a number, the first '{name}' ({tmp_path}/train.csv line 2)" in capsys.readouterr().err


UNSEEN = "has signs that cannot be seen"
ALPHABETS = "mixes letters of two alphabets"


@pytest.mark.parametrize(
    ("name", "words"),
    [("c\u200bat", UNSEEN), ("ca\u00adt", UNSEEN), ("ca\ufefft", UNSEEN), ("c\u200dat", UNSEEN), ("cat\ufe0f", UNSEEN),
     ("c\u0430t", ALPHABETS), ("\u0421at", ALPHABETS), ("f\u03bfx", ALPHABETS),
     ("\u0645\u06cc\u200c\u062e", None), ("\u2764\ufe0f", None), ("\U0001f468\u200d\U0001f469", None),
     ("\u03b2-carotene", None), ("\u043a\u043e\u0442", None), ("hot\u00a0dog", None)],
)  # fmt: skip
def test_what_nobody_sees_is_told(name, words, tmp_path, capsys):
    """Joiners and variation selectors belong to words of some languages, and to emoji."""
    write(tmp_path, train=f"{HEAD}p1.jpg,{name}\np2.jpg,cow\n", test=TEST)
    assert len(read(tmp_path)["train"].classes) == 2
    said = capsys.readouterr().err
    assert f"train.csv line 2: class name {name!a} {words}" in said if words else "warning" not in said
