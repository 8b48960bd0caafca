"""Reader of WIDER-Attribute as distributed: `wider_attribute_{trainval,test}.json` and the folder `Image`.

A sample is one person: the box is cut out of the image when the databases are written. Attributes are 1, -1 or 0 for
unspecified. The files list 28,345 and 29,179 persons; 5 and 2 of these are of no use, which leaves the 28,340 and
29,177 of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from pysrn.console import MissingError, SrnError
from pysrn.data.readers.annotation_checks import file_name_fault, key_names, shown, usable
from pysrn.data.readers.records import AnnotatedSplit, Sample
from pysrn.json_file import box_of, is_whole, load_json
from pysrn.recipes import class_names

PARTS = {"train": "trainval", "test": "test"}  # official repo, README: 28,340 crops are those of train and val
ANNOTATION_FOLDERS = (".", "wider_attribute_annotation", "Anno")
IMAGE_FOLDERS = ("Image", "wider_attribute_image", "wider_attribute_image/Image", ".")
OTHER_NAMES = {"stripe": "Plaid"}  # in the JSON -> on the data set's page


def read_wider_attribute(root: str | Path, split: str) -> AnnotatedSplit:
    """Read the persons of a split, "train" (the data set's train and val) or "test", in the order of the file.

    Left out with the reason: persons without a box of some size or with other than 14 attributes of 1, -1, 0, and
    images that list none.
    Raises MissingError for missing files, SrnError for a damaged annotation or one with other attributes.
    """
    root = Path(root)
    annotation = _annotation_file(root, f"wider_attribute_{PARTS[split]}.json")
    content = load_json(annotation)
    classes = class_names("wider_attribute")
    _check_attributes(annotation, content.get("attribute_id_map"), classes)
    if not isinstance(content.get("images"), list):
        raise SrnError(f'{annotation}: no list "images": not a WIDER-Attribute file')

    found = AnnotatedSplit([], classes, sources=(annotation,))
    rows = _usable_rows(content["images"], found.left_out)
    images = _image_folder(root, {PurePath(row["file_name"]).parts[0] for row in rows})
    for row, key in zip(rows, key_names(PurePath(row["file_name"]) for row in rows), strict=True):
        path = images / row["file_name"]
        for number, person in enumerate(row["targets"], 1):
            if fault := _person_fault(person, len(classes)):
                found.left_out.append((str(path), f"person {number}: {fault}"))
            else:
                labels = np.array(person["attribute"], np.int8)
                found.samples.append(Sample(f"{key}_{number:02d}", path, labels, box_of(person["bbox"])))
    return usable(found)


def _check_attributes(annotation: Path, listed: object, classes: Sequence[str]) -> None:
    """The attributes must be ours in our order; spelling may differ: the JSON has `sunglass` and `longPants`."""
    place = f'{annotation}: "attribute_id_map"'
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise SrnError(f"{place} is not there or not a map of names: the order of the attributes is not known")
    try:
        names = [listed[identity] for identity in sorted(listed, key=int)]
    except ValueError:
        raise SrnError(f"{place}: its ids are not numbers") from None
    if len(names) != len(classes):
        raise SrnError(f"{place} lists {len(names)} attributes, not {len(classes)}")
    for number, (name, expected) in enumerate(zip(names, classes, strict=True)):
        if _spelling(OTHER_NAMES.get(name.lower(), name)) != _spelling(expected):
            raise SrnError(f"{place}: attribute {number} is {shown(name)}, expected {expected!r}: not the same order")


def _spelling(name: str) -> str:
    """What is compared of a name: its letters, without case and without a plural's end."""
    return "".join(filter(str.isalpha, name.lower())).rstrip("es")


def _usable_rows(rows: list, left_out: list[tuple[str, str]]) -> list[dict]:
    """The rows that have a file name and persons; the others are entered into `left_out`."""
    good: dict[PurePath, list[dict]] = {}
    for number, row in enumerate(rows):
        name = row.get("file_name") if isinstance(row, dict) else None
        if fault := file_name_fault(name):
            left_out.append((f'"images" row {number}', fault))
            continue
        persons, earlier = row.get("targets"), good.setdefault(PurePath(name), [])
        if not isinstance(persons, list):
            left_out.append((name, 'no list "targets"'))
        elif not persons:
            left_out.append((name, "no person"))
        elif any(persons == other["targets"] for other in earlier):
            left_out.append((name, f'listed again, in "images" row {number}'))
        else:  # a second row of an image has other persons of it
            earlier.append(row)
    return [row for same in good.values() for row in same]


def _person_fault(person: object, count: int) -> str:
    """Why a row of `targets` cannot be used; empty when it can."""
    if not isinstance(person, dict):
        return "not an object"
    box, attributes = box_of(person.get("bbox")), person.get("attribute")
    if box is None or min(box[2:]) <= 0:
        return f"no valid box: {shown(person.get('bbox'))}"
    if not isinstance(attributes, list) or len(attributes) != count:
        return f"not a list of {count} attributes: {shown(attributes)}"
    if not all(is_whole(value) and value in (1, 0, -1) for value in attributes):
        return f"attributes are 1, -1 or 0: {shown(attributes)}"
    return ""


def _annotation_file(root: Path, name: str) -> Path:
    for folder in ANNOTATION_FOLDERS:
        if (root / folder / name).is_file():
            return root / folder / name
    looked = ", ".join(str(root / folder) for folder in ANNOTATION_FOLDERS)
    raise MissingError(f"annotation file not found: no {name} in {looked}")


def _image_folder(root: Path, firsts: set[str]) -> Path:
    """The folder that holds what the file names begin with: `train`, `val`, `test`."""
    for folder in IMAGE_FOLDERS:
        if not firsts or any((root / folder / first).exists() for first in firsts):
            return root / folder
    looked = ", ".join(str(root / folder) for folder in IMAGE_FOLDERS)
    raise MissingError(f"image folder not found: no {', '.join(map(shown, sorted(firsts)[:3]))} in {looked}")
