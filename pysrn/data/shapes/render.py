"""Drawing of the embedded data set: clutter behind, the objects of a scene in front, noise over all.

Integer OpenCV operations only, so that the pixels do not hang on the processor.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from pysrn.data.shapes.scene import CANVAS, COMPANY, Scene, scene_rng

# ---- difficulty of the pictures (that of the scenes is in scene.py) ----
# Centre of the hue range in degrees: colour tells objects apart, the two of a relation best, so that a net without
# ImageNet weights has its few minutes for what this data set is about, the relations.
AROUND = ("circle", "triangle", "cross", "heart", "square", "star", "ring", "diamond")
HUES = {name: 45 * place for place, name in enumerate(AROUND)}
HUE_SPREAD = 10  # degrees to either side
OBJECT_SATURATION, OBJECT_VALUE = (0.55, 0.95), (0.6, 0.95)
BACKGROUND_SATURATION, BACKGROUND_VALUE = (0.0, 0.3), (0.3, 0.8)
TEXTURE = 22  # strength of the blotches, in grey levels to either side
NOISE = 8  # strength of the noise of single pixels, likewise
LINES, BLOBS = (2, 6), (3, 9)  # distractors: thin lines; blobs of any colour
BLOB_RADIUS = (3, 7)  # smaller than any object
FAINT_CONTRAST = (22, 30)  # grey levels; about the noise and the blotches together
SHIFT = 4  # OpenCV draws in sixteenths of a pixel


def render(scene: Scene, seed: int, split: str, index: int) -> np.ndarray:
    """Draw a scene; uint8 of shape (256, 256, 3), BGR."""
    rng = scene_rng(seed, split, index, purpose=1)
    image = _background(rng)
    _distractors(rng, image)
    for thing in scene.things:
        curves = [np.round(curve * (1 << SHIFT)).astype(np.int32) for curve in thing.outline]
        if thing.name in COMPANY:
            mask = np.zeros((CANVAS, CANVAS), np.uint8)
            contrast = int(rng.randint(*FAINT_CONTRAST))
            cv2.fillPoly(mask, curves, contrast, cv2.LINE_AA, SHIFT)
            change = cv2.subtract if rng.randint(2) else cv2.add
            image = change(image, cv2.merge([mask, mask, mask]))
        else:
            hue = HUES[thing.name] + rng.uniform(-HUE_SPREAD, HUE_SPREAD)
            colour = _colour(hue, rng.uniform(*OBJECT_SATURATION), rng.uniform(*OBJECT_VALUE))
            cv2.fillPoly(image, curves, colour, cv2.LINE_AA, SHIFT)
    noise = np.frombuffer(rng.bytes(CANVAS * CANVAS), np.uint8).reshape(CANVAS, CANVAS) % (2 * NOISE + 1)
    noise = cv2.merge([noise, noise, noise])
    return cv2.subtract(cv2.add(image, noise), np.full_like(image, NOISE))


def _background(rng: np.random.RandomState) -> np.ndarray:
    """A gradient between four corner colours of one hue family, with blotches of two sizes."""
    hue = rng.uniform(0, 360)
    corners = [
        _colour(hue + rng.uniform(-40, 40), rng.uniform(*BACKGROUND_SATURATION), rng.uniform(*BACKGROUND_VALUE))
        for _ in range(4)
    ]
    # INTER_LINEAR_EXACT: the same result on every processor.
    exact = cv2.INTER_LINEAR_EXACT
    image = cv2.resize(np.array(corners, np.uint8).reshape(2, 2, 3), (CANVAS, CANVAS), interpolation=exact)
    for cells in (12, 48):
        blotches = rng.randint(0, TEXTURE + 1, size=(cells, cells, 3)).astype(np.uint8)
        blotches = cv2.resize(blotches, (CANVAS, CANVAS), interpolation=exact)
        image = cv2.subtract(cv2.add(image, blotches), np.full_like(image, TEXTURE // 2))
    return image


def _distractors(rng: np.random.RandomState, image: np.ndarray) -> None:
    for _ in range(rng.randint(*LINES)):
        start, end = (tuple(map(int, point)) for point in rng.randint(0, CANVAS, size=(2, 2)))
        cv2.line(image, start, end, _any_colour(rng), int(rng.randint(1, 3)), cv2.LINE_AA)
    for _ in range(rng.randint(*BLOBS)):
        centre = tuple(map(int, rng.randint(0, CANVAS, size=2)))
        axes = tuple(map(int, rng.randint(*BLOB_RADIUS, size=2)))
        angle = int(rng.randint(180))
        cv2.ellipse(image, centre, axes, angle, 0, 360, _any_colour(rng), -1, cv2.LINE_AA)


def _any_colour(rng: np.random.RandomState) -> tuple[int, int, int]:
    return _colour(rng.uniform(0, 360), rng.uniform(0.3, 0.95), rng.uniform(0.3, 0.95))


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """HSV (degrees, 0-1, 0-1) as BGR of 0-255."""
    red, green, blue = colorsys.hsv_to_rgb(hue / 360 % 1.0, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)
