"""How much of a map lies on the boxes of its label: the box overlap, beside the pointing game (`pointing.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pysrn.nets.map_places import Places
from pysrn.pictures.attention import spread
from pysrn.pictures.pointing import Box, cells_inside

GRID = 56  # cells of a side that maps of any size are compared on; assumed
BRIGHT = 0.5  # of the way from a map's least to its greatest value, from where a cell counts; assumed


def box_overlap(maps: np.ndarray, boxes: Sequence[Mapping[int, Sequence[Box]]], places: Places) -> np.ndarray:
    """[C]: mean intersection over union of a map's bright cells with its label's boxes, over the images with boxes.

    Maps are N x C x H x W; `boxes` has, for every image, label -> its boxes. NaN for a label without boxes.
    """
    total, count = np.zeros(maps.shape[1]), np.zeros(maps.shape[1])
    for image_maps, image_boxes in zip(maps, boxes, strict=True):
        for label, known in image_boxes.items():
            total[label] += _overlap(image_maps[label], known, places)
            count[label] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def own_less_other(
    maps: Sequence[np.ndarray], labels: Sequence[int], boxes: Mapping[int, Sequence[Box]], places: Places
) -> list[float]:
    """For each map (H x W) of a sequence of labels: its overlap with its own label's boxes less the mean of those with
    the others'. 0 where it does not move from one to the next.

    Left out are labels without boxes; nothing where fewer than two have any.
    """
    known = [(one, label) for one, label in zip(maps, labels, strict=True) if label in boxes]
    found = []
    for one, label in known if len(known) > 1 else ():
        others = [_overlap(one, boxes[other], places) for _, other in known if other != label]
        found.append(_overlap(one, boxes[label], places) - float(np.mean(others)))
    return found


def _overlap(values: np.ndarray, boxes: Sequence[Box], places: Places) -> float:
    """Intersection over union of the bright cells with the boxes; 0 for a level map."""
    fine = spread(values, places, GRID, GRID)
    middles = (np.arange(GRID) + 0.5) / GRID
    inside = cells_inside(boxes, middles, middles)
    if fine.max() == fine.min():
        return 0.0
    bright = fine >= fine.min() + BRIGHT * (fine.max() - fine.min())
    return float((bright & inside).sum() / (bright | inside).sum())
