"""What the data benchmarks work on: a folder of photo-like JPEG files, or a user's own photos.

The made pictures are windows of one large texture whose amplitudes fall with a power of the frequency, as those of
photos do, so that they cost about as much to decode and to encode. Real photos (`--images`) are the better material.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pysrn.console import MissingError, existing_folder
from pysrn.data.readers.records import Sample

WIDTH, HEIGHT = 640, 480  # assumed: the commonest size of MS-COCO's photos
QUALITY = 95  # assumed
LIST = "list.txt"
_TEXTURE = 2048  # pixels a side
_FALL = 1.2  # assumed: with it the files weigh about what those of MS-COCO do
_CONTRAST = 55  # assumed: standard deviation of a photo's grey levels
_SUFFIXES = (".jpg", ".jpeg")


def make_photos(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEG files of 640 x 480 into `folder`; the same seed gives the same files."""
    random = np.random.default_rng(seed)
    texture = _texture(random)
    folder.mkdir(parents=True)
    for number in range(count):
        top, left = (int(random.integers(_TEXTURE - side)) for side in (HEIGHT, WIDTH))
        window = texture[top : top + HEIGHT, left : left + WIDTH]
        name = str(folder / f"{number:06d}.jpg")
        cv2.imwrite(name, np.roll(window, number % 3, axis=2), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def copy_photos(source: Path, folder: Path, count: int) -> None:
    """Copy the JPEG files below `source` until there are `count`, again and again under other names.

    Raises MissingError where there is none.
    """
    below = sorted(existing_folder(source, "folder of photos").rglob("*"))
    photos = [path for path in below if path.suffix.lower() in _SUFFIXES]
    if not photos:
        raise MissingError(f"no JPEG file in {source}")
    folder.mkdir(parents=True)
    for number in range(count):
        shutil.copyfile(photos[number % len(photos)], folder / f"{number:06d}.jpg")


def write_list(folder: Path, labels: int) -> None:
    """Write the list of the files in the form of `convert_imageset`: a name and a label number a line."""
    names = sorted(path.name for path in folder.glob("*.jpg"))
    text = "".join(f"{name} {number % labels}\n" for number, name in enumerate(names))
    (folder / LIST).write_text(text, encoding="utf-8")


def read_samples(folder: Path, labels: int) -> Sequence[Sample]:
    """The files of the list, each with the one label that it names."""
    samples = []
    for line in (folder / LIST).read_text(encoding="utf-8").splitlines():
        name, label = line.rsplit(" ", 1)
        vector = np.full(labels, -1, np.int8)
        vector[int(label)] = 1
        samples.append(Sample(Path(name).stem, folder / name, vector))
    return samples


def _texture(random: np.random.Generator) -> np.ndarray:
    """A picture of random phases, its channels alike as in photos: uint8, three channels."""
    rows, columns = np.fft.fftfreq(_TEXTURE)[:, None], np.fft.rfftfreq(_TEXTURE)[None]
    falling = np.maximum(np.hypot(rows, columns), 1 / _TEXTURE) ** -_FALL
    planes = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((_TEXTURE, _TEXTURE))) * falling) for _ in range(4)]
    grey, *tints = (plane / plane.std() for plane in planes)
    texture = np.stack([grey + 0.2 * tint for tint in tints], axis=2)  # assumed: most of a photo's contrast is grey
    return np.clip(128 + _CONTRAST * texture, 0, 255).astype(np.uint8)
