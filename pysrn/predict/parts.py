"""A prediction in parts, for machines that share nothing: each computes a run of the images, and the runs are joined.

A part begins where a chunk of the whole would, so the joined file is the whole's, byte for byte.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.precision import PRECISION
from pysrn.predict.columns import Column, Outline, checked, read_columns, write_columns
from pysrn.predict.predictions import NO_SCORES

RECORDS = "records"  # in `about` of a part: its first image, the one after its last, those of the whole
OF_DATA = "data_sha256"  # likewise: parts of other data do not belong together
OF_PART = (RECORDS, OF_DATA)
JOINED = ("files", "found")  # in `about` of photos: a line an image


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `count`."""

    number: int
    count: int

    @classmethod
    def of_text(cls, text: str) -> Part:
        """I/N; ValueError for anything else."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(text)
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def span(self, images: int, unit: int) -> range:
        """Its images, of so many: whole units but for the last; UsageError where there are more parts than units."""
        units = -(-images // unit)
        if self.count > units:
            raise UsageError(f"{images} images are {units} times {unit}: too few for {self.count} parts")
        first, last = (units * number // self.count * unit for number in (self.number - 1, self.number))
        return range(first, min(last, images))

    def path(self, whole: Path) -> Path:
        """Its file, beside that of the whole."""
        return whole.with_name(f"{whole.stem}.part{self.number}of{self.count}{whole.suffix}")


def join(whole: Path) -> Outline:
    """Join the parts beside `whole` and write it; memory does not grow with the images.

    Raises MissingError where one is not there, SrnError where they are not of one prediction, each image once.
    """
    numbered = _all_parts(whole)
    paths = [one.path(whole) for one in numbered]
    parts = [read_columns(path) for path in paths]
    (about, first), end = parts[0], 0
    classes = tuple(first["classes"].texts())
    for one, path, (said, part) in zip(numbered, paths, parts, strict=True):
        images = part["keys"].shape[0]
        match said.get(RECORDS):
            case [int(start), int(stop), int(total)] if images <= stop - start:
                pass
            case _:
                raise SrnError(f"{path} is no part: it does not say of which images", _again(one, whole))
        for what, of_part, of_first in (
            ("by other weights", said.get("weights_sha256"), about.get("weights_sha256")),
            ("of other data", said.get(OF_DATA), about.get(OF_DATA)),
            ("in another precision", said.get(PRECISION), about.get(PRECISION)),
            ("of a split of another size", total, about[RECORDS][2]),
            ("with other labels", tuple(part["classes"].texts()), classes),
            ("with other scores", _kinds(part), _kinds(first)),
        ):
            if of_part != of_first:
                raise SrnError(f"{path} was made {what} than {paths[0]}", _again(one, whole))
        if any(part[name].shape != (images, len(classes)) for name in _kinds(part)):
            raise SrnError(f"{path} has other rows or columns than images and labels", _again(one, whole))
        if start != end:
            raise SrnError(f"{path} begins at image {start}, not at {end}", "predict all with one --batch-size")
        end = stop
    if end != about[RECORDS][2]:
        raise SrnError(f"{paths[-1]} ends at image {end} of {about[RECORDS][2]}", _again(numbered[-1], whole))
    last = ""
    for one, path, (_, part) in zip(numbered, paths, parts, strict=True):
        for key in part["keys"].texts():
            if key <= last:
                raise SrnError(f"{path}: its images are out of order, or in another part as well", _again(one, whole))
            last = key
    joined = {name: value for name, value in about.items() if name not in OF_PART}
    joined |= {name: "\n".join(said[name] for said, _ in parts) for name in JOINED if name in about}
    rows = sum(part["keys"].shape[0] for _, part in parts)

    def column(name: str, dtype: np.dtype, *more: int) -> Column:
        def blocks() -> Iterator[np.ndarray]:
            for path, (_, part) in zip(paths, parts, strict=True):
                found = part[name].blocks()
                yield from found if name == "keys" else checked(name, found, classes, "row {}".format, path)

        return Column(dtype, (rows, *more), blocks)

    text = max((part["keys"].dtype for _, part in parts), key=lambda dtype: dtype.itemsize)
    columns = {"keys": column("keys", text), "classes": first["classes"]}
    columns |= {name: column(name, first[name].dtype, len(classes)) for name in _kinds(first)}
    write_columns(whole, joined, columns)
    scores = tuple(name for name in columns if name not in NO_SCORES)
    return Outline(rows, classes, scores, read_columns(whole)[1][scores[-1]])


def _kinds(columns: Mapping[str, Column]) -> dict[str, str]:
    """The scores and labels with what numbers they are; floating point but for the labels."""
    kinds = {name: column.dtype.str for name, column in columns.items() if name not in ("keys", "classes")}
    return {name: kind if (kind[1] == "f") != (name == "labels") else "no numbers" for name, kind in kinds.items()}


def _all_parts(whole: Path) -> Sequence[Part]:
    """The parts beside a whole, in order: all that the names of their files promise."""
    name = re.compile(re.escape(whole.stem) + r"\.part\d{1,9}of(\d{1,9})" + re.escape(whole.suffix))
    found = map(name.fullmatch, (path.name for path in whole.parent.glob("*")))
    counts = sorted({int(one[1]) for one in found if one})
    if not counts:
        raise MissingError(
            f"no parts of {whole}: no {Part(1, 2).path(whole).name} or the like", "tools/predict.py --part"
        )
    if len(counts) > 1:
        raise SrnError(f"{whole.parent} has parts of {' and of '.join(map(str, counts))}", "delete those not meant")
    wanted = [Part(number, counts[0]) for number in range(1, counts[0] + 1)]
    if absent := [part for part in wanted if not part.path(whole).is_file()]:
        few = ", ".join(map(str, absent[:6])) + (", ..." if len(absent) > 6 else "")
        raise MissingError(
            f"{len(absent)} of {counts[0]} parts of {whole} are missing: {few}", _again(absent[0], whole)
        )
    return wanted


def _again(part: Part, whole: Path) -> str:
    file = shlex.quote(str(part.path(whole)))
    return f"predict it again, with the words of before: --part {part} (its file: {file})"
