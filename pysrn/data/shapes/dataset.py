"""The embedded data set `shapes`: writes its images and COCO-format annotations.

Nothing is downloaded: the pictures are drawn (`scene.py` says what is in them, `render.py` how
they look) and are the same for the same seed. What comes out has the layout of COCO and is read by the same
reader: `images/{train,test}/%06d.jpg`, `annotations/{train,test}.json`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from pysrn.console import SrnError, deaf_to_interrupts, progress
from pysrn.data.shapes.render import render
from pysrn.data.shapes.scene import CANVAS, CLASSES, Box, compose
from pysrn.processes import end_with_parent

JPEG_QUALITY = 90  # assumed: about that of the photos in COCO
FILE_NAME = "{:06d}.jpg"  # of an image, by its index in the split
_CHUNK = 50


def write_shapes(folder: Path, counts: dict[str, int], seed: int = 0, workers: int | None = None) -> None:
    """Draw `counts[split]` images of each split into `folder` and write their annotation files.

    `workers` processes share the work (default: one a CPU); the result does not depend on them.
    """
    workers = workers or len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, end_with_parent, (os.getpid(),)) as pool:
        for split, count in counts.items():
            images = folder / "images" / split
            images.mkdir(parents=True, exist_ok=True)
            with deaf_to_interrupts():
                drawn = pool.map(partial(_write_image, images, seed, split), range(count), chunksize=_CHUNK)
            found = list(progress(drawn, count, f"drawing shapes, {split}", "images"))
            annotation = folder / "annotations" / f"{split}.json"
            annotation.parent.mkdir(exist_ok=True)
            annotation.write_text(json.dumps(_coco_content(found, seed)) + "\n", "utf-8")


def _write_image(folder: Path, seed: int, split: str, index: int) -> dict[str, Box]:
    """Draw and store one image; returns the boxes of its labels."""
    cv2.setNumThreads(1)
    scene = compose(seed, split, index)
    pixels = render(scene, seed, split, index)
    path = folder / FILE_NAME.format(index)
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise SrnError(f"cannot write {path}")
    return scene.boxes


def _coco_content(found: list[dict[str, Box]], seed: int) -> dict:
    """An instances file as COCO's: ids count from 1, a box is [x, y, width, height]."""
    annotations = [
        {"image_id": index + 1, "category_id": CLASSES.index(name) + 1, "bbox": list(box), "area": box[2] * box[3]}
        for index, boxes in enumerate(found)
        for name, box in boxes.items()
    ]
    return {
        "info": {"description": f"shapes, drawn with seed {seed}"},
        "images": [
            {"id": index + 1, "file_name": FILE_NAME.format(index), "width": CANVAS, "height": CANVAS}
            for index in range(len(found))
        ],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)],
        "annotations": [{"id": number + 1, "iscrowd": 0, **row} for number, row in enumerate(annotations)],
    }
