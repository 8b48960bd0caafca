"""The label cells of a table (`label_table.py`): a column a class, or one that names the labels an image has."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.label_text import labels_of, printable

_UNSPECIFIED_CELL = 2  # an empty cell or `?`, until the label values are known
_BYTE = 0xFF
_CELLS = {"1": 1, "0": 0, "-1": -1 & _BYTE, "": _UNSPECIFIED_CELL, "?": _UNSPECIFIED_CELL}


class MatrixCells:
    """Collects rows of 1/0/-1 cells, a byte a label; empty and `?` mean unspecified."""

    def __init__(self, path: Path, classes: list[str]) -> None:
        self.path, self.classes, self.values = path, tuple(map(printable, classes)), bytearray()

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
                f"{self.path} line {line}: {shown(cell)} in column {self.classes[column]!r} is no label: "
                "1, 0, -1, or nothing"
            )
        return int(value) & _BYTE

    def result(self, lines: list[int]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels int8 (rows, classes) of 1/0/-1, and the classes; `lines` are the rows' lines in the file."""
        values = np.frombuffer(self.values, np.int8).reshape(len(lines), len(self.classes))
        return labels_of(values, self.path, lines, _UNSPECIFIED_CELL), self.classes


class NamedCells:
    """Collects cells that name the labels an image has: `cat;dog` or `['cat', 'dog']`."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        self.parse: Callable[[str], tuple[str, ...]] = cache(_label_names)

    def add(self, line: int, cell: str) -> None:
        """Take the cell of a row; raises SrnError, with the line, where it is no list of names."""
        try:
            self.rows.append(self.parse(cell.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise SrnError(
                f"{self.path} line {line}: {shown(cell)} is no list of label names", "write cat;dog or ['cat', 'dog']"
            ) from None

    def result(self, lines: list[int]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels int8 (rows, classes) of 1/0/-1, and the classes; `lines` are the rows' lines in the file."""
        names = sorted({name for row in self.rows for name in row})
        if not names:
            raise SrnError(f"{self.path}: no row has a label")
        column = {name: number for number, name in enumerate(names)}
        labels = np.full((len(self.rows), len(names)), -1, np.int8)
        for number, row in enumerate(self.rows):
            labels[number, [column[name] for name in row]] = 1
        return labels, tuple(map(printable, names))


def _label_names(cell: str) -> tuple[str, ...]:
    if not cell.startswith("["):
        if "," in cell:  # who divides by commas would get a class "cat,dog" without a word
            raise ValueError(cell)
        return tuple(name.strip() for name in cell.split(";") if name.strip())
    names = ast.literal_eval(cell)
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(cell)
    return tuple(name.strip() for name in names)
