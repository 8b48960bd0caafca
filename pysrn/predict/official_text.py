"""The text form of the official release: a row of logits an image, `%.6f`, in the order of the images.

The form names neither images nor labels: the order of a split of an LMDB pair says what the rows are, or a list of
image names (the release's `*_imglist.txt`), which is then brought into the pair's order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from pysrn.console import MissingError, SrnError, existing_file, message
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.pair_reader import KEY_NUMBER
from pysrn.data.readers.annotation_checks import key_names, shown
from pysrn.data.readers.label_text import labels_of, number_rows, text_lines
from pysrn.nets.caffemodel import sha256_of
from pysrn.predict.predictions import FLOAT32_MAX, Predictions
from pysrn.recipes import class_names
from pysrn.whole_files import written_beside

NUMBER = "%.6f"  # official repo, tools/model_test.py


def write_text(path: Path, logits: np.ndarray | Iterable[np.ndarray]) -> None:
    """Write N x C logits, or blocks of them, as N rows; what was there before stays until the file is whole."""
    with written_beside(path) as partial, open(partial, "w", encoding="ascii") as file:
        for block in [logits] if isinstance(logits, np.ndarray) else logits:
            np.savetxt(file, block, fmt=NUMBER)


def read_text(path: Path, labels: int, images: int, listed_in: str | Path) -> np.ndarray:
    """Logits of a file, float64 of shape (images, labels); numbers are divided by white space or commas.

    Not float32: it would make one number of 16.000001 and 16.000002, and their order would be lost.

    Raises MissingError for no such file, SrnError for another number of rows than `listed_in` has images, or a row with
    another number of values or one that is no finite number, with its line. What no net computes, beyond float32, is
    not finite.
    """
    lines = text_lines(existing_file(path, "text file of logits"))
    if len(lines) != images:
        raise SrnError(f"{path} has {len(lines)} rows, {listed_in} has {images} images")
    values = np.empty((images, labels))
    for number, (line, row) in enumerate(zip(lines, values, strict=True), 1):
        words = line.replace(",", " ").split()
        if len(words) != labels:
            raise SrnError(f"{path} line {number}: {len(words)} values, there are {labels} labels")
        try:
            row[:] = [float(word) for word in words]
        except ValueError as error:
            raise SrnError(f"{path} line {number}: {shown(str(error))}") from None
        if not (np.abs(row) <= FLOAT32_MAX).all():  # nor a NaN
            raise SrnError(f"{path} line {number}: a value is not finite")
    return values


def import_text(path: Path, score: str, pair: PairReader, image_list: Path | None = None) -> Predictions:
    """Predictions of a split from a text file: its rows in the pair's order, or in that of `image_list`.

    The list has an image a line (its first word), and may have images that the pair left out: their rows are dropped.
    Raises as `read_text`, and SrnError for an image of the pair that the list does not have, or has twice.
    """
    if image_list is None:
        logits = read_text(path, len(pair.classes), len(pair), f"{pair.folder}, {pair.split},")
    else:
        rows = _rows_of(pair, image_list)
        logits = read_text(path, len(pair.classes), len(text_lines(image_list)), image_list)[rows]
    about = {"text": str(path), "text_sha256": sha256_of(path), "data": str(pair.folder), "split": pair.split}
    found = Predictions(
        tuple(pair.keys), tuple(pair.classes), {score: logits}, pair.all_labels().astype(np.int8), about
    )
    found.check(path)
    return found


def import_listed(
    path: Path, score: str, image_list: Path, dataset: str, label_file: Path | None = None
) -> Predictions:
    """Predictions from text files alone, no image needed: logits, image names and labels row by row.

    The labels' names and order are those of `dataset`. `label_file` has a row of 1, 0, -1 an image; by default the
    release's `*_label.txt` beside its `*_imglist.txt`. Raises as `read_text`, MissingError for no label file.
    """
    classes = class_names(dataset)
    files = [_file(line, number, image_list) for number, line in enumerate(text_lines(image_list), 1)]
    if label_file is None:
        label_file = image_list.with_name(image_list.name.replace("_imglist.txt", "_label.txt"))
        if label_file == image_list:
            raise MissingError(f"no labels for {image_list}: it is no *_imglist.txt", "--label-file FILE")
    rows = text_lines(label_file)
    values = number_rows(rows, label_file)
    if values.shape != (len(files), len(classes)):
        wanted = f"{len(files)} images in {image_list}, {len(classes)} labels of {dataset}"
        raise SrnError(f"{label_file} has {len(rows)} rows of {values.shape[1]}; there are {wanted}")
    labels = labels_of(values, label_file, range(1, len(rows) + 1))
    logits = read_text(path, len(classes), len(files), image_list)
    about = {"text": str(path), "text_sha256": sha256_of(path), "data": str(image_list), "dataset": dataset}
    keys = tuple(f"{number:08d}_{name}" for number, name in enumerate(key_names(files)))
    found = Predictions(keys, tuple(classes), {score: logits}, labels, about)
    found.check(path)
    return found


def _rows_of(pair: PairReader, image_list: Path) -> list[int]:
    """For every sample of the pair the row of its image in a list of names."""
    files = [_file(line, number, image_list) for number, line in enumerate(text_lines(image_list), 1)]
    wanted = [key[KEY_NUMBER:] for key in pair.keys]
    for off in range(max(len(file.parts) for file in files)):  # readers name images with or without their folders
        names = ["".join(key_names([PurePosixPath(*file.parts[off:] or file.parts[-1:])])) for file in files]
        if not set(wanted).isdisjoint(names):
            break
    rows = {name: row for row, name in enumerate(names)}
    twice = [name for name, count in Counter(names).items() if count > 1 and name in wanted]
    if twice:
        raise SrnError(f"{image_list}: more than one line names the image {shown(twice[0])}")
    missing = [name for name in wanted if name not in rows]
    if missing:
        where = f"{len(missing)} of {len(pair)} images of {pair.folder}, {pair.split}"
        raise SrnError(f"{image_list} does not have {where}; the first: {shown(missing[0])}")
    if len(pair) < len(files):
        message(f"{image_list}: {len(files) - len(pair)} rows of images that {pair.folder} does not hold are dropped")
    return [rows[name] for name in wanted]


def _file(line: str, number: int, image_list: Path) -> PurePosixPath:
    """The image that a line names: without the number behind it that lists of Caffe have."""
    name = re.sub(r"(?<=\S)\s+[+-]?\d+$", "", line.strip()).replace("\\", "/").lstrip("/")
    if not name:
        raise SrnError(f"{image_list} line {number}: no image name")
    return PurePosixPath(name)
