"""Reader of COCO's instances annotation files (also the format of the embedded data set).

An image has a label when at least one annotation of that category is in it, crowds included.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from pysrn.console import MissingError, SrnError, existing_file, existing_folder
from pysrn.data.records import NEGATIVE, POSITIVE, AnnotatedSplit, ObjectBox, Sample


def read_coco(annotation: str | Path, images: str | Path, classes: Sequence[str] | None = None) -> AnnotatedSplit:
    """Read an instances JSON and the names of its images, in the order of the image ids.

    `classes`: the label names in the order wanted; by default those of the file in the order of their ids.
    Images without any annotation are kept, all labels negative, as the paper does.
    Raises MissingError for a missing file or folder or an annotation without images, SrnError for one that is
    damaged or whose categories are not `classes`.
    """
    annotation = existing_file(annotation, "annotation file")
    images = existing_folder(images, "image folder")
    content = _load(annotation)
    names = {row["id"]: row["name"] for row in sorted(content["categories"], key=lambda row: row["id"])}
    classes = tuple(classes or names.values())
    if sorted(classes) != sorted(names.values()):
        odd = sorted(set(classes) ^ set(names.values()))
        raise SrnError(f"{annotation}: its categories are not the expected classes; differing: {', '.join(odd)}")
    if not content["images"]:
        raise MissingError(f"{annotation}: the data set is empty, it lists no images")

    column = {identity: classes.index(name) for identity, name in names.items()}
    rows = sorted(content["images"], key=lambda row: row["id"])
    labels = {row["id"]: np.full(len(classes), NEGATIVE, np.int8) for row in rows}
    if len(labels) != len(rows):
        raise SrnError(f"{annotation}: {len(rows) - len(labels)} image ids are used twice")
    boxes: dict[int, list[ObjectBox]] = {identity: [] for identity in labels}
    for row in content["annotations"]:
        image, category = row["image_id"], row["category_id"]
        if image not in labels or category not in column:
            raise SrnError(f"{annotation}: annotation {row['id']} names image {image}, category {category}: not listed")
        labels[image][column[category]] = POSITIVE
        boxes[image].append(ObjectBox(column[category], tuple(map(float, row["bbox"]))))
    keys = {row["id"]: _key_name(row["file_name"]) for row in rows}
    samples = [Sample(keys[row["id"]], images / row["file_name"], labels[row["id"]]) for row in rows]
    boxes_of = {keys[identity]: found for identity, found in boxes.items()}
    return AnnotatedSplit(samples, classes, boxes_of, sources=(annotation,))


def _key_name(file_name: str) -> str:
    """`folder/name.jpg` -> `folder_name`."""
    return "_".join(PurePosixPath(file_name).with_suffix("").parts)


REQUIRED = {  # what is read of each row
    "images": {"id": int, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
}


def _load(annotation: Path) -> dict:
    """The parsed file, after checking that it holds what `read_coco` needs."""
    try:
        content = json.loads(annotation.read_text("utf-8"))
    except ValueError as error:  # JSON and UTF-8 errors both are
        raise SrnError(f"{annotation}: not a JSON file: {error}") from None
    for part, fields in REQUIRED.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise SrnError(f'{annotation}: no list "{part}": not a COCO instances file')
        for number, row in enumerate(rows):
            for name, kind in fields.items():
                if not isinstance(row, dict) or not isinstance(row.get(name), kind):
                    raise SrnError(f'{annotation}: "{part}" row {number} has no valid "{name}"')
            if part == "annotations" and (
                len(row["bbox"]) != 4 or not all(isinstance(value, int | float) for value in row["bbox"])
            ):
                raise SrnError(f'{annotation}: "{part}" row {number} has no valid "bbox": four numbers are needed')
    return content
