"""Reader of list files: the authors' `*_imglist.txt` + `*_label.txt`, and one file of `NAME v1 v2 ... vC` lines.

Such files do not name their label columns: they are taken in the documented order of the data set, unless a
`classes.txt` beside them gives another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, UsageError, existing_folder, message
from pysrn.data.readers.label_text import labels_of, listed_namings, number_rows, printable, text_lines
from pysrn.data.readers.listed_images import LabelRows, annotated_split
from pysrn.data.readers.names.look_alikes import matched, one_spelling
from pysrn.data.readers.names.repeated_rows import LEFT_OUT, REFUSED
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.records import POSITIVE, AnnotatedSplit
from pysrn.recipes import OWN_DATASET, class_names

CLASSES_NAME = "classes.txt"
UNTAGGED_REMOVED = ("nus_wide",)  # official repo, README: "invalid and untagged images" are removed
VESPA_UNSPECIFIED = 4  # the 1/0/4 lists of WIDER-Attribute that circulate (asc-kit/vespa) mark "unspecified" so
_ENOUGH = 1000  # rows; assumed: enough for the commonest class to show


def read_image_lists(dataset: str, root: Path, options: ReaderOptions) -> dict[str, AnnotatedSplit]:
    """Read the train and test lists in `options.lists`; the names in them start from `root`.

    A `*_val_imglist.txt` of the authors is not read: it is a sample of the test split (official repo issue 8).
    Raises MissingError for a list or for images that are not there, SrnError for a damaged file, with its line.
    """
    folder = existing_folder(options.lists, "folder of the lists")
    names = _text_files(folder)
    classes, order = _classes(dataset, folder, options.merge_alike)
    paired = [name for name in names if re.search(r"_imglist\.txt(\.gz)?$", name)]
    chosen = _split_files(paired or names, folder, dataset, bool(paired))
    read = _read_pair if paired else _read_single
    splits = {}
    for split, files in chosen.items():
        parts = [read(folder / name, sum(map(len, order)), dataset) for name in files]
        if not (folder / CLASSES_NAME).is_file():
            _check_column_order(dataset, parts, classes)
        repeated = REFUSED if dataset == OWN_DATASET else LEFT_OUT
        parts = [replace(part.arranged(order), repeated=repeated) for part in parts]
        untagged = options.drop_unlabelled or dataset in UNTAGGED_REMOVED
        splits[split] = annotated_split(parts, root, classes, drop_unlabelled=untagged)
    return splits


def _text_files(folder: Path) -> list[str]:
    """Names of the text files that may be lists."""
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith((".txt", ".txt.gz")) and path.is_file())
    return [name for name in names if name != CLASSES_NAME]


def _split_files(names: list[str], folder: Path, dataset: str, paired: bool) -> dict[str, list[str]]:
    """Which files hold which split, by `train` and `test` in their names."""
    if not paired:  # a stray label file of the authors' form is no list
        names = [name for name in names if not re.search(r"_label\.txt(\.gz)?$", name)]
    found = {split: [name for name in names if split in name.lower()] for split in ("train", "test")}
    others = [name for name in names if "val" in name.lower() and name not in found["train"] + found["test"]]
    if not paired and dataset == "wider_attribute" and found["train"]:
        found["train"] += others  # the paper trains on train + val; official repo, README
        others = []
    elif not paired and dataset == "coco" and not found["test"]:
        found["test"], others = others, []  # val2014 is the test split; official repo, README
    form = "*{}*_imglist.txt" if paired else "*{}*.txt"
    for split, files in found.items():
        wanted = folder / form.format(split)
        if not files:
            raise MissingError(f"no list of the {split} split: {wanted} is needed")
        if len(files) > 1 and not (split == "train" and dataset == "wider_attribute" and not paired):
            raise UsageError(f"{len(files)} lists of the {split} split in {folder}: {', '.join(files)}; one is needed")
    if set(found["train"]) & set(found["test"]):
        raise UsageError(f"{folder / found['train'][0]}: train and test in one name; which split is it?")
    for name in others:
        message(f"{folder / name}: not read: the authors' val lists are a sample of the test split")
    return found


def _classes(dataset: str, folder: Path, merge_alike: bool) -> tuple[tuple[str, ...], list[list[int]]]:
    """The classes, and for each of them its column in the files (several, if look-alikes are merged)."""
    path = folder / CLASSES_NAME
    if not path.is_file():
        if dataset == OWN_DATASET:
            raise MissingError(f"no file {path}: lists do not name their label columns", "write it, one class a line")
        return class_names(dataset), [[column] for column in range(len(class_names(dataset)))]
    namings = listed_namings(path)
    kept = one_spelling(namings, merge_alike)
    if dataset == OWN_DATASET:
        classes = tuple(dict.fromkeys(kept.values()))
    else:
        classes = class_names(dataset)
        known = matched(set(kept.values()), classes)
        kept = {name: known[spelling] for name, spelling in kept.items()}
        if odd := sorted(set(kept.values()) ^ set(classes)):
            differing = printable(", ".join(odd), 300)
            raise SrnError(f"{path}: not the {len(classes)} classes of {dataset}; differing: {differing}")
    own = [kept[naming.name] for naming in namings]
    return classes, [[column for column, name in enumerate(own) if name == wanted] for wanted in classes]


def _read_pair(path: Path, columns: int, dataset: str) -> LabelRows:
    """The authors' form: `NAME TAG` lines, and the label rows in a second file."""
    label_path = path.with_name(path.name.replace("_imglist.txt", "_label.txt"))
    lines, rows = text_lines(path), text_lines(label_path)
    if len(lines) != len(rows):
        raise SrnError(f"{path} has {len(lines)} lines and {label_path} has {len(rows)}: a line an image is needed")
    values = number_rows(rows, label_path)
    if values.shape[1] != columns:
        raise SrnError(f"{label_path} line 1: {values.shape[1]} labels; {dataset} has {columns}")
    numbers = range(1, len(lines) + 1)
    labels = labels_of(values, label_path, numbers)
    names, tags = [], []
    for line in lines:
        name, _, tag = line.strip().rpartition(" ")
        tagged = bool(re.fullmatch(r"[+-]?\d{1,9}", tag)) and bool(name.strip())
        names.append(name.strip() if tagged else line.strip())
        tags.append(int(tag) if tagged else None)
    _check_tags(path, tags, values)
    return LabelRows(path, names, labels, numbers, (label_path,))


