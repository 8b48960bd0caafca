"""Reader of PASCAL VOC 2007: a list of image names, one XML file of objects for each image.

An image whose annotation is missing or damaged is left out: taken as it is, it would look like one without objects.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pysrn.console import MissingError, existing_file, existing_folder, progress
from pysrn.data.readers.annotation_checks import shown, usable
from pysrn.data.readers.label_text import text_lines
from pysrn.data.readers.records import NEGATIVE, POSITIVE, UNSPECIFIED, AnnotatedSplit, ObjectBox, Sample
from pysrn.recipes import class_names

LISTS = {"train": "trainval", "test": "test"}  # the split of all published multi-label results on VOC 2007
DEVKIT_FOLDERS = ("VOCdevkit/VOC2007", "VOC2007", ".")
IMAGE_NAME = re.compile(r"\w[\w.-]*")
LARGEST_XML = 2**20  # bytes; assumed: a hundred times the largest of the data set


class _Damaged(Exception):
    """The annotation of an image cannot be used; the message is the reason."""


def read_voc2007(root: str | Path, split: str) -> AnnotatedSplit:
    """Read a split, "train" (trainval) or "test", in the order of its list.

    A label is 1 where a plain object of the class is in the image, 0 where only ones marked `difficult` are, else
    -1, as in the data set's own `<class>_trainval.txt`. Boxes are those of all objects, their corner counted from 0.
    Images without a usable annotation are left out with the reason.
    Raises MissingError for missing folders and lists, SrnError when no image can be used.
    """
    for name in DEVKIT_FOLDERS:
        folder = Path(root) / name
        if (folder / "ImageSets").is_dir():
            break
    else:
        raise MissingError(f"PASCAL VOC not found: no folder ImageSets in {root} or {Path(root) / DEVKIT_FOLDERS[0]}")
    listed = existing_file(folder / "ImageSets" / "Main" / f"{LISTS[split]}.txt", "list of images")
    annotations = existing_folder(folder / "Annotations", "annotation folder")
    images = existing_folder(folder / "JPEGImages", "image folder")
    names = [line.strip() for line in text_lines(listed) if line.strip()]
    classes = class_names("voc2007")
    found = AnnotatedSplit([], classes, sources=(listed,))
    seen: set[str] = set()
    for name in progress(names, len(names), f"reading {split} annotations", "files"):
        if not IMAGE_NAME.fullmatch(name):
            found.left_out.append((shown(name), f"not an image name, in {listed.name}"))
            continue
        path = images / f"{name}.jpg"
        if name in seen:
            found.left_out.append((str(path), f"listed twice in {listed.name}"))
            continue
        seen.add(name)
        try:
            labels, boxes = _objects(annotations / f"{name}.xml", classes)
        except _Damaged as fault:
            found.left_out.append((str(path), f"{name}.xml: {fault}"))
        else:
            found.samples.append(Sample(name, path, labels))
            found.boxes[name] = boxes
    return usable(found)


class _PlainTree(ElementTree.TreeBuilder):
    """Builds the tree; refuses a document type, by which a small file can define text of any length."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _Damaged("it has a DOCTYPE, which no annotation needs")


def _objects(path: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, list[ObjectBox]]:
    """Label vector and boxes of one XML file. Raises _Damaged."""
    labels = np.full(len(classes), NEGATIVE, np.int8)
    boxes = []
    for number, element in enumerate(_tree(path).findall("object"), 1):
        name = (element.findtext("name") or "").strip()
        if name not in classes:
            raise _Damaged(f"object {number}: unknown class {shown(name)}")
        difficult = element.findtext("difficult", "0").strip()  # the devkit takes a missing one for 0
        if difficult not in ("0", "1"):
            raise _Damaged(f"object {number}: difficult is {shown(difficult)}, not 0 or 1")
        label = classes.index(name)
        boxes.append(ObjectBox(label, _box(element, number)))
        if difficult == "0":
            labels[label] = POSITIVE
        elif labels[label] == NEGATIVE:
            labels[label] = UNSPECIFIED
    if (labels == NEGATIVE).all():
        raise _Damaged("it lists no object")  # every image of the data set has one
    return labels, boxes


def _tree(path: Path) -> ElementTree.Element:
    try:
        if not path.is_file():  # a named pipe would be waited for
            raise _Damaged("no such file")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_XML + 1)
    except OSError as error:
        raise _Damaged(error.strerror or "cannot be read") from None
    if len(content) > LARGEST_XML:
        raise _Damaged(f"more than {LARGEST_XML // 2**20} MiB, too large for an annotation")
    try:
        tree = ElementTree.fromstring(content, ElementTree.XMLParser(target=_PlainTree()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: of its encoding
        raise _Damaged(f"not an XML file: {error}") from None
    if tree.tag != "annotation":
        raise _Damaged(f"its root is {shown(tree.tag)}, not 'annotation'")
    return tree


def _box(element: ElementTree.Element, number: int) -> tuple[float, float, float, float]:
    """(x, y, width, height) from corners that count from 1 and both belong to the object."""
    corners = [element.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(corner or "") for corner in corners)
    except ValueError:
        raise _Damaged(f"object {number}: no valid bndbox: {shown(corners)}") from None
    width, height = right - left + 1, bottom - top + 1
    if not all(map(math.isfinite, (left, top, right, bottom))) or min(width, height) <= 0:
        raise _Damaged(f"object {number}: no valid bndbox: {shown(corners)}")
    return left - 1, top - 1, width, height
