"""Where the images of a list lie: the names in it start from another machine's folders, or have no ending."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pysrn.console import MissingError, message
from pysrn.data.readers.label_text import printable

FOLDERS = (".", "Flickr", "images", "Images", "image", "Image")  # below the root; assumed: what copies of data sets use
# Of the images of a split; `val` is the test split of a data set that has no other.
SPLIT_FOLDERS = {"train": ("train", "Train"), "test": ("test", "Test"), "val": ("valid", "val", "validation", "Val")}
# Tried for names without one, in any case; assumed: the commoner first, of what OpenCV may read.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif", ".jpe", ".jp2", ".avif", ".ppm")
_PROBES = 64  # names that are looked for to learn where the images lie


def name_parts(name: str) -> list[str]:
    """Folders and file name; Windows' separators count too, as NUS-WIDE's lists have them."""
    return [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]


def probed(names: Sequence[Any]) -> list[Any]:
    """Of many names so few that they can be looked for in many places, spread evenly."""
    return [names[int(index)] for index in np.linspace(0, len(names) - 1, min(_PROBES, len(names)))]


def image_folders(root: Path, source: Path, split: str) -> list[Path]:
    """The folders that images may lie in, those tried first in front."""
    bases = [root / folder for folder in FOLDERS]
    if split:
        if source.parent != root and source.is_relative_to(root):
            bases.insert(0, source.parent)  # a table beside its images
        parts = SPLIT_FOLDERS[split] if split == "train" else (*SPLIT_FOLDERS["test"], *SPLIT_FOLDERS["val"])
        bases += [path for part in parts for base in FOLDERS for path in (root / base / part, root / part / base)]
    return [base for base in dict.fromkeys(bases) if base.is_dir()]


def located(names: list[str], bases: list[Path], root: Path, source: Path) -> tuple[Path, list[str]]:
    """Which of `bases` the images are in, and the names with some leading folders off and the file's ending on.

    Lists that circulate carry the folders of another machine. One rule is chosen for a file: that by which most of
    `_PROBES` names, spread evenly, are found. Raises MissingError when none is.
    """
    probes = [name_parts(name) for name in probed(names)]
    bases = [*bases, Path("/")] if any(name.strip().startswith("/") for name in names[:1]) else bases
    endings_in = cache(_endings_in)
    best, rule = 0, (root, 0, [])
    for off in range(max(map(len, probes), default=0)):
        for base in bases:
            tails = ["/".join(parts[off:]) for parts in probes if len(parts) > off]
            found = [endings for tail in tails if (endings := _endings(base, tail, endings_in))]
            if len(found) > best:
                best, rule = len(found), (base, off, found)
    if not best:
        first = "/".join(probes[0])
        ending = "" if _is_named(first) else ENDINGS[0]
        looked = ", ".join(str(base / (first + ending)) for base in bases[:3])
        raise MissingError(
            f"{source}: none of {len(probes)} images is below {root}; looked for {printable(looked, 300)}, and so on, "
            "also without leading folders",
            "give the folder that the names in the file start from as --root",
        )
    base, off, found = rule
    if off:
        message(f"{source}: images found in {base} without the {off} leading folders of their names")
    tails = ["/".join(parts[off:] or parts[-1:]) for parts in map(name_parts, names)]
    times = Counter(ending for endings in found for ending in endings if ending)
    if not times:
        return base, tails
    usual = sorted(times, key=lambda ending: (-times[ending], ENDINGS.index(ending.lower()), ending))

    def with_ending(tail: str) -> str:
        there = _endings(base, tail, endings_in) or ("" if _is_named(tail) else usual[0],)
        return tail + next((ending for ending in ("", *usual) if ending in there), there[0])

    return base, list(map(with_ending, tails))


def _is_named(name: str) -> bool:
    """Whether a name ends as an image's does; a dot alone, as in `scan.0001`, is no ending."""
    return PurePosixPath(name).suffix.lower() in ENDINGS


def _endings(base: Path, tail: str, endings_in: Callable[[str], Mapping[str, list[str]]]) -> Sequence[str]:
    """What can be put behind a name so that it is a file in `base`; "" where it is one."""
    if os.path.isfile(base / tail):  # takes names that no file can have
        return ("",)
    folder, _, stem = tail.rpartition("/")
    return () if _is_named(tail) else endings_in(str(base / folder)).get(stem, ())


def _endings_in(folder: str) -> Mapping[str, list[str]]:
    """Image files of a folder: name without the ending -> its endings, as they are written."""
    found: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() in ENDINGS and entry.is_file():
                    found.setdefault(stem, []).append(ending)
    except (OSError, ValueError):  # there is none, or none can have this name
        return {}
    return found
