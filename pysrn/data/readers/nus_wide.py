"""Reader of NUS-WIDE, as distributed (ImageList, Concepts81.txt, TrainTestLabels or AllLabels) or as one or two tables.

Images without a label are removed, as the paper does, and listed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, existing_folder, message
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.label_table import LabelTable
from pysrn.data.readers.label_text import class_list, labels_of, number_rows, printable, text_lines
from pysrn.data.readers.listed_images import LabelRows, annotated_split
from pysrn.data.readers.names.image_places import FOLDERS
from pysrn.data.readers.names.look_alikes import matched, one_spelling
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.records import POSITIVE, AnnotatedSplit
from pysrn.data.readers.split_tables import check_cells, read_split_tables
from pysrn.recipes import class_names

LISTS = {"train": "TrainImagelist.txt", "test": "TestImagelist.txt"}
ALL_LIST = "Imagelist.txt"
PARTS = {"train": "Train", "test": "Test"}  # in the names of the label files
# A table that circulates has these headers swapped: they stand in the order of the label files' names.
SWAPPED = (("sun", "sunset"), ("water", "waterfall"))
_ENOUGH = 1000  # rows; assumed: enough for the commoner of two classes to show


def read_nus_wide(root: Path, options: ReaderOptions) -> dict[str, AnnotatedSplit]:
    """Read both splits; the images are in `root`, or in `Flickr`, `images` or `Images` in it.

    A table's names may be spelled otherwise (`Traffic_Light`), but no two alike, unless `merge_alike`.
    Raises MissingError for files or images that are not there, SrnError for a damaged file, with its line.
    """
    root = existing_folder(root, "folder of NUS-WIDE")
    classes = class_names("nus_wide")
    folders = _folders(root)
    _check_concepts(folders, classes)
    if _found(folders, LISTS["train"]) is None and any(root.glob("*.[ct]sv")):
        tables = read_split_tables(root, options.separator)
        check_cells(dict.fromkeys(tables.values()), classes, options.separator)
        right = {table: _unswapped(_documented(table, classes, options.merge_alike)) for table in tables.values()}
        parts = {split: right[table].part(split) for split, table in tables.items()}
    else:
        parts = {split: _distributed(root, folders, split, classes) for split in LISTS}
    return {split: annotated_split([part], root, classes, drop_unlabelled=True) for split, part in parts.items()}


def _documented(table: LabelTable, classes: tuple[str, ...], merge_alike: bool) -> LabelTable:
    """The table under the documented names and in their order."""
    table = table.renamed(one_spelling(table.namings, merge_alike))
    return table.renamed(matched(table.classes, classes)).in_order(classes)


def _folders(root: Path) -> list[Path]:
    """`root` and the folders down to two levels below it, but those of images."""
    found = [root]
    for folder in _below(root):
        if folder.name not in FOLDERS:
            found += [folder, *_below(folder)]
    return found


def _below(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        # Hundreds of thousands of images may lie here, and links that lead nowhere.
        return sorted(Path(e.path) for e in entries if not e.is_file(follow_symlinks=False) and os.path.isdir(e.path))


def _found(folders: list[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _check_concepts(folders: list[Path], classes: tuple[str, ...]) -> None:
    """The list of the concepts, where there is one, against the documented classes."""
    path = _found(folders, "Concepts81.txt")
    if path is None:
        return
    odd = set(class_list(path)) ^ set(classes)
    if odd:
        raise SrnError(f"{path}: not the {len(classes)} concepts; differing: {printable(', '.join(sorted(odd)), 200)}")


def _distributed(root: Path, folders: list[Path], split: str, classes: tuple[str, ...]) -> LabelRows:
    """Names from the image list and a label file a concept, one line an image."""
    image_list = _found(folders, LISTS[split])
    if image_list is None:
        raise MissingError(f"no {LISTS[split]} and no CSV file: looked in {root} and two levels below")
    names = _names(image_list)
    lines = range(1, len(names) + 1)
    files = [f"Labels_{name}_{PARTS[split]}.txt" for name in classes]
    if _found(folders, files[0]) is not None:
        labels, paths = _columns(folders, files, len(names), image_list)
        return LabelRows(image_list, names, labels, lines, paths)
    files = [f"Labels_{name}.txt" for name in classes]
    if _found(folders, files[0]) is None:
        raise MissingError(
            f"no TrainTestLabels/Labels_{classes[0]}_{PARTS[split]}.txt and no AllLabels/{files[0]}: "
            f"looked in {root} and two levels below"
        )
    all_list = _found(folders, ALL_LIST)
    if all_list is None:
        raise MissingError(f"no {ALL_LIST}, whose lines the files of AllLabels follow: looked in {root}")
    all_names = _names(all_list)
    row_of = {name: row for row, name in enumerate(all_names)}
    unknown = next((line for line, name in zip(lines, names, strict=True) if name not in row_of), None)
    if unknown is not None:
        raise SrnError(f"{image_list} line {unknown}: {shown(names[unknown - 1])} is not in {all_list}")
    labels, paths = _columns(folders, files, len(all_names), all_list)
    return LabelRows(image_list, names, labels[[row_of[name] for name in names]], lines, (all_list, *paths))


def _names(image_list: Path) -> list[str]:
    return [line.strip().replace("\\", "/") for line in text_lines(image_list)]


def _columns(
    folders: list[Path], names: list[str], count: int, image_list: Path
) -> tuple[np.ndarray, tuple[Path, ...]]:
    """Labels int8 (count, concepts) from a file a concept, and the files."""
    labels, paths = np.empty((count, len(names)), np.int8), []
    for number, name in enumerate(names):
        path = _found(folders, name)
        if path is None:
            raise MissingError(f"no {name}: other concepts' files are there, in {_found(folders, names[0]).parent}")
        labels[:, number] = _column(path, count, image_list)
        paths.append(path)
    return labels, tuple(paths)


def _column(path: Path, count: int, image_list: Path) -> np.ndarray:
    """Labels int8 (count,) of one concept."""
    lines = text_lines(path)
    if len(lines) != count:
        raise SrnError(f"{path} has {len(lines)} lines and {image_list} has {count}: a line an image is needed")
    joined = "".join(lines)
    if len(joined) != count:
        lines = [line.strip() for line in lines]
        joined = "".join(lines)
    if len(joined) == count and "" not in lines and not set(joined) - {"0", "1"}:
        return np.where(np.frombuffer(joined.encode(), np.uint8) == ord("1"), 1, -1)
    values = number_rows(lines, path)
    if values.shape[1] != 1:
        raise SrnError(f"{path} line 1: {values.shape[1]} numbers where one label is expected")
    return labels_of(values, path, range(1, count + 1))[:, 0]


def _unswapped(table: LabelTable) -> LabelTable:
    """The table with the columns of `SWAPPED` put right, where their sums show that they are swapped.

    In NUS-WIDE there are about 2.3 sunsets for a sun and 60 waters for a waterfall; in the table that circulates
    it is the other way round, in both pairs.
    """
    sums = dict(zip(table.classes, (table.rows.labels == POSITIVE).sum(0).tolist(), strict=True))
    reversed_pairs = [
        pair
        for pair, wrong in zip(SWAPPED, (sums["sun"] > sums["sunset"], sums["waterfall"] > sums["water"]), strict=True)
        if wrong
    ]
    if len(table.rows.names) < _ENOUGH or not reversed_pairs:
        return table
    counts = ", ".join(f"{name} {sums[name]}" for pair in SWAPPED for name in pair)
    if len(reversed_pairs) == 1:
        message(f"{table.rows.source}: warning: unusual label sums ({counts}): are two columns swapped?")
        return table
    message(
        f"{table.rows.source}: the headers sun and sunset, water and waterfall are swapped in this table "
        f"({counts}); read the other way round"
    )
    other = {name: twin for pair in SWAPPED for name, twin in (pair, pair[::-1])}
    return table.renamed({name: other.get(name, name) for name in table.classes}).in_order(table.classes)
