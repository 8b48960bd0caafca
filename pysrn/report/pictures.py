"""Pictures of the report as bytes to put inline: small JPEGs of images, PNGs of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np

from pysrn.nets.map_places import Places
from pysrn.pictures.attention import overlay
from pysrn.pictures.pointing import Box

SIDE = 224  # pixels of an image in the page
QUALITY = 82  # of its JPEG
COLOUR_KEPT, WHITE_ADDED = 0.35, 0.25  # of an image under a map, whose colours shall stand out
MATRIX_COLOURS = "Blues"


def jpeg(image: np.ndarray, boxes: Sequence[Box] = (), drawn: tuple[np.ndarray, Places] | None = None) -> bytes:
    """An image (H x W x 3 BGR) as a JPEG of `SIDE` x `SIDE`, a map (h x w, and its places) over it, boxes drawn in."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if drawn is not None:
        grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        small = cv2.addWeighted(small, COLOUR_KEPT, grey, 1 - COLOUR_KEPT - WHITE_ADDED, 255 * WHITE_ADDED)
        small = np.ascontiguousarray(overlay(np.ascontiguousarray(small[..., ::-1]), *drawn)[..., ::-1])
    for left, top, right, bottom in boxes:
        corners = [tuple(round(SIDE * place - 0.5) for place in corner) for corner in ((left, top), (right, bottom))]
        cv2.rectangle(small, *corners, (255, 255, 255), 3)
        cv2.rectangle(small, *corners, (0, 0, 0), 1)
    return _encoded(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def matrix(values: np.ndarray) -> bytes:
    """Fractions (C x C) as a PNG of one pixel a cell, dark where high, grey on the diagonal and where NaN."""
    colours = matplotlib.colormaps[MATRIX_COLOURS](np.nan_to_num(values))[..., :3]
    colours[np.isnan(values) | np.eye(len(values), dtype=bool)] = 0.85
    return _encoded(".png", np.rint(255 * colours[..., ::-1]).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _encoded(ending: str, image: np.ndarray, options: list[int]) -> bytes:
    return cv2.imencode(ending, image, options)[1].tobytes()
