"""Do attention maps point at the objects? Scored against boxes of a COCO annotation file.

Maps are N x C x H x W; places are fractions of the image's width and height, so that they hold for the
stored image, for the net's view of it (the whole image) and for the original file alike. Where a map's cells lie says
the net (`nets/map_places.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.pair_reader import KEY_NUMBER
from pysrn.data.pair.pixels import BadImage, decode_file
from pysrn.data.readers.coco import read_coco
from pysrn.data.readers.options import NO_OPTIONS, ReaderOptions
from pysrn.data.readers.own.formats import read_own
from pysrn.data.readers.records import POSITIVE
from pysrn.data.shapes import scene as shapes_scene
from pysrn.nets.map_places import Places

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
        """Mean over the labels that have boxes; NaN when none has."""
        known = self.total > 0
        return float((self.hits[known] / self.total[known]).mean()) if known.any() else float("nan")

    @property
    def mean_chance(self) -> float:
        """What a random cell would reach, mean over the same labels."""
        known = self.total > 0
        return float(self.chance[known].mean()) if known.any() else float("nan")

    def of_labels(self, labels: Sequence[int]) -> Pointing:
        """The same, of some labels."""
        chosen = list(labels)
        return Pointing(self.hits[chosen], self.total[chosen], self.chance[chosen])


def label_groups(classes: Sequence[str]) -> dict[str, list[int]]:
    """Labels that are scored apart: the kinds of the embedded data set, none of any other.

    The box of a relation is where both of its objects are, so that more cells are in it.
    """
    if tuple(classes) != shapes_scene.CLASSES:
        return {}
    faint = tuple(shapes_scene.COMPANY)
    relations = tuple(name for name in classes if name not in (*shapes_scene.OBJECTS, *faint))
    kinds = {"objects": shapes_scene.OBJECTS, "relations": relations, "faint things": faint}
    return {kind: [classes.index(name) for name in names] for kind, names in kinds.items()}


def pointing(maps: np.ndarray, boxes: Sequence[Mapping[int, Sequence[Box]]], places: Places) -> Pointing:
    """Score N x C x H x W maps, whose cells lie at `places`, against, for every image, label -> its boxes.

    A map points at the centre of its greatest cell (the first of equals, row by row).
    """
    classes, centres = maps.shape[1], places.centres()
    hits, total, share = np.zeros(classes, int), np.zeros(classes, int), np.zeros(classes)
    for image_maps, image_boxes in zip(maps, boxes, strict=True):
        for label, known in image_boxes.items():
            inside = cells_inside(known, *centres)
            hits[label] += inside.flat[image_maps[label].argmax()]
            share[label] += inside.mean()
            total[label] += 1
    return Pointing(hits, total, share / np.maximum(total, 1))


def cells_inside(boxes: Sequence[Box], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """H x W boolean: the cells whose centre, at rows `y` and columns `x` (fractions), lies in one of the boxes."""
    y, x = y[:, None], x[None, :]
    inside = np.zeros((len(y), x.size), bool)
    for left, top, right, bottom in boxes:
        inside |= (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
    return inside


def read_boxes(
    annotation: str | Path,
    images: str | Path,
    pair: PairReader,
    indices: Sequence[int],
    options: ReaderOptions = NO_OPTIONS,
) -> list[dict[int, list[Box]]]:
    """For every chosen sample of a pair: label -> boxes, from a COCO annotation file and its image folder.

    `annotation` may be the folder of one's own data, too, whatever their format (`readers/own/formats.py`), read by
    `options`.

    Raises MissingError when the annotation file does not know an image of the pair, SrnError when it gives one other
    labels than the pair has (names repeat from split to split: 000000.jpg), else as `read_coco`.
    """
    if not (is_own := Path(annotation).is_dir()) and options != NO_OPTIONS:
        raise UsageError("how own data are read goes with --annotations FOLDER", "leave out --format and the like")
    found = read_own(Path(annotation), options)[pair.split] if is_own else read_coco(annotation, images, pair.classes)
    if found.classes != pair.classes:
        flags = "give the flags that tools/make_lmdb.py had: --format, --merge-alike and the like" if is_own else ""
        raise SrnError(f"{annotation} has other classes than {pair.folder}", flags)
    samples = {sample.key_name: sample for sample in found.samples}
    names = [key[KEY_NUMBER:] for key in pair.keys]
    if unknown := [name for name in names if name not in samples]:
        raise MissingError(f"{annotation} does not know the image {unknown[0]} of {pair.folder}, {pair.split}")
    for name, labels in zip(names, pair.all_labels(), strict=True):
        if ((samples[name].labels == POSITIVE) != (labels == POSITIVE)).any():
            raise SrnError(
                f"{annotation} is not of {pair.folder}, {pair.split}: its image {name} has other labels",
                "give the annotations that the split was made from (--annotations)",
            )
    result = []
    for index in indices:
        name = names[index]
        boxes: dict[int, list[Box]] = {}
        if places := found.boxes.get(name, ()):  # tables have none
            try:
                height, width = decode_file(samples[name].path).shape[:2]
            except BadImage as error:
                raise SrnError(f"{samples[name].path}: {error}", "give the images of the annotations") from None
        for place in places:
            x, y, w, h = place.box
            if place.relative:
                width = height = 1
            corners = (x / width, y / height, (x + w) / width, (y + h) / height)
            boxes.setdefault(place.label, []).append(corners)
        result.append(boxes)
    return result