def _check_tags(path: Path, tags: Sequence[int | None], values: np.ndarray) -> None:
    """The number behind a name is the sum of its labels (official repo, tools/create_label_lmdb.py asserts it).

    A number that is the same on every line is that of an ordinary Caffe image list and says nothing.
    """
    given = [row for row, tag in enumerate(tags) if tag is not None]
    stated = np.array([tags[row] for row in given])
    if not given or (len(given) > 1 and (stated == stated[0]).all()):
        return
    sums = values[given].sum(1)
    positives = (values[given] == POSITIVE).sum(1)
    if (stated == positives).all():
        return
    wrong = np.flatnonzero(stated != sums)
    if len(wrong):
        row = int(wrong[0])
        raise SrnError(
            f"{path} line {given[row] + 1}: the number behind the name is {stated[row]}, but its labels sum to "
            f"{sums[row]:.0f}: the list and the label file do not belong together"
        )


def _read_single(path: Path, columns: int, dataset: str) -> LabelRows:
    """One file: `NAME v1 v2 ... vC`, the labels divided by white space or commas."""
    names, rows = [], []
    for number, line in enumerate(text_lines(path), 1):
        fields = line.replace(",", " ").rsplit(None, columns)
        name = fields[0] if len(fields) == columns + 1 else ""
        if not name or re.search(r"\s[+-]?[\d.]+$", name) or re.fullmatch(r"[+-]?[01](\.0*)?", name):
            found = max(0, len(line.replace(",", " ").split()) - 1)
            raise SrnError(f"{path} line {number}: {found} labels behind the name; {dataset} has {columns}")
        names.append(line[: len(name)])
        rows.append(" ".join(fields[1:]))
    values = number_rows(rows, path)
    unspecified = None
    if dataset == "wider_attribute" and (values == VESPA_UNSPECIFIED).any():
        unspecified = VESPA_UNSPECIFIED
        message(f"{path}: labels are 1/0/{unspecified}, so {unspecified} is read as unspecified")
    return LabelRows(
        path, names, labels_of(values, path, range(1, len(rows) + 1), unspecified), range(1, len(rows) + 1)
    )


def _check_column_order(dataset: str, parts: Sequence[LabelRows], classes: Sequence[str]) -> None:
    """COCO's commonest class by far is `person`, so its column shows the order; refuses the alphabetical one."""
    if dataset != "coco" or sum(len(part.names) for part in parts) < _ENOUGH:
        return
    commonest = int(sum((part.labels == POSITIVE).sum(0) for part in parts).argmax())
    if commonest != classes.index("person"):
        hint = "the alphabetical order has it there; " if sorted(classes)[commonest] == "person" else ""
        raise SrnError(
            f"{parts[0].source}: label column {commonest + 1} is the commonest, which should be 'person', column "
            f"{classes.index('person') + 1} in COCO's order: {hint}the columns are in another order",
            f"write their names into {parts[0].source.with_name(CLASSES_NAME)}, one a line",
        )
