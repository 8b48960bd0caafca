"""Which reader reads which data set: `read_splits` is all that `build.py` knows of annotation formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pysrn.console import MissingError, UsageError
from pysrn.data.coco import read_coco
from pysrn.data.records import AnnotatedSplit
from pysrn.recipes import class_names

SPLITS = ("train", "test")
AVAILABLE = ("shapes", "coco")
COCO_PARTS = {"train": "train", "test": "val"}  # official repo, README: train2014 and val2014


@dataclass(frozen=True)
class ReaderOptions:
    """How to read: what only some data sets know. See `tools/make_lmdb.py --help`."""

    drop_unlabelled: bool = False
    lists: Path | None = None


NO_OPTIONS = ReaderOptions()


def read_splits(dataset: str, root: Path, options: ReaderOptions = NO_OPTIONS) -> dict[str, AnnotatedSplit]:
    """Read the annotations of all splits of a data set that lies in `root`; no image is opened.

    Raises UsageError for an unknown data set or an option it does not know, MissingError for what is not there,
    SrnError for a damaged file.
    """
    if dataset not in AVAILABLE:
        raise UsageError(f"no reader for data set {dataset!r}; there are: {', '.join(AVAILABLE)}")
    read = _read_shapes if dataset == "shapes" else _read_coco
    return {split: read(root, split) for split in SPLITS}


def _read_shapes(root: Path, split: str) -> AnnotatedSplit:
    return read_coco(root / "annotations" / f"{split}.json", root / "images" / split, class_names("shapes"))


def _read_coco(root: Path, split: str) -> AnnotatedSplit:
    """COCO as distributed: `annotations/instances_train2014.json` and folder `train2014`, of any year."""
    part = COCO_PARTS[split]
    found = sorted(root.glob(f"annotations/instances_{part}*.json"))
    if len(found) != 1:
        pattern = root / "annotations" / f"instances_{part}<year>.json"
        raise MissingError(f"{len(found)} annotation files for the {split} split: exactly one {pattern} is needed")
    return read_coco(found[0], root / found[0].stem.removeprefix("instances_"), class_names("coco"))
