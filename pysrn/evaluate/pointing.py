"""Do attention maps point at the objects? Scored against boxes of a COCO annotation file.

Maps are N x C x 14 x 14; places are fractions of the image's width and height, so that they hold for the
stored image, for the net's view of it (the whole image) and for the original file alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pysrn.console import MissingError
from pysrn.data.coco import read_coco
from pysrn.data.lmdb_pair import PairReader
from pysrn.data.pixels import decode_file

KEY_NUMBER = 9  # a sample key is `%08d_<name>`

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the image


@dataclass(frozen=True)
class Pointing:
    """How often the greatest value of a map lies in a box of its label ("pointing game").

    `hits`, `total`: [C] counts over all images with a box of the label; `chance`: [C] mean share of the map's
    cells whose centre lies in such a box.
    """

    hits: np.ndarray
    total: np.ndarray
    chance: np.ndarray

    @property
    def accuracy(self) -> float:
        """Mean over the labels that have boxes."""
        known = self.total > 0
        return float((self.hits[known] / self.total[known]).mean())

    @property
    def mean_chance(self) -> float:
        """What a random cell would reach, mean over the same labels."""
        return float(self.chance[self.total > 0].mean())


def pointing(maps: np.ndarray, boxes: Sequence[Mapping[int, Sequence[Box]]]) -> Pointing:
    """Score N x C x H x W maps against, for every image, label -> its boxes.

    A map points at the centre of its greatest cell (the first of equals, row by row).
    """
    _, classes, height, width = maps.shape
    hits, total, share = np.zeros(classes, int), np.zeros(classes, int), np.zeros(classes)
    for image_maps, image_boxes in zip(maps, boxes, strict=True):
        for label, places in image_boxes.items():
            inside = cells_inside(places, height, width)
            hits[label] += inside.flat[image_maps[label].argmax()]
            share[label] += inside.mean()
            total[label] += 1
    return Pointing(hits, total, share / np.maximum(total, 1))


def cells_inside(places: Sequence[Box], height: int, width: int) -> np.ndarray:
    """H x W boolean: the cells of a grid over the image whose centre lies in one of the boxes."""
    y = (np.arange(height)[:, None] + 0.5) / height
    x = (np.arange(width)[None, :] + 0.5) / width
    inside = np.zeros((height, width), bool)
    for left, top, right, bottom in places:
        inside |= (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
    return inside


def read_boxes(
    annotation: str | Path, images: str | Path, pair: PairReader, indices: Sequence[int]
) -> list[dict[int, list[Box]]]:
    """For every chosen sample of a pair: label -> boxes, from a COCO annotation file and its image folder.

    Raises MissingError when a sample is not in the annotation file, else as `read_coco`.
    """
    found = read_coco(annotation, images, pair.classes)
    paths = {sample.key_name: sample.path for sample in found.samples}
    result = []
    for index in indices:
        name = pair.keys[index][KEY_NUMBER:]
        if name not in paths:
            raise MissingError(f"{annotation} does not know the image {name} of {pair.folder}, {pair.split}")
        boxes: dict[int, list[Box]] = {}
        if found.boxes[name]:
            height, width = decode_file(paths[name]).shape[:2]
        for place in found.boxes[name]:
            x, y, w, h = place.box
            corners = (x / width, y / height, (x + w) / width, (y + h) / height)
            boxes.setdefault(place.label, []).append(corners)
        result.append(boxes)
    return result
