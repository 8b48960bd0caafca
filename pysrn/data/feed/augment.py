"""The views of an image that the nets see: multi-scale corner crops in training, the whole image in testing.

Follows `multi_scale` + `fix_crop` of the official data transformer (official repo, data_transformer.cpp): the
crop's height and width are ratios of the image size, at most `max_distort` steps apart in the list of ratios;
it lies in one of the four corners or the centre; it is resized to the net's input and mirrored half the time.
What is drawn depends on (seed, epoch, index) alone.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pysrn.recipes import CORNERS_AND_CENTRE, QUARTERS

if TYPE_CHECKING:
    from pysrn.data.feed.settings import FeedSettings

SNAP = 3  # official repo, data_transformer.cpp: a side less than 3 pixels from the net's input takes its size


@dataclass(frozen=True)
class View:
    """A crop in pixels of the stored image, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirror: bool = False


class CornerCrop:
    """Draws multi-scale crops of a square image of `image_size` pixels; `places` as in `recipes.Input`."""

    def __init__(
        self,
        image_size: int,
        crop_size: int,
        scale_ratios: Sequence[float],
        max_distort: int,
        mirror: bool,
        places: Sequence[tuple[int, int]] = CORNERS_AND_CENTRE,
    ) -> None:
        self.image_size = image_size
        self.mirror = mirror
        self.places = places
        sides = [int(image_size * ratio) for ratio in scale_ratios]
        sides = [crop_size if abs(side - crop_size) < SNAP else side for side in sides]
        # Every allowed pair is equally likely, as in the official transformer, so the outer ratios come less
        # often.
        self.sizes = [
            (height, width)
            for i, height in enumerate(sides)
            for j, width in enumerate(sides)
            if abs(i - j) <= max_distort
        ]

    @classmethod
    def of(cls, settings: FeedSettings) -> CornerCrop:
        """What draws the views of training."""
        sides = settings.image_size, settings.crop_size, settings.scale_ratios, settings.max_distort
        return cls(*sides, settings.mirror, settings.places)

    def draw(self, seed: int, epoch: int, index: int) -> View:
        """The view of image `index` in `epoch`: a pure function of its arguments and the settings."""
        # A hash instead of a generator: 200 times as fast to set up, and the same for good. 32 bits for a
        # choice of at most a few hundred: the bias of the remainder is below 1e-7.
        digest = hashlib.blake2b(struct.pack("<qqq", seed, epoch, index), digest_size=12).digest()
        size, place, mirror = struct.unpack("<III", digest)
        height, width = self.sizes[size % len(self.sizes)]
        row, column = self.places[place % len(self.places)]
        top, left = ((self.image_size - side) * at // QUARTERS for side, at in ((height, row), (width, column)))
        return View(top, left, height, width, self.mirror and mirror % 2 == 1)


def whole_image(image_size: int) -> View:
    """The view in testing: all of the image.

    Differs from paper: the official test script resizes the original file to the net's input; here the stored image is
    resized.
    """
    return View(0, 0, image_size, image_size)


def write_view(image: np.ndarray, view: View, mean: np.ndarray, out: np.ndarray, scale: float = 1.0) -> None:
    """Crop, resize bilinearly, mirror, subtract the mean, multiply by the scale.

    `image`: uint8 H x W x 3 BGR; `mean`: float32 of shape (3, 1, 1), BGR; `out`: float32 of shape (3, S, S),
    overwritten.
    """
    crop = image[view.top : view.top + view.height, view.left : view.left + view.width]
    size = out.shape[1]
    if crop.shape[:2] != (size, size):
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)
    if view.mirror:
        crop = cv2.flip(crop, 1)
    # Plane by plane: twice as fast as one subtraction that walks across the interleaved pixels.
    for plane, value, target in zip(cv2.split(crop), mean[:, 0, 0], out, strict=True):
        np.subtract(plane, value, out=target)
        if scale != 1:
            np.multiply(target, np.float32(scale), out=target)
