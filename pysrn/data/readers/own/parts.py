"""The parts of a data set that annotation tools export: found by their names, and made into train and test."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from pysrn.console import MissingError, UsageError, message
from pysrn.data.readers.own.named_images import NamedSplit
from pysrn.data.readers.records import PARTS

WHOLE = "all"  # a data set that is not divided
_PART = re.compile(rf"(?<![a-z])({'|'.join(sorted(PARTS, key=len, reverse=True))})(?![a-z])")


@dataclass(frozen=True)
class NamedFormat:
    """A format: `find` maps train, val, test or `WHOLE` to where that part lies, nothing where it is not of the format;
    `read(root, place)` reads a part."""

    title: str
    find: Callable[[Path], dict[str, Any]]
    read: Callable[[Path, Any], NamedSplit]


def part_of(path: PurePath) -> str:
    """Which part of a data set a file belongs to, by its name or, where that says nothing, by its folders'."""
    for word in (path.stem, *reversed(path.parts[:-1])):
        found = {PARTS[part] for part in _PART.findall(word.lower())}
        if found:
            return found.pop() if len(found) == 1 else WHOLE
    return WHOLE


def read_parts(
    form: NamedFormat, root: Path, parts: Mapping[str, Any], test_fraction: float | None
) -> dict[str, NamedSplit]:
    """The train and the test split. Where there is no test part, val is taken, or `test_fraction` of the images.

    Raises MissingError where there is neither, UsageError for a fraction that is not needed.
    """
    train = parts.get("train", parts.get(WHOLE))
    held_out = next((part for part in ("test", "val") if part in parts), None)
    if test_fraction is not None:
        if held_out or train is None:
            raise UsageError(f"--test-fraction: {root} has the parts {', '.join(parts)}", "leave it out")
        return _divided(form.read(root, train), test_fraction)
    if train is None or held_out is None or "train" not in parts:
        there = "is not divided" if WHOLE in parts else f"has only the part {', '.join(parts)}"
        raise MissingError(
            f"{root}: {form.title} that {there}: train and test (or valid) are needed",
            "put them into folders train/ and test/, or give --test-fraction 0.2 to hold out a fifth by chance",
        )
    if held_out == "val":
        message(f"{root}: there is no test part: its validation part is the test split")
    elif "val" in parts:
        message(f"{root}: its validation part is not read")
    return {"train": form.read(root, train), "test": form.read(root, parts[held_out])}


def _divided(whole: NamedSplit, fraction: float) -> dict[str, NamedSplit]:
    """A part of the images for test, by a hash of their names: so new images move no others."""
    ranked = sorted(whole.images, key=lambda image: hashlib.sha256(str(image.name).encode(errors="replace")).digest())
    count = round(len(ranked) * fraction)
    if not 0 < count < len(ranked):
        raise UsageError(f"--test-fraction {fraction}: of {len(ranked)} images that leaves none for train or for test")
    test = {id(image) for image in ranked[:count]}
    message(f"{whole.where}: {count} of {len(ranked)} images held out as the test split")
    return {
        "train": replace(whole, images=[image for image in whole.images if id(image) not in test]),
        "test": replace(whole, images=[image for image in whole.images if id(image) in test], left_out=[]),
    }
