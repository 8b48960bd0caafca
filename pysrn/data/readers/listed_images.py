"""What all list-like annotation files share: from names and a label matrix to an `AnnotatedSplit`.

`image_lists.py`, `label_table.py` and `nus_wide.py` parse their files (`label_text.py`) and hand the rows to
`annotated_split`, which finds the images and leaves out what cannot be used, each with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from pysrn.console import MissingError
from pysrn.data.readers.annotation_checks import key_names, shown
from pysrn.data.readers.label_text import is_utf8, printable
from pysrn.data.readers.names.image_places import image_folders, located, name_parts
from pysrn.data.readers.names.repeated_rows import LEFT_OUT, without_repetitions
from pysrn.data.readers.records import NEGATIVE, POSITIVE, AnnotatedSplit, Sample


@dataclass(frozen=True)
class LabelRows:
    """The rows of one annotation: `names[i]` stands on line `lines[i]` of `source` and has `labels[i]`, int8.

    `label_files`: where the labels stand, if not in `source`; `repeated`: see `repeated_rows.py`.
    """

    source: Path
    names: list[str]
    labels: np.ndarray
    lines: Sequence[int]
    label_files: tuple[Path, ...] = ()
    repeated: str = LEFT_OUT

    def chosen(self, rows: Iterable[int]) -> LabelRows:
        """Only these rows."""
        rows = list(rows)
        names, lines = [self.names[row] for row in rows], [self.lines[row] for row in rows]
        return replace(self, names=names, labels=self.labels[rows], lines=lines)

    def arranged(self, columns: Iterable[Sequence[int]]) -> LabelRows:
        """With label columns made of such columns: 1 before 0 before -1 where there are several, -1 where none is."""
        absent = np.full(len(self.labels), NEGATIVE, np.int8)
        made = [self.labels[:, own].max(1) if own else absent for own in columns]
        return replace(self, labels=np.stack(made, 1))


def annotated_split(
    parts: Sequence[LabelRows], root: Path, classes: Sequence[str], *, drop_unlabelled: bool = False, split: str = ""
) -> AnnotatedSplit:
    """The samples of a split, in the order of its files; `left_out` names what cannot be used, with the reason.

    Left out are names that are not UTF-8 or lead out of `root`; what an image's further rows say again, or (see
    `LabelRows.repeated`) all rows of one whose labels differ; and, with `drop_unlabelled`, images without a positive
    label. With `split`, images may lie in a folder of that name as well.
    Raises MissingError when nothing is left or none of the images is found, SrnError for contradicting rows and, where
    rows are not left out, for images of two folders that come to one file.
    """
    left_out: list[tuple[str, str]] = []
    files: list[str] = []
    names: list[str] = []
    rows: list[np.ndarray] = []
    places: list[tuple[Path, int]] = []
    for part in parts:
        usable = []
        for row, name in enumerate(part.names):
            reason = _bad_name(name)
            if reason:
                left_out.append((name, f"{reason}: {part.source.name} line {part.lines[row]}"))
            else:
                usable.append(row)
        if not usable:
            raise MissingError(f"{part.source}: no usable image name in {len(part.names)} lines")
        chosen = part.chosen(usable)
        lines = [f"line {line}" for line in chosen.lines] if part.repeated != LEFT_OUT else None
        base, found = located(chosen.names, image_folders(root, part.source, split), root, part.source, lines)
        odd = [row for row, name in enumerate(found) if not is_utf8(name) and not os.path.isfile(f"{base}/{name}")]
        if odd:  # neither are there files of such bytes
            reason = f"the file name is not UTF-8: {part.source.name} line"
            left_out += [(chosen.names[row], f"{reason} {chosen.lines[row]}") for row in odd]
            good = sorted({*range(len(found))} - {*odd})
            chosen, found = chosen.chosen(good), [found[row] for row in good]
        files += [f"{base}/{name}" for name in found]
        names += found
        rows.append(chosen.labels)
        places += [(part.source, line) for line in chosen.lines]
    labels = np.concatenate(rows)
    classes = tuple(printable(name, None) for name in classes)
    keep = without_repetitions(files, labels, places, parts[0].repeated, classes, left_out)
    if drop_unlabelled:
        labelled = (labels == POSITIVE).any(1)
        left_out += [(files[row], "no label") for row in keep if not labelled[row]]
        keep = [row for row in keep if labelled[row]]
    sources = tuple(path for part in parts for path in (part.source, *part.label_files))
    if not keep:
        raise MissingError(f"{sources[0]}: no usable image is left; first, {shown(left_out[0][0])}: {left_out[0][1]}")
    keys = key_names(PurePosixPath(names[row]) for row in keep)
    samples = [Sample(key, Path(files[row]), labels[row]) for key, row in zip(keys, keep, strict=True)]
    return AnnotatedSplit(samples, classes, left_out=left_out, sources=sources)


def _bad_name(name: str) -> str | None:
    """Why a name cannot be that of an image of the data set, or None."""
    if ".." in name.replace("\\", "/").split("/"):
        return "the file name leads out of the folder"
    if not name_parts(name):
        return "no file name"
    return "the file name has control characters" if min(name.strip()) < " " else None
