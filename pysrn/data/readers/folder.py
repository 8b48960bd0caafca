"""Reader of a user's own data: a folder of images with `train.csv` and `test.csv`, or one CSV with a split column.

`label_table.py` says how the tables look. Images are named from the folder itself or from `images` in it.
"""

from __future__ import annotations

from pathlib import Path

from pysrn.console import existing_folder, message
from pysrn.data.readers.image_lists import CLASSES_NAME
from pysrn.data.readers.label_table import LabelTable, read_split_tables
from pysrn.data.readers.label_text import class_list, printable
from pysrn.data.readers.listed_images import annotated_split
from pysrn.data.readers.records import POSITIVE, AnnotatedSplit


def read_folder(root: Path, *, drop_unlabelled: bool = False) -> dict[str, AnnotatedSplit]:
    """Read both splits. The order of the classes is that of `classes.txt` where there is one, else of the training
    table's header; tables that name labels have the sorted names of the training rows.

    Raises MissingError for what is not there, SrnError for a damaged table or splits whose classes differ.
    """
    root = existing_folder(root, "folder of the data set")
    tables = read_split_tables(root)
    classes = _classes(root, tables["train"])
    message(f"{root}: {len(classes)} classes: {printable(', '.join(classes), 200)}")
    return {
        split: annotated_split([table.in_order(classes).part(split)], root, classes, drop_unlabelled=drop_unlabelled)
        for split, table in tables.items()
    }


def _classes(root: Path, train: LabelTable) -> tuple[str, ...]:
    path = root / CLASSES_NAME
    if not path.is_file():
        if train.named and train.split_of:  # only what the training rows name
            used = (train.part("train").labels == POSITIVE).any(0)
            return tuple(name for name, there in zip(train.classes, used, strict=True) if there)
        return train.classes
    return class_list(path)
