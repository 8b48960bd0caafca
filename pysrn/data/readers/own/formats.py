"""One's own data, of whatever format: which it is, and its train and test split.

Tables (`folder.py`) have a row an image. Annotation tools export COCO JSON, PASCAL VOC's XML and YOLO's label files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pysrn.console import MissingError, UsageError, existing_file, existing_folder, message
from pysrn.data.readers.folder import read_folder
from pysrn.data.readers.image_lists import CLASSES_NAME
from pysrn.data.readers.label_text import listed_namings, printable
from pysrn.data.readers.options import FORMATS, NO_OPTIONS, ReaderOptions
from pysrn.data.readers.own.coco import COCO
from pysrn.data.readers.own.named_images import annotated
from pysrn.data.readers.own.parts import NamedFormat, read_parts
from pysrn.data.readers.own.voc import VOC
from pysrn.data.readers.own.yolo import YOLO
from pysrn.data.readers.records import AnnotatedSplit
from pysrn.data.readers.split_tables import tables_of

TABLES, *_OTHERS = FORMATS
NAMED: dict[str, NamedFormat] = dict(zip(_OTHERS, (COCO, VOC, YOLO), strict=True))


def read_own(root: Path, options: ReaderOptions = NO_OPTIONS) -> dict[str, AnnotatedSplit]:
    """Read both splits of the data in `root`, and say of which format they are.

    The order of the classes is that of `classes.txt` where there is one.
    Raises MissingError for what is not there, UsageError where it is not clear what is meant, SrnError for damaged
    files and labels that are no classes.
    """
    root = existing_folder(root, "folder of the data set")
    if options.coco_json is not None:
        parts = {
            part: (root, existing_file(path, "COCO file"))
            for part, path in zip(("train", "test"), options.coco_json, strict=True)
        }
        form = "coco"
    else:
        form, parts = _found(root, options.form)
    if form == TABLES:
        if options.test_fraction is not None and any(tables_of(root).values()):
            raise UsageError("--test-fraction is not for tables", "write a column `split`")
        message(f"{root}: label tables")
        return read_folder(root, options)
    if options.separator is not None:
        raise UsageError(f"--separator is for tables; these are {NAMED[form].title}")
    splits = read_parts(NAMED[form], root, parts, options.test_fraction)
    listed = listed_namings(root / CLASSES_NAME) if (root / CLASSES_NAME).is_file() else []
    result = annotated(splits, root, listed, options)
    classes = result["train"].classes
    message(f"{root}: {NAMED[form].title}; {len(classes)} classes: {printable(', '.join(classes), 200)}")
    return result


def _found(root: Path, form: str | None) -> tuple[str, dict[str, Any]]:
    """The format of the data and where its parts lie.

    Raises UsageError for several, MissingError for none of `form`.
    """
    if form == TABLES:
        return TABLES, {}
    found = {name: parts for name, own in NAMED.items() if form in (None, name) and (parts := own.find(root))}
    if form and not found:
        raise MissingError(f"{root}: no {NAMED[form].title} there")
    if form is None and (any(tables_of(root).values()) or not found):
        found[TABLES] = {}
    if len(found) > 1:
        raise UsageError(
            f"{root}: data of several formats: {', '.join(found)}", f"say which is meant: --format {next(iter(found))}"
        )
    return found.popitem()
