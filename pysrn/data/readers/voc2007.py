"""Reader of PASCAL VOC 2007: a list of image names, one XML file of objects for each image.

An image whose annotation is missing or damaged is left out: taken as it is, it would look like one without objects.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, existing_file, existing_folder, progress
from pysrn.data.readers.annotation_checks import shown, usable
from pysrn.data.readers.label_text import text_lines
from pysrn.data.readers.records import NEGATIVE, POSITIVE, UNSPECIFIED, AnnotatedSplit, ObjectBox, Sample
from pysrn.data.readers.voc_xml import Damaged, annotation_tree, box, objects
from pysrn.recipes import class_names

LISTS = {"train": "trainval", "test": "test"}  # the split of all published multi-label results on VOC 2007
DEVKIT_FOLDERS = ("VOCdevkit/VOC2007", "VOC2007", ".")
IMAGE_NAME = re.compile(r"\w[\w.-]*")


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
        except Damaged as fault:
            found.left_out.append((str(path), f"{name}.xml: {fault}"))
        else:
            found.samples.append(Sample(name, path, labels))
            found.boxes[name] = boxes
    return usable(found)


def _objects(path: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, list[ObjectBox]]:
    """Label vector and boxes of one XML file. Raises Damaged."""
    labels = np.full(len(classes), NEGATIVE, np.int8)
    boxes = []
    for thing in objects(annotation_tree(path)):
        if thing.name not in classes:
            raise Damaged(f"object {thing.number}: unknown class {shown(thing.name)}")
        label = classes.index(thing.name)
        boxes.append(ObjectBox(label, box(thing)))
        if not thing.is_difficult:
            labels[label] = POSITIVE
        elif labels[label] == NEGATIVE:
            labels[label] = UNSPECIFIED
    if (labels == NEGATIVE).all():
        raise Damaged("it lists no object")  # every image of the data set has one
    return labels, boxes
