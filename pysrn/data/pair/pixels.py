"""Image files to pixels, for the databases: decode, cut out the sample's box, warp to a square.

Policy: the EXIF orientation is applied; grey becomes three equal channels; CMYK is converted as OpenCV does,
without a colour profile; alpha is dropped, whatever colour lies beneath it shows (a TIFF that declares its alpha
is multiplied by it, by libtiff); 16 bits become 8; of several frames or pages the first is taken. The image
(or the part of the box that is inside it) is warped, not padded, to the square: with "area" by averaging where
it shrinks and bilinearly where it grows, with "linear" bilinearly always, as Caffe's `convert_imageset` does.

What is not whole, not a plain file or too large is refused with a reason, and so costs little memory. The header says
how large an image is, before anything is decoded. Up to `FULL` pixels it is decoded as it is. A larger JPEG is decoded
in half, a quarter or an eighth of its size, as long as that is more than what is stored: 200 megapixels take 150 MB.
Other formats are decoded whole (0.8 GB at most), as are the coefficients of a progressive JPEG (1.6 GB at most), for
one image at a time. How many pixels OpenCV accepts is set in `pysrn/__init__.py`.

Wrong bytes within the data of a complete JPEG pass, as everywhere: the decoder says so on stderr, without a name, and
goes on.
"""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import warnings
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from PIL import Image

from pysrn.data.image_files import is_heif
from pysrn.data.readers.records import Sample

LARGEST_FILE = 1 << 28  # bytes; assumed: a photo has 1/20 of it, and every thread holds one
FULL = 1 << 27  # pixels; assumed: 134 million, 0.4 GB decoded; every thread may hold so many
MOST = 1 << 28  # pixels that are decoded whole: those of `pysrn/__init__.py`
MOST_REDUCED = 1 << 30  # pixels; assumed: ten of today's largest photos side by side
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_ONE_AT_A_TIME = Lock()
# Pillow reads headers only, and what it says of broken ones is raised or in skipped.csv.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")
_OF_THE_FILE = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENODEV),
    errno.ENAMETOOLONG,
)
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


class BadImage(Exception):
    """An image cannot be used; the message is the reason, without its path."""


def decode_file(path: Path, least: int | None = None) -> np.ndarray:
    """Decode an image file into uint8 H x W x 3 BGR, as `decode_content`. Raises BadImage."""
    return decode_content(read_plain_file(path), least)


def decode_content(content: bytes, least: int | None = None) -> np.ndarray:
    """Decode the bytes of an image file into uint8 H x W x 3 BGR. Raises BadImage.

    `least`: a picture of more than FULL pixels may come out smaller, by whole factors, with no side below `least`.
    """
    width, height, in_one_pass = _size(content)
    if 0 < width * height <= FULL:
        return decode_bytes(content)
    is_jpeg = content.startswith(_JPEG_START)
    factor = _reduction(width, height, least) if least and is_jpeg else 1
    light = factor > 1 and in_one_pass
    if width * height > (MOST_REDUCED if light else MOST):
        raise BadImage("too many pixels")
    with nullcontext() if light else _ONE_AT_A_TIME:
        return decode_bytes(content, factor)


def decode_bytes(content: bytes, factor: int = 1) -> np.ndarray:
    """Decode the bytes of an image file into uint8 H x W x 3 BGR, each side divided by `factor`. Raises BadImage."""
    # OpenCV decodes a JPEG that is cut off, grey from there on, without a word. The end is sought behind the last
    # scan: a thumbnail before it has an end of its own, and some cameras write more behind it.
    is_open = content.startswith(_JPEG_START) and not content.endswith(_JPEG_END)
    if is_open and content.find(_JPEG_END, max(0, content.rfind(_JPEG_SCAN))) < 0:
        raise BadImage("the JPEG is cut off")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), _REDUCED.get(factor, cv2.IMREAD_COLOR))
    except cv2.error as error:
        too_large = "CV_IO_MAX_IMAGE" in error.err
        raise BadImage("too many pixels" if too_large else f"cannot be decoded: {error.err}") from None
    if image is None:
        raise BadImage(
            "HEIC, which OpenCV cannot decode" if is_heif(content) else "not an image that OpenCV can decode"
        )
    return image


def _size(content: bytes) -> tuple[int, int, bool]:
    """Width, height, and whether it is no progressive JPEG; no pixels where Pillow does not know the header."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return *image.size, "progressive" not in image.info
    except Exception:  # whatever a damaged header makes of a decoder: OpenCV says what is wrong with the file
        return 0, 0, False


def _reduction(width: int, height: int, least: int) -> int:
    """The smallest factor that leaves at most FULL pixels; a smaller one where a side would be less than `least`."""
    allowed = [factor for factor in _REDUCED if min(width, height) // factor >= least]
    return next((factor for factor in allowed if width * height <= FULL * factor**2), max(allowed, default=1))


def warp(image: np.ndarray, width: int, height: int, interpolation: str = "area") -> np.ndarray:
    """Resize without keeping the proportions; `interpolation` is one of `encoding.INTERPOLATIONS`."""
    if image.shape[:2] == (height, width):
        return image
    by_area = interpolation == "area" and image.shape[0] * image.shape[1] > height * width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if by_area else cv2.INTER_LINEAR)


def sample_pixels(sample: Sample, size: int, interpolation: str = "area") -> np.ndarray:
    """The sample as uint8 size x size x 3 BGR: its file or its box in it, warped. Raises BadImage."""
    image = decode_file(sample.path, size if sample.box is None else None)
    if sample.box is not None:
        if not all(map(math.isfinite, sample.box)):
            raise BadImage(f"the box is not four numbers: {sample.box}")
        x, y, width, height = sample.box
        left, top = max(0, round(x)), max(0, round(y))
        image = image[top : max(0, round(y + height)), left : max(0, round(x + width))]
        if not image.size:
            raise BadImage(f"the box holds no pixel of the image: {sample.box}")
    return warp(image, size, size, interpolation)


def read_plain_file(path: Path, start: int = 0, size: int | None = None) -> bytes:
    """The content of a plain file, or `size` bytes of it. Raises BadImage, at once for a pipe that nobody writes to.

    OSError where the disk or the machine is at fault: the file may be as good as the others.
    """
    try:
        # Opening a pipe waits for its writer otherwise.
        with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("not a plain file")
            if (status.st_size if size is None else size) > LARGEST_FILE:
                raise BadImage(f"larger than {LARGEST_FILE >> 20} MiB")
            stream.seek(start)
            content = stream.read() if size is None else stream.read(size)
    except OSError as error:
        if error.errno not in _OF_THE_FILE:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise BadImage(error.strerror) from None
    except ValueError:  # a NUL in it, or half a character
        raise BadImage("no file can have this name") from None
    if size and len(content) < size:
        raise BadImage("cut off")
    if not content:
        raise BadImage("empty file")
    return content
