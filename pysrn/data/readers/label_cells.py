"""The label cells of a table (`label_table.py`): a column a class, or one that names the labels an image has."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.label_text import class_name, labels_of, printable
from pysrn.data.readers.names.divided_names import DIVIDER
from pysrn.data.readers.records import POSITIVE, Naming

_UNSPECIFIED_CELL = 2  # an empty cell or `?`, until the label values are known
_BYTE = 0xFF
_CELLS = {"1": 1, "0": 0, "-1": -1 & _BYTE, "": _UNSPECIFIED_CELL, "?": _UNSPECIFIED_CELL}
_WORDS = {"true": 1, "false": 0}  # as pandas, R and spreadsheets write them
_CELLS |= {form: value for word, value in _WORDS.items() for form in (word, word.title(), word.upper())}


class MatrixCells:
    """Collects rows of 1/0/-1 cells (or true/false), a byte a label; empty and `?` mean unspecified."""

    def __init__(self, path: Path, classes: list[str], header: int = 1) -> None:
        self.path, self.classes, self.header, self.values = path, tuple(classes), header, bytearray()

    def add(self, line: int, cells: Sequence[str]) -> None:
        """Take the cells of a row; raises SrnError, with the line, for one that is no label."""
        try:
            self.values += bytes(map(_CELLS.__getitem__, cells))
        except KeyError:
            self.values += bytes(self._value(line, column, cell) for column, cell in enumerate(cells))

    def _value(self, line: int, column: int, cell: str) -> int:
        """A cell that is not written as usual: ` 1`, `1.0`."""
        cell = cell.strip()
        if cell in _CELLS:
            return _CELLS[cell]
        try:
            value = float(cell)
        except ValueError:
            value = None
        if value not in (1, 0, -1):
            raise SrnError(
                f"{self.path} line {line}: {shown(cell)} in column {printable(self.classes[column])!r} is no label: "
                "1, 0, -1, or nothing",
                "leave out columns that are no classes; a missing label is an empty cell; names of labels stand in one "
                "column, `labels`: file,labels",
            )
        return int(value) & _BYTE

    def result(self, lines: list[int]) -> tuple[np.ndarray, list[Naming]]:
        """Labels int8 (rows, classes) of 1/0/-1, and the classes; `lines` are the rows' lines in the file."""
        values = np.frombuffer(self.values, np.int8).reshape(len(lines), len(self.classes))
        labels = labels_of(values, self.path, lines, _UNSPECIFIED_CELL)
        counts = (labels == POSITIVE).sum(0).tolist()
        where = f"line {self.header}"
        return labels, [Naming(name, self.path, where, count) for name, count in zip(self.classes, counts, strict=True)]


class NamedCells:
    """Collects cells that name the labels an image has: `cat;dog` or `['cat', 'dog']`."""

    def __init__(self, path: Path, separator: str | None = None) -> None:
        self.path, self.rows = path, []
        self.parse = cache(partial(_label_names, separator=separator))

    def add(self, line: int, cell: str) -> None:
        """Take the cell of a row; raises SrnError, with the line, where it is no list of names."""
        try:
            self.rows.append(self.parse(cell.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
            raise SrnError(
                f"{self.path} line {line}: {shown(cell)} is no list of label names",
                "write cat;dog or ['cat', 'dog'], or say what divides the names: --separator ','",
            ) from None

    def result(self, lines: list[int]) -> tuple[np.ndarray, list[Naming]]:
        """Labels int8 (rows, classes) of 1/0/-1, and the classes; `lines` are the rows' lines in the file."""
        counts = Counter(name for row in self.rows for name in dict.fromkeys(row))
        if not counts:
            raise SrnError(f"{self.path}: no row has a label")
        first = {name: line for line, row in zip(reversed(lines), reversed(self.rows), strict=True) for name in row}
        names = sorted(class_name(name, self.path, first[name]) for name in counts)
        column = {name: number for number, name in enumerate(names)}
        labels = np.full((len(self.rows), len(names)), -1, np.int8)
        for number, row in enumerate(self.rows):
            labels[number, [column[name] for name in row]] = 1
        return labels, [Naming(name, self.path, f"line {first[name]}", counts[name]) for name in names]


def _label_names(cell: str, separator: str | None) -> tuple[str, ...]:
    if not cell.startswith("["):
        if separator is None and "," in cell:  # who divides by commas would get a class "cat,dog" without a word
            raise ValueError(cell)
        if re.match(r"""[({]\s*["']""", cell):  # Python's tuples and sets
            raise ValueError(cell)
        return tuple(name.strip() for name in cell.split(separator or DIVIDER) if name.strip())
    names = ast.literal_eval(cell)
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(cell)
    words = [token for token in tokenize.generate_tokens(io.StringIO(cell).readline) if token.type == tokenize.STRING]
    if len(words) != len(names):  # NumPy writes ['cat' 'dog'], which is 'catdog' to Python
        raise ValueError(cell)
    return tuple(name.strip() for name in names)
