"""Reader of label tables (CSV, or with tabs or semicolons): a row an image, a column a class or one of names.

    file,cat,dog            file,labels                 filepath,label,split_name
    a.jpg,1,0               a.jpg,cat;dog               a.jpg,"['cat', 'dog']",train

A user's own data (`folder.py`) and copies of NUS-WIDE (`nus_wide.py`) come in these forms.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, message
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.image_lists import plain_name
from pysrn.data.readers.label_cells import MatrixCells, NamedCells
from pysrn.data.readers.label_text import printable, text_lines
from pysrn.data.readers.listed_images import LabelRows
from pysrn.data.readers.records import NEGATIVE, POSITIVE

FILE_HEADS = ("file", "filename", "file_name", "filepath", "path", "image", "image_id", "name")
NAMES_HEADS = ("labels", "label", "tags", "classes")
SPLIT_HEADS = ("split", "split_name")
SPLIT_OF = {"train": "train", "trainval": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}


@dataclass(frozen=True, eq=False)
class LabelTable:
    """A table: its rows, its classes in the order of the label columns, and the split of each row if it says so."""

    rows: LabelRows
    classes: tuple[str, ...]
    split_of: list[str] | None
    named: bool  # labels were given by name: a class that no row has does not show

    def part(self, split: str) -> LabelRows:
        """The rows of a split; a table without a split column is one split."""
        if self.split_of is None:
            return self.rows
        held_out = "test" if split == "test" and "test" in self.split_of else "val"
        wanted = held_out if split == "test" else split
        return self.rows.chosen(row for row, own in enumerate(self.split_of) if own == wanted)

    def in_order(self, classes: Sequence[str]) -> LabelTable:
        """The same table with its label columns in the order of `classes`; a named table may lack some of them.

        Raises SrnError when the classes are others. Names are compared without case and underscores.
        """
        own = {plain_name(name): column for column, name in enumerate(self.classes)}
        expected = [plain_name(name) for name in classes]
        odd = set(own) - set(expected) if self.named else set(own) ^ set(expected)
        if odd:
            where = ""
            if self.named:  # the row that first has one of them
                rows = (self.rows.labels[:, [own[name] for name in odd]] == POSITIVE).any(1)
                where = f" line {self.rows.lines[int(rows.argmax())]}"
            raise SrnError(
                f"{self.rows.source}{where}: its classes are not the {len(classes)} expected; differing: "
                f"{printable(', '.join(sorted(odd)), 200)}"
            )
        labels = np.full((len(self.rows.labels), len(classes)), NEGATIVE, np.int8)
        for column, name in enumerate(expected):
            if name in own:
                labels[:, column] = self.rows.labels[:, own[name]]
        return replace(self, rows=replace(self.rows, labels=labels), classes=tuple(classes))


def read_label_table(path: Path) -> LabelTable:
    """Read a table; no image is looked for.

    Raises MissingError for none or an empty one, SrnError for a damaged one, with the line.
    """
    lines = text_lines(path)
    delimiter = next((sign for sign in ",\t;" if sign in lines[0]), ",")
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    try:
        heads = [head.strip() for head in next(reader)]
        file_column, split_column, names_column, columns = _columns(path, heads)
        cells = NamedCells(path) if names_column is not None else MatrixCells(path, [heads[c] for c in columns])
        pick = itemgetter(*columns) if len(columns) > 1 else lambda row: [row[column] for column in columns]
        names, numbers, splits = [], [], []
        for row in reader:
            line = reader.line_num
            if not any(row):
                continue
            if len(row) != len(heads):
                raise SrnError(f"{path} line {line}: {len(row)} columns where the header has {len(heads)}")
            names.append(row[file_column].strip())
            numbers.append(line)
            if split_column is not None:
                splits.append(_split(path, line, row[split_column]))
            cells.add(line, row[names_column] if names_column is not None else pick(row))
    except csv.Error as error:
        raise SrnError(f"{path} line {reader.line_num}: {error}") from None
    if not names:
        raise MissingError(f"{path}: the table has a header but no rows")
    labels, classes = cells.result(numbers)
    rows = LabelRows(path, names, labels, numbers)
    return LabelTable(rows, classes, splits if split_column is not None else None, names_column is not None)


def _columns(path: Path, heads: list[str]) -> tuple[int, int | None, int | None, Sequence[int]]:
    """Columns of the file name, of the split, of the label names, and of the classes."""
    plain = [head.lower() for head in heads]
    file_column = next((plain.index(head) for head in FILE_HEADS if head in plain), None)
    if file_column != 0:
        first = shown(heads[0] if heads else "")
        raise SrnError(
            f"{path} line 1: the header's first column is {first}; not one of {', '.join(FILE_HEADS)}",
            "write a header: file,<class>,<class>,... or file,labels",
        )
    split_column = next((column for column, head in enumerate(plain) if head in SPLIT_HEADS), None)
    rest = [column for column in range(1, len(heads)) if column != split_column]
    if len(rest) == 1 and plain[rest[0]] in NAMES_HEADS:
        return 0, split_column, rest[0], ()
    if not rest:
        raise SrnError(f"{path} line 1: the header has no label column")
    seen: set[str] = set()
    for column in rest:
        if not heads[column]:
            raise SrnError(f"{path} line 1: column {column + 1} has no class name")
        if plain_name(heads[column]) in seen:
            raise SrnError(f"{path} line 1: class {shown(heads[column])} has two columns")
        seen.add(plain_name(heads[column]))
    return 0, split_column, None, rest


def _split(path: Path, line: int, cell: str) -> str:
    split = SPLIT_OF.get(cell.strip().lower())
    if split is None:
        raise SrnError(f"{path} line {line}: split {shown(cell)} is none of {', '.join(SPLIT_OF)}")
    return split


def read_split_tables(root: Path) -> dict[str, LabelTable]:
    """The tables of a folder: one with `train` and one with `test` in its name, or one with a split column.

    Raises MissingError where neither is there, and as `read_label_table`.
    """
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.is_file())
    named = {split: [path for path in tables if path.stem.lower() == split] for split in ("train", "test")}
    if not all(named.values()):
        named = {split: [path for path in tables if split in path.stem.lower()] for split in ("train", "test")}
    if all(len(paths) == 1 for paths in named.values()) and named["train"] != named["test"]:
        return {split: read_label_table(paths[0]) for split, paths in named.items()}
    if len(tables) != 1:
        seen = f"; there are {', '.join(printable(path.name) for path in tables[:5])}" if tables else ""
        raise MissingError(f"{root}: train.csv and test.csv are needed, or one CSV file with a split column{seen}")
    table = read_label_table(tables[0])
    if table.split_of is None:
        raise MissingError(
            f"{tables[0]}: only one table, and it has no column `split`", "add one, or write train.csv and test.csv"
        )
    present = set(table.split_of)
    if "train" not in present or not present & {"test", "val"}:
        raise MissingError(f"{tables[0]}: its split column names only {', '.join(sorted(present))}: both are needed")
    if {"test", "val"} <= present:
        message(f"{tables[0]}: the {table.split_of.count('val')} rows of split 'val' are not read")
    return {"train": table, "test": table}
