"""Which files of a folder are images: by their endings, and any other by its first bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2

# The commoner first: names without one are tried in this order; assumed.
ENDINGS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif", ".jpe", ".jp2", ".avif", ".ppm", ".pgm",
    ".pnm", ".dib",
)  # fmt: skip
# What no decoder here reads, but a camera or a telephone writes: named, never passed over.
FOREIGN = (".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".psd")
_HEIF = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")
_FIRST = 12  # bytes that show it


def is_heif(first: bytes) -> bool:
    """Whether a file that begins so is a HEIF container, HEIC as a rule. AVIF has a brand of its own."""
    return first[4:_FIRST] in _HEIF


def is_image(path: Path) -> bool:
    """Whether a file is an image, of whatever ending; it need not be one that can be decoded."""
    ending = path.suffix.lower()
    if ending in ENDINGS or ending in FOREIGN:
        return True
    try:
        if not path.is_file():  # a named pipe would be waited for
            return False
        with path.open("rb") as stream:
            first = stream.read(_FIRST)
            if len(first) < _FIRST:
                return False
            # OpenCV asks its decoders for their signatures. That of BMP is two letters, with which texts begin, too.
            # A name that is not UTF-8 would crash it.
            name = str(path) if str(path).isprintable() else f"/dev/fd/{stream.fileno()}"
            return is_heif(first) or (first[:2] != b"BM" and cv2.haveImageReader(name))
    except OSError:
        return False


def images_below(folder: Path) -> Iterator[Path]:
    """The image files in a folder and in those below it, sorted, hidden ones left out.

    Only the listing of the folders that are open is held. Links to folders are not followed.
    """
    for path, opens in _listing(folder):
        if is_image(path):
            yield path
        if opens:
            yield from images_below(path)


def _listing(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What is in a folder, sorted, and whether it is a folder itself; nothing where it may not be read."""
    try:
        with os.scandir(folder) as entries:
            inside = [(one.name, one.is_dir(follow_symlinks=False)) for one in entries if not one.name.startswith(".")]
    except OSError:
        return
    inside.sort(reverse=True)
    while inside:
        name, opens = inside.pop()
        yield folder / name, opens
