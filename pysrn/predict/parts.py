"""A prediction in parts, for machines that share nothing: each computes a run of the images, and the runs are joined.

A part begins where a chunk of the whole would, so the joined file is the whole's, byte for byte.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.predict.predictions import Predictions, load_predictions

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


def join(whole: Path) -> Predictions:
    """Join the parts beside `whole`, write and return it.

    Raises MissingError where one is not there, SrnError where they are not of one prediction, each image once.
    """
    numbered = _all_parts(whole)
    paths = [one.path(whole) for one in numbered]
    parts = [load_predictions(path) for path in paths]
    first, end, keys = parts[0], 0, []
    for one, path, part in zip(numbered, paths, parts, strict=True):
        match part.about.get(RECORDS):
            case [int(start), int(stop), int(total)] if len(part.keys) <= stop - start:
                pass
            case _:
                raise SrnError(f"{path} is no part: it does not say of which images", _again(one, whole))
        for what, of_part, of_first in (
            ("by other weights", part.about.get("weights_sha256"), first.about.get("weights_sha256")),
            ("of other data", part.about.get(OF_DATA), first.about.get(OF_DATA)),
            ("of a split of another size", total, first.about[RECORDS][2]),
            ("with other labels", part.classes, first.classes),
            ("with other scores", list(part.scores), list(first.scores)),
        ):
            if of_part != of_first:
                raise SrnError(f"{path} was made {what} than {paths[0]}", _again(one, whole))
        if start != end:
            raise SrnError(f"{path} begins at image {start}, not at {end}", "predict all with one --batch-size")
        if list(part.keys) != sorted(part.keys) or (keys and part.keys[0] <= keys[-1]):
            raise SrnError(f"{path}: its images are out of order, or in another part as well", _again(one, whole))
        keys += part.keys
        end = stop
    if end != first.about[RECORDS][2]:
        raise SrnError(f"{paths[-1]} ends at image {end} of {first.about[RECORDS][2]}", _again(numbered[-1], whole))
    about = {name: value for name, value in first.about.items() if name not in OF_PART}
    about |= {name: "\n".join(part.about[name] for part in parts) for name in JOINED if name in about}
    labels = None if first.labels is None else np.concatenate([part.labels for part in parts])
    scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in first.scores}
    found = Predictions(tuple(keys), first.classes, scores, labels, about)
    found.save(whole)
    return found


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
