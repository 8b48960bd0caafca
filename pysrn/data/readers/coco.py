"""Reader of COCO's instances annotation files (also the format of the embedded data set).

An image has a label when at least one annotation of that category is in it, crowds included. An image of which a
part of the annotation is damaged is left out: labels that nobody can read would be taken for labels it has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from pysrn.console import SrnError, existing_folder
from pysrn.data.readers.annotation_checks import file_name_fault, key_names, shown, usable
from pysrn.data.readers.records import NEGATIVE, POSITIVE, AnnotatedSplit, ObjectBox, Sample
from pysrn.json_file import box_of, is_whole, load_json

NEEDED = ("images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "bbox", "name")
UNLABELLED = "no label"


def read_coco(
    annotation: str | Path, images: str | Path, classes: Sequence[str] | None = None, drop_unlabelled: bool = False
) -> AnnotatedSplit:
    """Read an instances JSON and the names of its images, in the order of the image ids.

    `classes`: the label names in the order wanted; by default those of the file in the order of their ids.
    `drop_unlabelled`: leave out images without any annotation, as ML-GCN does (82,081 and 40,137 images are left);
    by default they are kept, all labels negative, as the paper does (82,783 and 40,504).
    Left out with the reason: images with a damaged row or annotation, or listed twice with different labels.
    Raises MissingError for a missing file or folder or an annotation without images, SrnError for one that is
    damaged so that it cannot be said which images suffer, or whose categories are not `classes`.
    """
    content = load_json(annotation, NEEDED)
    annotation, images = Path(annotation), existing_folder(images, "image folder")
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise SrnError(f'{annotation}: no list "{part}": not a COCO instances file')
    names = _category_names(annotation, content["categories"])
    classes = tuple(classes or names.values())
    if sorted(classes) != sorted(names.values()):
        odd = sorted(set(classes) ^ set(names.values()))
        raise SrnError(f"{annotation}: its categories are not the expected classes; differing: {', '.join(odd[:9])}")

    files, left_out, faults = _image_files(annotation, content["images"])
    column = {identity: classes.index(name) for identity, name in names.items()}
    labels = dict(zip(files, np.full((len(files), len(classes)), NEGATIVE, np.int8), strict=True))
    boxes: dict[int, list[ObjectBox]] = {identity: [] for identity in files}
    for number, row in enumerate(content["annotations"]):
        place = f'"annotations" row {number}'
        if not isinstance(row, dict) or not is_whole(image := row.get("image_id")):
            raise SrnError(f'{annotation}: {place} has no valid "image_id"')
        category, box = row.get("category_id"), box_of(row.get("bbox"))
        if image not in files:
            if image in faults:
                continue
            raise SrnError(f"{annotation}: {place} names image {shown(image)}: not listed")
        if not is_whole(category) or category not in column:
            faults.setdefault(image, f"{place} names category {shown(category)}: not listed")
        elif box is None:  # no width or no height is no fault: COCO has a few of these
            faults.setdefault(image, f'{place} has no valid "bbox": {shown(row.get("bbox"))}')
        else:
            labels[image][column[category]] = POSITIVE
            boxes[image].append(ObjectBox(column[category], box))

    _find_repetitions(files, labels, faults)
    keys = dict(zip(files, key_names(files.values()), strict=True))
    split = AnnotatedSplit([], classes, left_out=left_out, sources=(annotation,))
    for identity, file in files.items():
        path, fault = images / file, faults.get(identity)
        if not fault and drop_unlabelled and not (labels[identity] == POSITIVE).any():
            fault = UNLABELLED
        if fault:
            left_out.append((str(path), fault))
        else:
            split.samples.append(Sample(keys[identity], path, labels[identity]))
            split.boxes[keys[identity]] = boxes[identity]
    return usable(split)


def _category_names(annotation: Path, rows: list) -> dict[int, str]:
    """Category id -> name, in the order of the ids."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not is_whole(row.get("id")):
            raise SrnError(f'{annotation}: "categories" row {number} has no valid "id"')
        if not isinstance(row.get("name"), str) or not row["name"] or not row["name"].isprintable():
            raise SrnError(f'{annotation}: "categories" row {number} has no valid "name"')
    names = {row["id"]: row["name"] for row in sorted(rows, key=lambda row: row["id"])}
    if not names:
        raise SrnError(f"{annotation}: it lists no categories")
    if len(set(names.values())) != len(rows):
        raise SrnError(f"{annotation}: a category id or name is used twice")
    return names


def _image_files(annotation: Path, rows: list) -> tuple[dict[int, PurePath], list[tuple[str, str]], dict[int, str]]:
    """Image id -> file in the order of the ids; what is left out; and the ids of that with the reason."""
    files: dict[int, PurePath] = {}
    left_out, faults = [], {}
    for number, row in enumerate(rows):
        identity = row.get("id") if isinstance(row, dict) else None
        name = row.get("file_name") if isinstance(row, dict) else None
        if not is_whole(identity):
            left_out.append((name if name and not file_name_fault(name) else f'"images" row {number}', "no valid id"))
        elif identity in files or identity in faults:
            raise SrnError(f'{annotation}: "images" row {number}: the image id {shown(identity)} is used twice')
        elif fault := file_name_fault(name):
            faults[identity] = fault
            left_out.append((f'"images" row {number}', fault))
        else:
            files[identity] = PurePath(name)
    return dict(sorted(files.items())), left_out, faults


def _find_repetitions(files: dict[int, PurePath], labels: dict[int, np.ndarray], faults: dict[int, str]) -> None:
    """Enter into `faults` what is listed again with the same labels, and all of what has contradicting ones."""
    listed: dict[PurePath, list[int]] = {}
    for identity, file in files.items():
        listed.setdefault(file, []).append(identity)
    for first, *again in listed.values():
        if again and all(other not in faults and (labels[other] == labels[first]).all() for other in (first, *again)):
            faults.update((other, f"listed again, as image {shown(other)}") for other in again)
        elif again:
            for identity in (first, *again):
                faults.setdefault(identity, "listed more than once, with different labels")
