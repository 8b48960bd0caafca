"""A small data set in each format that annotation tools export: the same images, labels and boxes."""

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (60, 40)  # width, height
CLASSES = ("cat", "Traffic Light", "no")  # a blank, capitals, and what YAML takes for false
TRAIN = {"a.jpg": {"cat": [6, 8, 12, 16]}, "b c.jpg": {"cat": [0, 0, 30, 20], "no": [30, 20, 6, 4]}, "empty.jpg": {}}
TEST = {"t1.jpg": {"Traffic Light": [12, 4, 24, 8]}, "t2.jpg": {"no": [6, 4, 6, 4]}}
PARTS = {"train": TRAIN, "test": TEST}


def write_image(path: Path) -> None:
    """A plain picture; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))


def coco(images: dict, classes=CLASSES, first_id: int = 1) -> dict:
    """A COCO file of the images."""
    rows = [
        {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for number, name in enumerate(images)
    ]
    annotations = [
        {"id": 10 * number + k, "image_id": number, "category_id": classes.index(name) + first_id, "bbox": box}
        for number, things in enumerate(images.values())
        for k, (name, box) in enumerate(things.items())
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, first_id)]
    return {"images": rows, "annotations": annotations, "categories": categories}


def write_coco(root: Path, parts=None, classes=CLASSES) -> None:
    """As Roboflow does: `train/_annotations.coco.json` beside the images."""
    for part, images in (parts or PARTS).items():
        for name in images:
            write_image(root / part / name)
        (root / part / "_annotations.coco.json").write_text(json.dumps(coco(images, classes)))


def xml(name: str, things: dict, more: str = "") -> str:
    """A VOC file of an image; `more` is put into every object."""
    objects = "".join(
        f"<object><name>{label}</name>{more}<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for label, (x, y, w, h) in things.items()
    )
    return f"<annotation><filename>{name}</filename>{objects}</annotation>"


def write_voc(root: Path, parts=None, classes=CLASSES) -> None:
    """As Roboflow and LabelImg do: the XML beside the image."""
    for part, images in (parts or PARTS).items():
        for name, things in images.items():
            write_image(root / part / name)
            (root / part / name).with_suffix(".xml").write_text(xml(name, things))


def yolo(things: dict, classes=CLASSES) -> str:
    """A label file of an image."""
    width, height = SIZE
    return "".join(
        f"{classes.index(name)} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}\n"
        for name, (x, y, w, h) in things.items()
    )


def write_yolo(root: Path, parts=None, classes=CLASSES) -> None:
    """As Roboflow does: `train/images`, `train/labels`, and paths that lead out of the folder of data.yaml."""
    for part, images in (parts or PARTS).items():
        for name, things in images.items():
            write_image(root / part / "images" / name)
            label = (root / part / "labels" / name).with_suffix(".txt")
            label.parent.mkdir(exist_ok=True)
            label.write_text(yolo(things, classes))
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
    (root / "data.yaml").write_text(f"{paths}nc: {len(classes)}\nnames: {json.dumps(classes)}\n")


def shown(found: dict) -> dict:
    """Split -> file name -> labels by name, 1 or 0."""
    return {
        split: {
            sample.path.name: {part.classes[i]: int(v) for i, v in enumerate(sample.labels) if v >= 0}
            for sample in part.samples
        }
        for split, part in found.items()
    }


EXPECTED = {split: {name: dict.fromkeys(things, 1) for name, things in part.items()} for split, part in PARTS.items()}
