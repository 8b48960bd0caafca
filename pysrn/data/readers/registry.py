"""Which reader reads which data set: `read_splits` is all that `build.py` knows of annotation formats."""

from __future__ import annotations

from pathlib import Path

from pysrn.console import MissingError, UsageError, existing_folder, message
from pysrn.data.readers.coco import read_coco
from pysrn.data.readers.image_lists import read_image_lists
from pysrn.data.readers.nus_wide import read_nus_wide
from pysrn.data.readers.options import AVAILABLE, NO_OPTIONS, ReaderOptions
from pysrn.data.readers.own.formats import read_own
from pysrn.data.readers.records import AnnotatedSplit
from pysrn.data.readers.voc2007 import read_voc2007
from pysrn.data.readers.wider_attribute import read_wider_attribute
from pysrn.recipes import OWN_DATASET, class_names

SPLITS = ("train", "test")
COCO_PARTS = {"train": "train", "test": "val"}  # official repo, README: train2014 and val2014
CAN_DROP = ("coco", "nus_wide", "folder")  # `drop_unlabelled`; NUS-WIDE always does, as the paper
TABLES = ("nus_wide", "folder")  # `separator`; and `merge_alike`, which is for all lists, too


def read_splits(dataset: str, root: Path, options: ReaderOptions = NO_OPTIONS) -> dict[str, AnnotatedSplit]:
    """Read the annotations of all splits of a data set that lies in `root`; no image is opened.

    With `options.lists`, the folder of the authors' list files, these are read instead of the data set's own.
    Raises UsageError for an unknown data set or an option it does not know, MissingError for what is not there,
    SrnError for a damaged file.
    """
    check_options(dataset, options)
    root = existing_folder(root, f"folder of {dataset}")
    splits = _read(dataset, root, options)
    _say_shared_images(splits)
    return splits


def check_options(dataset: str, options: ReaderOptions) -> None:
    """Raise UsageError for an unknown data set or an option that it does not know."""
    if dataset not in AVAILABLE:
        raise UsageError(f"no reader for data set {dataset!r}; there are: {', '.join(AVAILABLE)}")
    if options.drop_unlabelled and dataset not in CAN_DROP:
        raise UsageError(f"--drop-unlabelled is not for {dataset}, only for {', '.join(CAN_DROP)}")
    if options.lists is not None and dataset == "shapes":
        raise UsageError("--lists is not for shapes, which is drawn")
    own = {"format": options.form, "coco-json": options.coco_json, "test-fraction": options.test_fraction}
    for name, value in own.items():
        if value is not None and (dataset != OWN_DATASET or options.lists is not None):
            raise UsageError(f"--{name} is for one's own data: folder, without --lists")
    if options.coco_json is not None and options.form not in (None, "coco"):
        raise UsageError(f"--coco-json is not for --format {options.form}")
    if options.test_fraction is not None and not 0 < options.test_fraction < 1:
        raise UsageError("--test-fraction must lie between 0 and 1")
    if options.merge_alike and dataset not in TABLES and options.lists is None:
        raise UsageError(f"--merge-alike is for tables ({', '.join(TABLES)}) and --lists: {dataset} has its own names")
    if options.separator is not None and (dataset not in TABLES or options.lists is not None):
        raise UsageError(f"--separator is for tables only: {', '.join(TABLES)}")
    if options.separator == "":
        raise UsageError("--separator: a sign is needed, for example '|'")


def _read(dataset: str, root: Path, options: ReaderOptions) -> dict[str, AnnotatedSplit]:
    if options.lists is not None:
        return read_image_lists(dataset, root, options)
    if dataset in TABLES:
        return read_own(root, options) if dataset == OWN_DATASET else read_nus_wide(root, options)
    drop = options.drop_unlabelled
    if dataset == "coco":
        return {split: _read_coco(root, split, drop) for split in SPLITS}
    read = {"shapes": _read_shapes, "voc2007": read_voc2007, "wider_attribute": read_wider_attribute}[dataset]
    return {split: read(root, split) for split in SPLITS}


def _read_shapes(root: Path, split: str) -> AnnotatedSplit:
    return read_coco(root / "annotations" / f"{split}.json", root / "images" / split, class_names("shapes"))


def _read_coco(root: Path, split: str, drop_unlabelled: bool) -> AnnotatedSplit:
    """COCO as distributed: `annotations/instances_train2014.json` and folder `train2014`, of any year."""
    part = COCO_PARTS[split]
    found = sorted(root.glob(f"annotations/instances_{part}*.json"))
    if len(found) != 1:
        pattern = root / "annotations" / f"instances_{part}<year>.json"
        there = f"there are {len(found)}" if found else "there is none"
        raise MissingError(f"annotation of the {split} split: one file {pattern} is needed, {there}")
    images = root / found[0].stem.removeprefix("instances_")
    return read_coco(found[0], images, class_names("coco"), drop_unlabelled=drop_unlabelled)


def _say_shared_images(splits: dict[str, AnnotatedSplit]) -> None:
    """A test image among the training images makes every result too good: say so, whoever made the split."""
    train = {str(sample.path) for sample in splits["train"].samples}
    shared = sorted({str(sample.path) for sample in splits["test"].samples} & train)
    if shared:
        message(f"warning: {len(shared)} images are in both train and test, the first: {shared[0]}")
