"""Which label tables (`label_table.py`) hold the splits of a folder, and what is asked of the names in all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from shlex import quote

from pysrn.console import MissingError, UsageError, message
from pysrn.data.readers.label_table import LabelTable, read_label_table
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.names.divided_names import check_names, warn_of_made_names
from pysrn.data.readers.records import PARTS, POSITIVE

BESIDE_IMAGES = "_classes.csv"  # Roboflow's multi-label export: one in the folder of each split


def read_split_tables(root: Path, separator: str | None = None) -> dict[str, LabelTable]:
    """The tables of a folder: one with `train` and one with `test` in its name, or one with a split column.

    Without a test table one called as a validation part is. What is not read is said.
    Where there is none, those beside the images of each split: `train/_classes.csv` and `test/_classes.csv`.
    Raises MissingError where none of these is there, UsageError where both are, and as `read_label_table`.
    """
    found = tables_of(root)
    tables = found[""]
    _refuse_both_places(root, found)
    named = {split: [path for path in tables if path.stem.lower() == split] for split in ("train", "test")}
    if not all(named.values()):
        named = {split: [path for path in tables if split in path.stem.lower()] for split in ("train", "test")}
    if not named["test"]:
        named["test"] = [path for path in tables if PARTS.get(path.stem.lower()) == "val"]
        if named["test"]:
            message(f"{root}: there is no test part: its validation part is the test split")
    if not tables:
        named = _beside_images(found)
    if all(len(paths) == 1 for paths in named.values()) and named["train"] != named["test"]:
        if others := [path.name for path in tables if [path] not in named.values()]:
            message(f"{root}: not read: {printable(', '.join(others))}")
        return {split: read_label_table(paths[0], separator) for split, paths in named.items()}
    if len(tables) != 1:
        seen = f"; there are {', '.join(printable(path.name) for path in tables[:5])}" if tables else ""
        raise MissingError(
            f"{root}: train.csv and test.csv are needed, or one CSV file with a split column, or train/{BESIDE_IMAGES} "
            f"and test/{BESIDE_IMAGES}{seen}",
            "write file,labels tables, or export COCO JSON, PASCAL VOC XML or YOLO with data.yaml (docs/data.md)",
        )
    table = read_label_table(tables[0], separator)
    if table.split_of is None:
        raise MissingError(
            f"{tables[0]}: only one table, and it has no column `split`", "add one, or write train.csv and test.csv"
        )
    present = set(table.split_of)
    if "train" not in present or not present & {"test", "val"}:
        raise MissingError(f"{tables[0]}: its split column names only {', '.join(sorted(present))}: both are needed")
    if {"test", "val"} <= present:
        message(f"{tables[0]}: the {table.split_of.count('val')} rows of split 'val' are not read")
        table = table.without("val")
    return {"train": table, "test": table}


def tables_of(root: Path) -> dict[str, list[Path]]:
    """The tables in a folder, under "", and those in folders that are named as parts, under `train`, `test`, `val`."""
    found: dict[str, list[Path]] = {"": [], "train": [], "test": [], "val": []}
    for folder in (root, *sorted(path for path in root.iterdir() if path.name.lower() in PARTS and path.is_dir())):
        tables = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".csv", ".tsv"))
        own = "" if folder == root else PARTS[folder.name.lower()]
        found[own] += [path for path in tables if path.is_file() and not path.name.startswith(".")]
    return found


def _refuse_both_places(root: Path, found: dict[str, list[Path]]) -> None:
    """Labels in two places may contradict each other, and nothing says which are meant."""
    beside = [path for part in ("train", "test", "val") for path in found[part] if path.name == BESIDE_IMAGES]
    if not found[""] or not beside:
        return
    top, other = (printable(str(paths[0].relative_to(root))) for paths in (found[""], beside))
    raise UsageError(
        f"{root}: both {top} and {other} hold labels: it is not clear which are meant",
        f"set one kind aside: {_aside(found[''])}  (or: {_aside(beside)})",
    )


def _aside(paths: Collection[Path]) -> str:
    """The command that makes no tables of them."""
    return " && ".join(f"mv {quote(str(path))} {quote(f'{path}.unused')}" for path in paths)


def _beside_images(found: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The tables in the folder of each split, as Roboflow exports them; without `test`, `valid` is the test split."""
    chosen = {part: [path for path in found[part] if path.name == BESIDE_IMAGES] or found[part] for part in found}
    if chosen["val"] and chosen["test"]:
        message(f"{chosen['val'][0]}: the split 'val' is not read")
    return {"train": chosen["train"], "test": chosen["test"] or chosen["val"]}


def check_cells(tables: Collection[LabelTable], listed: Sequence[str], separator: str | None) -> None:
    """`check_names` for the tables whose cells name labels; UsageError for a `separator` where there is none."""
    named = [table for table in tables if table.named]
    if separator is not None and not named:
        raise UsageError("--separator divides names in cells, but the tables have a column a class")
    several = any((table.rows.labels == POSITIVE).sum(1).max() > 1 for table in named)
    warn_of_made_names([naming for table in tables if not table.named for naming in table.namings])
    check_names([naming for table in named for naming in table.namings], listed, separator, several)
