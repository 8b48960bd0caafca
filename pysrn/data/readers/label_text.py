"""Label files that are text: their lines, their numbers, and what the numbers say.

The list-like readers (`image_lists.py`, `label_table.py`, `nus_wide.py`) parse with it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, existing_file, message
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.records import NEGATIVE, POSITIVE, UNSPECIFIED

LARGEST_TEXT = 2**27  # bytes; assumed: four times the largest list of labels that circulates, NUS-WIDE's


def text_lines(path: Path) -> list[str]:
    """Lines of a text file (or of a `.gz` of one) without line ends and without empty lines at the end.

    Bytes that are not UTF-8 become surrogates, so that one bad name does not cost the others.
    Raises MissingError when there is none or it is empty, SrnError for one that is UTF-16, a damaged archive or
    too large.
    """
    existing_file(path, "annotation file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(LARGEST_TEXT + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SrnError(f"{path}: damaged archive: {error}") from None
    if len(data) > LARGEST_TEXT:
        raise SrnError(f"{path}: more than {LARGEST_TEXT >> 20} MiB: too large for a list of labels")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SrnError(f"{path}: the file is UTF-16", "save it as UTF-8")
    lines = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if len(lines) == 1:
        lines = lines[0].split("\r")  # line ends of old Macs
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise MissingError(f"{path}: the file is empty")
    return lines


def class_list(path: Path) -> tuple[str, ...]:
    """The class names of a file with one a line. Raises SrnError when a line is empty or stands there twice."""
    names = tuple(printable(line.strip()) for line in text_lines(path))
    if "" in names or len(set(names)) != len(names):
        raise SrnError(f"{path}: a class stands there twice, or a line is empty")
    return names


def printable(text: str, longest: int = 80) -> str:
    """Text that can be shown and stored as UTF-8: whatever cannot is escaped, and the end of a long one is cut."""
    text = text.encode("utf-8", "backslashreplace").decode()
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return text if len(text) <= longest else f"{text[:longest]}..."


def number_rows(rows: list[str], path: Path) -> np.ndarray:
    """Numbers divided by white space, float32 of shape (rows, columns).

    Raises SrnError for an empty row, one with another number of columns than the first, or what is no number.
    """
    try:
        values = np.loadtxt(rows, np.float32, comments=None, ndmin=2)
        if len(values) == len(rows):
            return values
    except ValueError:
        pass
    columns = len(rows[0].split())
    for line, row in enumerate(rows, 1):
        if len(row.split()) != columns or not columns:
            raise SrnError(f"{path} line {line}: {len(row.split())} labels where line 1 has {columns}")
        for value in row.split():
            try:
                float(value)
            except ValueError:
                raise SrnError(f"{path} line {line}: {shown(value)} is not a label: 1, 0 or -1") from None
    raise SrnError(f"{path}: its rows cannot be read as numbers")


def labels_of(values: np.ndarray, path: Path, lines: Sequence[int], unspecified: int | None = None) -> np.ndarray:
    """Label values int8 (rows, columns) of 1/0/-1 from the numbers of a file.

    0 is "unspecified" in a file that has -1, and "has it not" in one that has only 1 and 0. `unspecified` is a further
    number with that meaning. Raises SrnError for any other number, with its line.
    """
    wrong = (values != POSITIVE) & (values != 0) & (values != NEGATIVE)
    if unspecified is not None:
        wrong &= values != unspecified
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise SrnError(
            f"{path} line {lines[row]}: label {values[row, column]:.0f} in label column {column + 1} is out of range: "
            "1, 0 or -1"
        )
    labels = np.full(values.shape, NEGATIVE, np.int8)
    labels[values == POSITIVE] = POSITIVE
    if unspecified is not None:
        labels[values == unspecified] = UNSPECIFIED
    if (values == NEGATIVE).any():
        labels[values == 0] = UNSPECIFIED
        message(f"{path}: labels are 1/-1/0, so 0 is read as unspecified")
    return labels
