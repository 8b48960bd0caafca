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

from pysrn.console import MissingError, message
from pysrn.data.readers.annotation_checks import key_names, shown
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.records import POSITIVE, AnnotatedSplit, Sample

FOLDERS = (".", "Flickr", "images", "Images", "image", "Image")  # below the root; assumed: what copies of data sets use
ENDINGS = (".jpg", ".jpeg", ".png")  # tried for names without one
_PROBES = 64  # names that are looked for to learn where the images lie


@dataclass(frozen=True)
class LabelRows:
    """The rows of one annotation: `names[i]` stands on line `lines[i]` of `source` and has `labels[i]`, int8.

    `label_files`: where the labels stand, if not in `source`.
    """

    source: Path
    names: list[str]
    labels: np.ndarray
    lines: Sequence[int]
    label_files: tuple[Path, ...] = ()

    def chosen(self, rows: Iterable[int]) -> LabelRows:
        """Only these rows."""
        rows = list(rows)
        names, lines = [self.names[row] for row in rows], [self.lines[row] for row in rows]
        return replace(self, names=names, labels=self.labels[rows], lines=lines)


def annotated_split(
    parts: Sequence[LabelRows], root: Path, classes: Sequence[str], *, drop_unlabelled: bool = False
) -> AnnotatedSplit:
    """The samples of a split, in the order of its files; `left_out` names what cannot be used, with the reason.

    Left out are names that are not UTF-8 or lead out of `root`; repetitions of a name (all of its rows where their
    labels differ: nobody knows which are right); and, with `drop_unlabelled`, images without a positive label.
    Raises MissingError when nothing is left or none of the images is found.
    """
    left_out: list[tuple[str, str]] = []
    files: list[str] = []
    names: list[str] = []
    rows: list[np.ndarray] = []
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
        base, found = _located(chosen.names, root, part.source)
        files += [f"{base}/{name}" for name in found]
        names += found
        rows.append(chosen.labels)
    labels = np.concatenate(rows)
    keep = _without_repetitions(files, labels, left_out)
    if drop_unlabelled:
        labelled = (labels == POSITIVE).any(1)
        left_out += [(files[row], "no label") for row in keep if not labelled[row]]
        keep = [row for row in keep if labelled[row]]
    sources = tuple(path for part in parts for path in (part.source, *part.label_files))
    if not keep:
        raise MissingError(f"{sources[0]}: no usable image is left; first, {shown(left_out[0][0])}: {left_out[0][1]}")
    keys = key_names(PurePosixPath(names[row]) for row in keep)
    samples = [Sample(key, Path(files[row]), labels[row]) for key, row in zip(keys, keep, strict=True)]
    return AnnotatedSplit(samples, tuple(classes), left_out=left_out, sources=sources)


def _bad_name(name: str) -> str | None:
    """Why a name cannot be that of an image of the data set, or None."""
    parts = _parts(name)
    if not parts:
        return "no file name"
    if not name.isascii() and any("\ud800" <= sign <= "\udfff" for sign in name):
        return "the file name is not UTF-8"
    if min(name.strip()) < " ":
        return "the file name has control characters"
    return "the file name leads out of the folder" if ".." in parts else None


def _parts(name: str) -> list[str]:
    """Folders and file name; Windows' separators count too, as NUS-WIDE's lists have them."""
    return [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]


def _located(names: list[str], root: Path, source: Path) -> tuple[Path, list[str]]:
    """Where the images are: `root` or a folder of `FOLDERS` in it, and the names with some leading folders off.

    Lists that circulate carry the folders of another machine. One rule is chosen for a file: that by which most of
    `_PROBES` names, spread evenly, are found. Raises MissingError when none is.
    """
    probes = [_parts(names[int(index)]) for index in np.linspace(0, len(names) - 1, min(_PROBES, len(names)))]
    endings = ("",) if any("." in parts[-1] for parts in probes if parts) else ("", *ENDINGS)
    bases = [root / folder for folder in FOLDERS if (root / folder).is_dir()]
    if any(name.strip().startswith("/") for name in names[:1]):
        bases.append(Path("/"))
    best, rule = 0, (root, 0, "")
    for off in range(max(map(len, probes), default=0)):
        for base in bases:
            for ending in endings:
                tails = ["/".join(parts[off:]) + ending for parts in probes if len(parts) > off]
                found = sum(os.path.isfile(base / tail) for tail in tails)  # takes names that no file can have
                if found > best:
                    best, rule = found, (base, off, ending)
    if not best:
        first = "/".join(probes[0])
        looked = ", ".join(str(base / (first + endings[-1])) for base in bases[:3])
        raise MissingError(
            f"{source}: none of {len(probes)} images is below {root}; looked for {printable(looked, 300)}, and so on, "
            "also without leading folders",
            "give the folder that the names in the file start from as --root",
        )
    base, off, ending = rule
    if off:
        message(f"{source}: images found in {base} without the {off} leading folders of their names")
    parts_of = (_parts(name) for name in names)
    return base, ["/".join(parts[off:] or parts[-1:]) + ending for parts in parts_of]


def _without_repetitions(files: list[str], labels: np.ndarray, left_out: list[tuple[str, str]]) -> list[int]:
    """Indices of the rows to keep; appends the others to `left_out`."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(files):
        rows_of.setdefault(name, []).append(row)
    keep, contradictory = [], 0
    for name, rows in rows_of.items():
        if len(rows) == 1:
            keep += rows
        elif (labels[rows] == labels[rows[0]]).all():
            keep.append(rows[0])
            left_out += [(name, "listed twice")] * (len(rows) - 1)
        else:
            contradictory += 1
            left_out += [(name, f"listed several times with different labels: {len(rows)}")] * len(rows)
    if contradictory:
        message(f"{contradictory} names are listed several times with different labels: left out")
    return sorted(keep)
