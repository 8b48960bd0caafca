"""Image files to pixels, for the databases: decode, cut out the sample's box, warp to a square.

Policy: the EXIF orientation is applied, grey becomes three equal channels, alpha is dropped, 16 bits become
8; the image is warped (not padded) to the square, by area averaging where it shrinks and bilinearly where it
grows.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pysrn.data.records import Sample

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


class BadImage(Exception):
    """An image cannot be used; the message is the reason, without its path."""


def decode_file(path: Path) -> np.ndarray:
    """Decode an image file into uint8 H x W x 3 BGR. Raises BadImage."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise BadImage(error.strerror or "cannot be read") from None
    if not content.size:
        raise BadImage("empty file")
    return decode_bytes(content)


def decode_bytes(content: np.ndarray | bytes) -> np.ndarray:
    """Decode the bytes of an image file into uint8 H x W x 3 BGR. Raises BadImage."""
    # OpenCV decodes a JPEG that is cut off, grey from there on, without a word. The end is sought behind the last
    # scan: a thumbnail before it has an end of its own, and some cameras write more behind it.
    data = bytes(content)
    is_open = data.startswith(_JPEG_START) and not data.endswith(_JPEG_END)
    if is_open and _JPEG_END not in data[max(0, data.rfind(_JPEG_SCAN)) :]:
        raise BadImage("the JPEG is cut off")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadImage(f"cannot be decoded: {error.err}") from None
    if image is None:
        raise BadImage("not an image that OpenCV can decode")
    return image


def warp(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize without keeping the proportions: INTER_AREA where the image has more pixels, or INTER_LINEAR."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] * image.shape[1] > height * width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def sample_pixels(sample: Sample, size: int) -> np.ndarray:
    """The sample as uint8 size x size x 3 BGR: its file or its box in it, warped. Raises BadImage."""
    image = decode_file(sample.path)
    if sample.box is not None:
        x, y, width, height = sample.box
        left, top = max(0, round(x)), max(0, round(y))
        image = image[top : max(0, round(y + height)), left : max(0, round(x + width))]
        if not image.size:
            raise BadImage(f"the box {sample.box} holds no pixel of the image")
    return warp(image, size, size)
