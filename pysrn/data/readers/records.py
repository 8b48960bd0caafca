"""What a sample is: an image file (or a box in it), its name and its label vector.

Readers (`coco.py` ...) make Samples out of annotation files; `lmdb_pair.py` turns them into databases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pysrn.later import later

np = later("numpy")


POSITIVE, UNSPECIFIED, NEGATIVE = 1, 0, -1  # label values; WIDER-Attribute knows all three
PARTS = {  # what files, folders and cells call the parts of one's own data
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "val"),
}


@dataclass(frozen=True)
class Naming:
    """A class name, and where (`line 3`) which file first has it; `images`: on how many of its rows.

    `listed`: in a list of the classes, whose spelling is the right one.
    """

    name: str
    file: Path
    where: str
    images: int = 0
    listed: bool = False

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file} {self.where}"


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its labels.

    `labels` is int8 of shape (C,) with 1 = has it, -1 = has it not, 0 = unspecified; `box` is (x, y, width,
    height) in pixels where only that part of the image is the sample.
    """

    key_name: str
    path: Path
    labels: np.ndarray
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ObjectBox:
    """Where a label is in an image: (x, y, width, height) in pixels of the image file, or relative to its sides."""

    label: int
    box: tuple[float, float, float, float]
    relative: bool = False


@dataclass(frozen=True)
class AnnotatedSplit:
    """What the annotation of a split holds: the samples, the class names and, by key_name, the boxes.

    `left_out` lists what the reader removed as (file, reason), for `skipped.csv`; `sources` are the annotation
    files, whose hashes go into the manifest.
    """

    samples: list[Sample]
    classes: tuple[str, ...]
    boxes: dict[str, list[ObjectBox]] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    sources: tuple[Path, ...] = ()
