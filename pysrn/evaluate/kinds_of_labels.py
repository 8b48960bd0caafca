"""Large and related labels against small ones that are alone: by the boxes of the test images and by their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Boxes = Sequence[Mapping[int, Sequence[tuple[float, float, float, float]]]]


def typical_area(boxes: Boxes, classes: int) -> np.ndarray:
    """[C]: median area of a label's boxes, as a part of the image; NaN without boxes (left, top, ...)."""
    areas: list[list[float]] = [[] for _ in range(classes)]
    for image in boxes:
        for label, known in image.items():
            areas[label] += [(right - left) * (bottom - top) for left, top, right, bottom in known]
    return np.array([np.median(found) if found else np.nan for found in areas])


def relatedness(labels: np.ndarray) -> np.ndarray:
    """[C]: how far another label raises a label's share of the images, the greatest rise (N x C, 1: has it).

    That is the most of P(label given other) less P(label); NaN for a label without an image.
    """
    has = (labels == 1).astype(float)
    both, images = has.T @ has, has.sum(axis=0)
    given = np.divide(both, images, out=np.full_like(both, -np.inf), where=images > 0)  # column: the other label
    np.fill_diagonal(given, -np.inf)
    return np.where(images > 0, given.max(axis=1) - has.mean(axis=0), np.nan)


def large_and_small(area: np.ndarray, related: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the labels at or above both medians, and of those below both; labels without a number are in none."""
    known = ~(np.isnan(area) | np.isnan(related))
    middle = [np.median(values[known]) if known.any() else np.nan for values in (area, related)]
    above = [values >= half for values, half in zip((area, related), middle, strict=True)]
    return np.flatnonzero(known & above[0] & above[1]), np.flatnonzero(known & ~above[0] & ~above[1])
