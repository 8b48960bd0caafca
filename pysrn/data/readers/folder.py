"""Reader of a user's own data: a folder of images with `train.csv` and `test.csv`, or one CSV with a split column.

`label_table.py` says how the tables look. Images are named from the folder itself, from `images` in it, or from the
folder of their split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pysrn.console import existing_folder, message
from pysrn.data.readers.image_lists import CLASSES_NAME
from pysrn.data.readers.label_table import LabelTable
from pysrn.data.readers.label_text import listed_namings, printable
from pysrn.data.readers.listed_images import annotated_split
from pysrn.data.readers.names.look_alikes import one_spelling
from pysrn.data.readers.names.repeated_rows import REFUSED, UNITED
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.records import POSITIVE, AnnotatedSplit
from pysrn.data.readers.split_tables import check_cells, read_split_tables

SAME_CLASSES = (
    f"correct the name, or give both tables the same classes; {CLASSES_NAME} may list those that only one names"
)


def read_folder(root: Path, options: ReaderOptions) -> dict[str, AnnotatedSplit]:
    """Read both splits. The order of the classes is that of `classes.txt` where there is one, else of the training
    table's header; tables that name labels have the sorted names of the training rows.

    Raises MissingError for what is not there, SrnError for a damaged table, splits whose classes differ, names that
    look alike or are several, and rows of one image that contradict each other, UsageError for a `separator` where
    no table names labels.
    """
    root = existing_folder(root, "folder of the data set")
    tables = read_split_tables(root, options.separator)
    path = root / CLASSES_NAME
    listed = listed_namings(path) if path.is_file() else []
    names = [naming.name for naming in listed]
    plain = {table: table.without_mark(names) for table in dict.fromkeys(tables.values())}  # one may hold both splits
    tables, different = {split: plain[table] for split, table in tables.items()}, list(plain.values())
    check_cells(different, names, options.separator)
    kept = one_spelling([*listed, *(naming for table in different for naming in table.namings)], options.merge_alike)
    renamed = {table: table.renamed(kept) for table in different}
    classes = tuple(dict.fromkeys(kept[naming.name] for naming in listed)) or _classes(renamed[tables["train"]])
    message(f"{root}: {len(classes)} classes: {printable(', '.join(classes), 200)}")
    ordered = {table: renamed[table].in_order(classes, SAME_CLASSES) for table in different}
    parts = {split: ordered[table].part(split) for split, table in tables.items()}
    return {
        split: annotated_split(
            [replace(part, repeated=UNITED if tables[split].named else REFUSED)],
            root,
            classes,
            drop_unlabelled=options.drop_unlabelled,
            split=split,
        )
        for split, part in parts.items()
    }


def _classes(train: LabelTable) -> tuple[str, ...]:
    if train.named and train.split_of:  # only what the training rows name
        used = (train.part("train").labels == POSITIVE).any(0)
        return tuple(name for name, there in zip(train.classes, used, strict=True) if there)
    return train.classes
