"""Vectors of class names: read from GloVe's text form, those shipped for the known data sets, or made of the labels.

A file of words is read line by line: glove.6B.300d.txt has 400,000 of them, of which a data set needs a few.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from pysrn.console import SrnError, existing_file
from pysrn.later import later
from pysrn.systems.msrn.labels.graph import cooccurrence

np = later("numpy")

SHIPPED = ("coco", "nus_wide", "voc2007", "apparel")  # vectors/SOURCE.md
NAMES_SHOWN = 6
BINARY = (
    b"PK",
    b"\x93NUMPY",
    b"\x1f\x8b",
    BOM_UTF16_LE,
    BOM_UTF16_BE,
)  # zip, npy, gzip; 0x80: a pickle from protocol 2
LONGEST_LINE = 1 << 18  # bytes; assumed: ten times a word with 1,000 numbers
NORM = 6.7  # assumed: mean length of vectors made of labels; the shipped ones have 6.5 to 6.8
CURE = "give a text file of GloVe's: a word and its numbers a line, as glove.6B.300d.txt"


def shipped_vectors(dataset: str, classes: Sequence[str]) -> np.ndarray:
    """C x 300 of a data set whose vectors are shipped, by class name."""
    text = resources.files("pysrn.systems.msrn").joinpath("vectors", f"{dataset}.tsv").read_text("utf-8")
    rows = dict(line.split("\t") for line in text.splitlines())
    return np.array([rows[name].split() for name in classes], np.float32)


def read_vectors(path: str | Path, classes: Sequence[str], width: int) -> np.ndarray:
    """C x `width` of the class names from a text file: of a name that it has as one word, else the mean of its words.

    Case does not count; spaces, `_`, `-`, `/` and `+` divide words. Differs from the released code: how its vectors of
    names of several words were made is not known.

    Raises:
        MissingError: there is no such file.
        SrnError: it is a pickle or no text, has other than `width` numbers a word, a word twice, or lacks one.
    """
    path = existing_file(path, "label vectors", CURE)
    whole = {name: _joined(name) for name in classes}
    parts = {name: [word for word in re.split(r"[\s_\-/+]+", name.lower()) if word] or [name] for name in classes}
    found = _read_words(path, {*whole.values(), *(word for words in parts.values() for word in words)}, width)
    missing = sorted(
        {word for name in classes if whole[name] not in found for word in parts[name] if word not in found}
    )
    if missing:
        few = ", ".join(missing[:NAMES_SHOWN]) + (", ..." if len(missing) > NAMES_SHOWN else "")
        raise SrnError(
            f"{path} lacks {len(missing)} words of the class names: {few}", "add them, or rename the classes"
        )
    rows = [found[whole[n]] if whole[n] in found else np.mean([found[w] for w in parts[n]], axis=0) for n in classes]
    return np.array(rows, np.float32)


def label_statistics_vectors(labels: np.ndarray, width: int) -> np.ndarray:
    """C x `width` without any words: positive pointwise mutual information of the training labels (N x C).

    A row is a label's PPMI with every label, itself included; where there are more labels than `width`, what the
    greatest singular values keep of it. Scaled to the mean length of word vectors. Ours: no source has it.
    """
    together, images = cooccurrence(labels)
    np.fill_diagonal(together, images)
    expected = np.outer(images, images) / max(len(labels), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi = np.nan_to_num(np.maximum(np.log(together / expected), 0), posinf=0)
    if len(ppmi) > width:
        left, values, _ = np.linalg.svd(ppmi)
        ppmi = left[:, :width] * values[:width]
    lengths = np.linalg.norm(ppmi, axis=1)
    padded = np.pad(ppmi, ((0, 0), (0, width - ppmi.shape[1])))
    return (padded * (NORM / (lengths.mean() or 1))).astype(np.float32)


def _joined(name: str) -> str:
    return "_".join(name.lower().split())


def _read_words(path: Path, wanted: set[str], width: int) -> dict[str, np.ndarray]:
    """The wanted words that the file has; words of its own may hold spaces, so a line is taken apart from its end."""
    found: dict[str, np.ndarray] = {}
    with open(path, "rb") as file:
        first = file.readline(LONGEST_LINE)
        if first.startswith((*BINARY, b"\x80")) or b"\0" in first:
            kind = "a pickle, which could run code" if first[:1] == b"\x80" else "a packed or binary file, or UTF-16"
            raise SrnError(f"{path} is {kind}: it is not read", CURE)
        if not first:
            raise SrnError(f"{path} is empty", CURE)
        file.seek(len(BOM_UTF8) * first.startswith(BOM_UTF8))
        for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), b""), 1):
            parts = line.split()
            if number == 1 and len(parts) == 2 and parts[1].isdigit():
                continue  # word2vec's head: how many words, how many numbers each
            if number == 1 and len(parts) != width + 1:
                raise SrnError(f"{path} has {max(len(parts) - 1, 0)} numbers a word, {width} are wanted", CURE)
            if len(line) == LONGEST_LINE:
                raise SrnError(f"{path} line {number} is longer than a word and its numbers can be", CURE)
            word, *numbers = line.rsplit(None, width) or [b""]
            text = word.decode("utf-8", "replace")
            begin = parts[0].decode("utf-8", "replace") if parts else ""
            if begin in wanted and len(parts) != width + 1 and _all_numbers(parts[1:]):
                raise SrnError(f"{path} line {number}: {begin} has {len(parts) - 1} numbers, {width} are wanted", CURE)
            if text not in wanted:
                continue
            if text in found:
                raise SrnError(f"{path} line {number}: the word {text} is there twice", "take one of them out")
            if not _all_numbers(numbers):
                raise SrnError(f"{path} line {number}: {text} has something that is no number", CURE)
            found[text] = np.array(list(map(float, numbers)), np.float32)
    return found


def _all_numbers(words: Sequence[bytes]) -> bool:
    """Whether each is a number that float32 can hold; what Python alone calls one (`1_0`) is none."""
    try:
        values = np.array(list(map(float, words)))
    except ValueError:
        return False
    return bool((np.abs(values) <= np.finfo(np.float32).max).all()) and not any(b"_" in word for word in words)
