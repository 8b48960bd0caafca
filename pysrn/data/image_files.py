"""Which files of a folder are images: by their endings, and any other by its first bytes."""

from __future__ import annotations

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


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and in those below it, sorted, hidden ones left out."""
    inside = (path for path in folder.rglob("*") if not _hidden(path.relative_to(folder)))
    return sorted(path for path in inside if is_image(path))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
