"""Outlines of the objects of the embedded data set, as closed curves."""

from __future__ import annotations

import math

import numpy as np

Outline = tuple[np.ndarray, ...]  # closed curves; a point is inside when an odd number of them surrounds it


def _regular(corners: int, start: float, radius: float = 1.0) -> np.ndarray:
    """Corners of a regular polygon; `start` is the direction of the first in degrees, 90 = down."""
    angles = [math.radians(start + 360.0 * k / corners) for k in range(corners)]
    return np.array([(radius * math.cos(a), radius * math.sin(a)) for a in angles])


def _star(points: int, inner: float) -> np.ndarray:
    tips, dents = _regular(points, -90), _regular(points, -90 + 180 / points, inner)
    return np.stack([tips, dents], axis=1).reshape(-1, 2)


def _cross(arm: float) -> np.ndarray:
    corner = [(arm, -1), (arm, -arm), (1, -arm)]
    turns = [corner]
    for _ in range(3):
        turns.append([(-y, x) for x, y in turns[-1]])
    return np.array([point for turn in turns for point in turn], dtype=float)


def _heart() -> np.ndarray:
    """The well-known curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t."""
    times = [2 * math.pi * k / 40 for k in range(40)]
    return np.array(
        [
            (16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
            for t in times
        ]
    )


def _wave() -> np.ndarray:
    xs = [-1 + 0.1 * k for k in range(21)]
    upper = [(x, 0.35 * math.sin(2 * math.pi * x) - 0.15) for x in xs]
    return np.array(upper + [(x, y + 0.3) for x, y in reversed(upper)])


def _dots() -> Outline:
    return tuple(_regular(12, 0, 0.25) + np.array([x, 0]) for x in (-0.75, 0.0, 0.75))


OUTLINES: dict[str, Outline] = {
    "circle": (_regular(48, 0),),
    "square": (_regular(4, 45),),
    "triangle": (_regular(3, -90),),
    "star": (_star(5, 0.42),),
    "cross": (_cross(0.32),),
    "ring": (_regular(48, 0), _regular(48, 0, 0.78)),
    "diamond": (_regular(4, 0) * (0.72, 1.0),),
    "heart": (_heart(),),
    "dots": _dots(),
    "wave": (_wave(),),
}


def place_outline(outline: Outline, size: int, degrees: float) -> tuple[Outline, tuple[int, int, int, int]]:
    """Tilt an outline, scale it to `size` pixels on its longer side and put its middle at the origin.

    Returns the curves and the whole-pixel box (x, y, width, height) around them.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = [np.stack([c[:, 0] * cosine - c[:, 1] * sine, c[:, 0] * sine + c[:, 1] * cosine], 1) for c in outline]
    points = np.concatenate(turned)
    low, high = points.min(0), points.max(0)
    scale = size / (high - low).max()
    placed = tuple((curve - (low + high) / 2) * scale for curve in turned)
    # Rounded to a hundredth first: the box must not hang on the last bit of a cosine.
    width, height = (math.ceil(round(extent, 2)) for extent in (high - low) * scale / 2)
    return placed, (-width, -height, 2 * width, 2 * height)
