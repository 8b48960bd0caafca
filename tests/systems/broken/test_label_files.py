"""Files of labels that a user gives: the order of a path, and vectors of words. A fault is one line with its place."""

import gzip
import os
import pickle

import numpy as np
import pytest

from pysrn.recipes import class_names
from pysrn.systems.cnn_rnn.paths import order_of
from pysrn.systems.msrn.labels.vectors import read_vectors
from tests.systems.broken.conftest import LABELS, put

ORDER = ("--system", "cnn_rnn", "--data", "data", "--run", "new", "--dry-run", "--label-order")
VECTORS = ("--system", "msrn", "--data", "data", "--run", "new", "--dry-run", "--label-vectors")


def lines(names, end="\n"):
    return end.join(names) + end


def other(*changed):
    """The labels, the first of them others."""
    return lines([*changed, *LABELS[len(changed) :]])


def folder(path):
    path.mkdir()


def sparse(path):
    path.touch()
    os.truncate(path, 2**28)


ORDERS = {
    "missing": (lines(LABELS[1:]), 1, "order.txt: 1 labels are not in it, the first: circle"),
    "unknown": (lines([*LABELS, "house"]), 1, "order.txt:17: house is no label"),
    "twice": (lines([*LABELS, LABELS[2]]), 1, "order.txt:17: triangle stands in line 3, too"),
    "empty": ("", 1, "order.txt: the file is empty"),
    "blank lines only": ("\n \n\t\n", 1, "order.txt: the file is empty"),
    "Latin-1": ("caf\xe9\n".encode("latin-1"), 1, "order.txt:1: caf\\udce9 is no label"),
    "UTF-16": (lines(LABELS).encode("utf-16"), 1, "order.txt: the file is UTF-16"),
    "UTF-16 without its mark": (lines(LABELS).encode("utf-16-be"), 1, "UTF-16BE without its mark"),
    "numbers": (lines(map(str, range(16))), 1, "order.txt:1: 0 is no label"),
    "numbers before": (lines(f"{n} {name}" for n, name in enumerate(LABELS)), 1, "order.txt:1: 0 circle is no label"),
    "one line": (",".join(LABELS), 1, "order.txt:1: circle,square,"),
    "other case": (other("Circle"), 1, "order.txt:1: Circle is no label"),
    "look-alike": (other("сircle"), 1, "order.txt:1: сircle is no label"),  # a Cyrillic c
    "no-break space": (other("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart",
                             LABELS[8].replace(" ", "\xa0")), 1, "order.txt:9: "),
    "colours": (other("\x1b[31mcircle"), 1, "order.txt:1: \\x1b[31mcircle is no label"),
    "another data set's": (lines(class_names("coco")), 1, "order.txt:1: person is no label"),
    "binary": (bytes(range(1, 200)), 1, "order.txt:"),
    "long line": ("x" * 10**6, 1, "xxx... is no label"),
    "huge": (sparse, 1, "order.txt: more than 128 MiB"),
    "a folder": (folder, 3, "no file order.txt"),
    "a pipe": (os.mkfifo, 3, "no file order.txt"),
    "a link to itself": (lambda path: path.symlink_to(path), 3, "no file order.txt"),
    "nothing": (lambda path: None, 3, "no file order.txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_orders_that_are_refused(refused, place, name):
    content, code, said = ORDERS[name]
    content(place / "order.txt") if callable(content) else put(place / "order.txt", content)
    refused(code, said, "run_stage", *ORDER, "order.txt")
    assert not (place / "runs/new").exists()


@pytest.mark.parametrize(
    "content",
    [lines(LABELS), lines(LABELS, "\r\n"), lines(LABELS, "\r"), "\ufeff" + lines(LABELS), lines(LABELS, "\n\n \n"),
     " " + lines(LABELS, "  \n")],
)  # fmt: skip
def test_orders_as_editors_write_them(tmp_path, content):
    path = put(tmp_path / "order.txt", content.replace("circle\n", "circle\n"))
    assert order_of(str(path), LABELS, np.zeros(16)) == tuple(range(16))


def test_a_packed_order_is_read(tmp_path):
    path = put(tmp_path / "order.txt.gz", gzip.compress(lines(reversed(LABELS)).encode()))
    assert order_of(str(path), LABELS, np.zeros(16)) == tuple(reversed(range(16)))


WORDS = sorted({word for name in LABELS for word in name.split()})
ROWS = {word: [f"{value:.3f}" for value in np.random.default_rng(0).normal(0, 0.4, 300)] for word in WORDS}
FOURTH, ROW = WORDS[3], ROWS[WORDS[3]]


def words(rows=None, head="", between=" ", end="\n"):
    return head + lines((between.join([word, *row]) for word, row in (rows or ROWS).items()), end)


def with_number(text):
    """The file, one number of the fourth word another."""
    return words(ROWS | {FOURTH: [*ROW[:7], text, *ROW[8:]]})


def saved(save, *arrays):
    def write(path):
        with open(path, "wb") as file:
            save(file, *arrays)

    return write


NO_NUMBER = "words.txt line 4: cross has something that is no number"
FILES = {
    "too few in line 1": (words({WORDS[0]: ROW[:299]} | ROWS | {WORDS[0]: ROW[:299]}), 1, "has 299 numbers a word"),
    "too few in line 4": (words(ROWS | {FOURTH: ROW[:200]}), 1, "line 4: cross has 200 numbers, 300 are wanted"),
    "one too few": (words(ROWS | {FOURTH: ROW[:299]}), 1, "line 4: cross has 299 numbers"),
    "one too many": (words(ROWS | {FOURTH: [*ROW, "1"]}), 1, "line 4: cross has 301 numbers"),
    "50 numbers": (words({word: row[:50] for word, row in ROWS.items()}), 1, "has 50 numbers a word, 300 are wanted"),
    "head of 50 numbers": (words({w: r[:50] for w, r in ROWS.items()}, "14 50\n"), 1, "line 2: above has 50 numbers"),
    "NaN": (with_number("nan"), 1, NO_NUMBER),
    "infinity": (with_number("-inf"), 1, NO_NUMBER),
    "beyond float32": (with_number("1e39"), 1, NO_NUMBER),
    "a word": (with_number("x"), 1, NO_NUMBER),
    "decimal comma": (with_number("0,5"), 1, NO_NUMBER),
    "underscore": (with_number("1_0"), 1, NO_NUMBER),
    "twice": (words() + words({FOURTH: ROW}), 1, "line 15: the word cross is there twice"),
    "two missing": (words({w: ROWS[w] for w in WORDS if w not in ("above", "ring")}), 1, "lacks 2 words"),
    "one word of a name": (words({w: ROWS[w] for w in WORDS if w != "beside"}), 1, "class names: beside"),
    "no words": (words({"house": ROW}), 1, "lacks 14 words of the class names: above, beside,"),
    "cut off": (words()[:-700], 1, "words.txt l"),
    "empty": ("", 1, "words.txt is empty"),
    "packed": (gzip.compress(words().encode()), 1, "words.txt is a packed or binary file"),
    "npy": (saved(np.save, np.zeros((14, 300))), 1, "words.txt is a packed or binary file"),
    "npz": (saved(np.savez, np.zeros((14, 300))), 1, "words.txt is a packed or binary file"),
    "UTF-16": (words().encode("utf-16"), 1, "UTF-16"),
    "UTF-16 without its mark": (words().encode("utf-16-le"), 1, "UTF-16"),
    "binary": (np.random.default_rng(0).integers(0, 256, 9999, np.uint8).tobytes(), 1, "words.txt "),
    "huge": (sparse, 1, "words.txt is a packed or binary file"),
    "one huge line": ("1 " * 2**20, 1, "words.txt "),
    "huge line further on": (words() + "x" * 2**20, 1, "line 15 is longer than"),
    "page not found": ("<!DOCTYPE html>\n<html><body>404</body></html>\n", 1, "has 1 numbers a word"),
    "pointer to the file": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", 1, "has 1 numbers a word"),
    "commas": (words(between=","), 1, "has 0 numbers a word"),
    "word2vec's binary": (b"14 300\nabove " + np.ones(300, "<f4").tobytes() + b"\n", 1, "words.txt "),
    "a folder": (folder, 3, "no file words.txt"),
    "a pipe": (os.mkfifo, 3, "no file words.txt"),
    "nothing": (lambda path: None, 3, "no file words.txt"),
    **{f"pickle {n}": (pickle.dumps({"cross": [1.0] * 300}, n), 1, "words.txt ") for n in range(6)},
}


@pytest.mark.parametrize("name", FILES)
def test_vectors_that_are_refused(refused, place, name):
    content, code, said = FILES[name]
    content(place / "words.txt") if callable(content) else put(place / "words.txt", content)
    refused(code, said, "run_stage", *VECTORS, "words.txt")
    assert not (place / "runs/new").exists()


def test_no_name_of_a_file_is_not_the_default(refused):
    refused(3, "label vectors not found: no file", "run_stage", *VECTORS, "")


@pytest.mark.parametrize(
    "content",
    [words(), words(head="14 300\n"), words(end="\r\n"), words(between="\t"), words(end=" \n"), "\ufeff" + words()],
)
def test_vectors_as_tools_write_them(tmp_path, content):
    path = put(tmp_path / "words.txt", content)
    np.testing.assert_array_equal(read_vectors(path, ("above", "cross"), 300), np.float32([ROWS["above"], ROW]))
