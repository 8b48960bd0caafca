"""Reader of label tables (CSV, or with tabs or semicolons): a row an image, a column a class or one of names.

    file,cat,dog            file,labels                 filepath,label,split_name
    a.jpg,1,0               a.jpg,cat;dog               a.jpg,"['cat', 'dog']",train

A user's own data (`folder.py`) and copies of NUS-WIDE (`nus_wide.py`) come in these forms.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, message
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.label_cells import MatrixCells, NamedCells
from pysrn.data.readers.label_text import class_name, printable, text_lines
from pysrn.data.readers.listed_images import LabelRows
from pysrn.data.readers.names.repeated_rows import LEFT_OUT, UNITED
from pysrn.data.readers.records import PARTS, POSITIVE, Naming

FILE_HEADS = ("file", "filename", "file_name", "filepath", "path", "image", "image_id", "image_name", "name", "id")
NAMES_HEADS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "targets", "target")
UNLABELLED = ("unlabeled", "unlabelled")
SPLIT_HEADS = ("split", "split_name")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """A table: its rows, its classes in the order of the label columns, and the split of each row if it says so."""

    rows: LabelRows
    namings: tuple[Naming, ...]
    split_of: list[str] | None
    named: bool  # labels were given by name: a class that no row has does not show

    @property
    def classes(self) -> tuple[str, ...]:
        """The exact names of the label columns."""
        return tuple(naming.name for naming in self.namings)

    def without_mark(self, listed: Sequence[str]) -> LabelTable:
        """The same table without Roboflow's column that marks images without labels, unless it is `listed` as a class.

        Raises SrnError where an image that it marks has a label.
        """
        marks = [c for c, name in enumerate(self.classes) if name.lower() in UNLABELLED and name not in listed]
        others = [[column] for column in range(len(self.classes)) if column not in marks]
        if self.named or not marks or not others:
            return self
        rows = self.rows.arranged(others)
        marked = (self.rows.labels[:, marks] == POSITIVE).any(1)
        place = f"{self.rows.source}: column {printable(self.classes[marks[0]])}"
        if len(both := np.flatnonzero(marked & (rows.labels == POSITIVE).any(1))):
            raise SrnError(
                f"{place} marks images without labels, but line {self.rows.lines[both[0]]} has one",
                "correct the row; if it is a class, list all classes in classes.txt",
            )
        message(f"{place} is no class: it marks {marked.sum()} images without labels; --drop-unlabelled drops them")
        return replace(self, rows=rows, namings=tuple(self.namings[column] for (column,) in others))

    def part(self, split: str) -> LabelRows:
        """The rows of a split; a table without a split column is one split."""
        if self.split_of is None:
            return self.rows
        held_out = "test" if split == "test" and "test" in self.split_of else "val"
        wanted = held_out if split == "test" else split
        return self.rows.chosen(row for row, own in enumerate(self.split_of) if own == wanted)

    def without(self, split: str) -> LabelTable:
        """The same table without the rows of a split, and without the names that only these have."""
        keep = [row for row, own in enumerate(self.split_of) if own != split]
        rows = self.rows.chosen(keep)
        used = np.flatnonzero((rows.labels == POSITIVE).any(0)).tolist() if self.named else range(len(self.namings))
        namings = tuple(self.namings[column] for column in used)
        return LabelTable(rows.arranged([c] for c in used), namings, [self.split_of[row] for row in keep], self.named)

    def renamed(self, names: Mapping[str, str]) -> LabelTable:
        """The same table under other names; columns that get one name are united: 1 before 0 before -1."""
        columns: dict[str, list[int]] = {}
        for column, name in enumerate(self.classes):
            columns.setdefault(names[name], []).append(column)
        namings = tuple(replace(self.namings[together[0]], name=name) for name, together in columns.items())
        return replace(self, rows=self.rows.arranged(columns.values()), namings=namings)

    def in_order(self, classes: Sequence[str], cure: str = "") -> LabelTable:
        """The same table with its label columns in the order of `classes`; a named table may lack some of them.

        Raises SrnError, with the `cure`, when the classes are others. Names are compared exactly.
        """
        own = {naming.name: column for column, naming in enumerate(self.namings)}
        odd = sorted(set(own) - set(classes) if self.named else set(own) ^ set(classes))
        if odd:
            where = self.namings[own[odd[0]]].place if self.named else self.rows.source
            differing = printable(", ".join(printable(name, None) for name in odd), 300)
            raise SrnError(f"{where}: its classes are not the {len(classes)} expected; differing: {differing}", cure)
        rows = self.rows.arranged([own[name]] if name in own else [] for name in classes)
        return replace(self, rows=rows, namings=tuple(Naming(name, self.rows.source, "") for name in classes))


def read_label_table(path: Path, separator: str | None = None) -> LabelTable:
    """Read a table; no image is looked for. `separator`: what divides the names in a cell (default: `;`).

    Raises MissingError for none or an empty one, SrnError for a damaged one, with the line.
    """
    lines = text_lines(path)
    told = re.fullmatch(r'"?sep=([,;|\t]|\\t)"?[,;\s]*', lines[0], re.IGNORECASE)  # Excel's
    before = 1 if told and len(lines) > 1 else 0
    delimiter = told[1].replace("\\t", "\t") if before else _delimiter(lines[0])
    reader = csv.reader(
        (f"{line}\n" for line in lines[before:]), delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t"
    )
    try:
        heads = [class_name(head, path, before + 1) for head in next(reader)]
        split_column, names_column, columns = _columns(path, heads, before + 1)
        named = names_column is not None
        cells = NamedCells(path, separator) if named else MatrixCells(path, [heads[c] for c in columns], before + 1)
        pick = itemgetter(*columns) if len(columns) > 1 else lambda row: [row[column] for column in columns]
        names, numbers, splits = [], [], []
        end = reader.line_num
        for row in reader:
            line, end = before + end + 1, reader.line_num  # a row may have several lines
            if not any(row):
                continue
            if len(row) != len(heads):
                raise SrnError(
                    f"{path} line {line}: {len(row)} columns where the header has {len(heads)}",
                    f"put a cell that holds {delimiter!r} into double quotes"
                    if len(row) > len(heads)
                    else "add the empty cells",
                )
            names.append(row[0].strip())
            numbers.append(line)
            if split_column is not None:
                splits.append(_split(path, line, row[split_column]))
            cells.add(line, row[names_column] if named else pick(row))
    except csv.Error as error:
        raise SrnError(f"{path} line {reader.line_num + before}: {error}") from None
    if not names:
        raise MissingError(f"{path}: the table has a header but no rows")
    labels, namings = cells.result(numbers)
    rows = LabelRows(path, names, labels, numbers, repeated=UNITED if named else LEFT_OUT)
    return LabelTable(rows, tuple(namings), splits if split_column is not None else None, named)


def _delimiter(header: str) -> str:
    """The sign behind the file column's name, else the commonest form's."""
    signs = [sign for sign in ",\t;|" if header.partition(sign)[0].strip(" \"'").lower() in FILE_HEADS]
    signs = [sign for sign in signs if sign in header]
    return (signs or [sign for sign in ",\t;" if sign in header] or [","])[0]


def _columns(path: Path, heads: list[str], line: int) -> tuple[int | None, int | None, Sequence[int]]:
    """Columns of the split, of the label names, and of the classes, behind that of the file name."""
    plain, place = [head.lower() for head in heads], f"{path} line {line}"
    if not plain or plain[0] not in FILE_HEADS:
        first = shown(heads[0] if heads else "")
        raise SrnError(
            f"{place}: the header's first column is {first}; not one of {', '.join(FILE_HEADS)}",
            "write a header: file,<class>,<class>,... or file,labels (pandas: to_csv(..., index=False))",
        )
    split_column = next((column for column, head in enumerate(plain) if head in SPLIT_HEADS), None)
    rest = [column for column in range(1, len(heads)) if column != split_column]
    if len(rest) == 1 and plain[rest[0]] in NAMES_HEADS:
        return split_column, rest[0], ()
    if not rest:
        raise SrnError(f"{place}: the header has no label column")
    seen: dict[str, int] = {}
    for column in rest:
        if not heads[column]:
            raise SrnError(f"{place}: column {column + 1} has no class name", "name it, or remove it in all rows")
        if heads[column] in seen:
            both = f"{seen[heads[column]] + 1} and {column + 1}"
            raise SrnError(f"{place}: class {shown(heads[column])} has two columns, {both}", "rename or remove one")
        seen[heads[column]] = column
    return split_column, None, rest


def _split(path: Path, line: int, cell: str) -> str:
    split = PARTS.get(cell.strip().lower())
    if split is None:
        raise SrnError(
            f"{path} line {line}: split {shown(cell)} is none of {', '.join(PARTS)}",
            f"write one of these; a class called {' or '.join(SPLIT_HEADS)} needs named labels (file,labels)",
        )
    return split
