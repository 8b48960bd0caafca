"""Image files to pixels, for the databases: decode, cut out the sample's box, warp to a square.

Policy: the EXIF orientation is applied; grey becomes three equal channels; CMYK is converted as OpenCV does,
without a colour profile; alpha is dropped, whatever colour lies beneath it shows (a TIFF that declares its alpha
is multiplied by it, by libtiff); 16 bits become 8; of several frames or pages the first is taken. The image
(or the part of the box that is inside it) is warped, not padded, to the square: with "area" by averaging where
it shrinks and bilinearly where it grows, with "linear" bilinearly always, as Caffe's `convert_imageset` does.

What is not whole, not a plain file or too large is refused with a reason, and so costs little memory; how many
pixels OpenCV accepts is set in `pysrn/__init__.py`. Wrong bytes within the data of a complete JPEG pass, as
everywhere: the decoder says so on stderr, without a name, and goes on.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import cv2
import numpy as np

from pysrn.data.readers.records import Sample

INTERPOLATIONS = ("area", "linear")
LARGEST_FILE = 1 << 28  # bytes; assumed: a photo has 1/20 of it, and every thread holds one
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


class BadImage(Exception):
    """An image cannot be used; the message is the reason, without its path."""


def decode_file(path: Path) -> np.ndarray:
    """Decode an image file into uint8 H x W x 3 BGR. Raises BadImage."""
    return decode_bytes(_read(path))


def decode_bytes(content: bytes) -> np.ndarray:
    """Decode the bytes of an image file into uint8 H x W x 3 BGR. Raises BadImage."""
    # OpenCV decodes a JPEG that is cut off, grey from there on, without a word. The end is sought behind the last
    # scan: a thumbnail before it has an end of its own, and some cameras write more behind it.
    is_open = content.startswith(_JPEG_START) and not content.endswith(_JPEG_END)
    if is_open and content.find(_JPEG_END, max(0, content.rfind(_JPEG_SCAN))) < 0:
        raise BadImage("the JPEG is cut off")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        too_large = "CV_IO_MAX_IMAGE" in error.err
        raise BadImage("too many pixels" if too_large else f"cannot be decoded: {error.err}") from None
    if image is None:
        raise BadImage("not an image that OpenCV can decode")
    return image


def warp(image: np.ndarray, width: int, height: int, interpolation: str = "area") -> np.ndarray:
    """Resize without keeping the proportions; `interpolation` is one of INTERPOLATIONS."""
    if image.shape[:2] == (height, width):
        return image
    by_area = interpolation == "area" and image.shape[0] * image.shape[1] > height * width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if by_area else cv2.INTER_LINEAR)


def sample_pixels(sample: Sample, size: int, interpolation: str = "area") -> np.ndarray:
    """The sample as uint8 size x size x 3 BGR: its file or its box in it, warped. Raises BadImage."""
    image = decode_file(sample.path)
    if sample.box is not None:
        if not all(map(math.isfinite, sample.box)):
            raise BadImage(f"the box is not four numbers: {sample.box}")
        x, y, width, height = sample.box
        left, top = max(0, round(x)), max(0, round(y))
        image = image[top : max(0, round(y + height)), left : max(0, round(x + width))]
        if not image.size:
            raise BadImage(f"the box holds no pixel of the image: {sample.box}")
    return warp(image, size, size, interpolation)


def _read(path: Path) -> bytes:
    """The content of a plain file. Raises BadImage, at once for a pipe that nobody writes to."""
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("not a plain file")
            if status.st_size > LARGEST_FILE:
                raise BadImage(f"larger than {LARGEST_FILE >> 20} MiB")
            content = stream.read()
    except OSError as error:
        raise BadImage(error.strerror or "cannot be read") from None
    except ValueError:  # a NUL in it, or half a character
        raise BadImage("no file can have this name") from None
    if not content:
        raise BadImage("empty file")
    return content


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe waits for its writer otherwise
