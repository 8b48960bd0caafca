"""Which photos are meant by words of the command line: image files, folders, lists of files, and tar archives.

A tar archive is read in place, as WebDataset's shards are made for: its members are images by their endings, whatever
else lies beside them is passed over.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from posixpath import basename, splitext

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.image_files import ENDINGS, FOREIGN, images_below
from pysrn.data.pair.pixels import read_plain_file

TAR, LIST = ".tar", ".txt"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class Member:
    """An image in a tar archive; `str` gives archive and member as one path."""

    archive: Path
    member: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.member}"

    @property
    def name(self) -> str:
        """The last part, as of a path."""
        return basename(self.member)

    def content(self) -> bytes:
        """Its bytes. Raises BadImage."""
        return read_plain_file(self.archive, self.start, self.size)


def content_of(photo: Path | Member) -> bytes:
    """The bytes of a photo. Raises BadImage."""
    return photo.content() if isinstance(photo, Member) else read_plain_file(photo)


def is_photo_argument(text: str) -> bool:
    """Whether a word of the command line means photos: by a file's ending, or a folder with images that is no run."""
    path = Path(text)
    if not path.is_dir():
        return path.suffix.lower() in (*ENDINGS, *FOREIGN, TAR, LIST) or text.lower().endswith(COMPRESSED)
    signs = ("run.json", "weights.caffemodel", "stage?/weights.caffemodel")
    is_run = any(next(path.glob(sign), None) for sign in signs)
    return not is_run and next(images_below(path), None) is not None


class Photos(Sequence):
    """Photos, of which those that are files are kept as text: a Path for each would take four times the memory."""

    def __init__(self, items: Sequence[str | Member]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return Photos(self._items[place])
        one = self._items[place]
        return Path(one) if isinstance(one, str) else one


def find_photos(arguments: Sequence[str | Path]) -> Photos:
    """The photos meant: files as they are given, folders with all images below them in the order of their names, those
    in a tar archive in its order, those that a text file lists, one a line, from its own folder on.

    Each once. Raises MissingError for what is not there or holds no image, SrnError for a damaged archive, UsageError
    for a compressed one.
    """
    found = chain.from_iterable(_meant(Path(one)) for one in arguments)
    if len(arguments) == 1 and Path(arguments[0]).suffix.lower() != LIST:
        return Photos(list(found))  # has each once
    return Photos(list(dict.fromkeys(found)))


def _meant(path: Path) -> Iterator[str | Member]:
    """The photos of one word."""
    if path.is_dir():
        inside = map(str, images_below(path))
        if (first := next(inside, None)) is None:
            raise MissingError(f"no image in the folder {path}: no file in it, whatever its ending, begins as one")
        yield first
        yield from inside
    elif not os.path.lexists(path):
        raise MissingError(f"no image file {path}")
    elif path.name.lower().endswith(COMPRESSED):
        raise UsageError(f"{path} is compressed: its images cannot be reached one by one", "unpack it to a .tar")
    elif path.suffix.lower() == TAR:
        yield from members(path)
    elif path.suffix.lower() == LIST:
        yield from map(str, listed(path))
    else:
        yield str(path)


def members(archive: Path) -> Iterator[Member]:
    """The images in a tar archive, hidden ones left out."""
    count = 0
    try:
        with tarfile.open(archive, "r:") as opened:
            for one in opened:
                opened.members.clear()  # it would keep all of them
                name = basename(one.name)  # a Path would leave its name with the interpreter
                if one.isreg() and splitext(name)[1].lower() in (*ENDINGS, *FOREIGN) and not name.startswith("."):
                    count += 1
                    yield Member(archive, one.name, one.offset_data, one.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise SrnError(f"{archive} is damaged or no tar archive: {error}", "make it again") from None
    if not count:
        raise MissingError(f"no image in the archive {archive}")


def listed(path: Path) -> Iterator[Path]:
    """The files that a text file lists."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SrnError(f"{path} cannot be read: {error.strerror}") from None
    names = [os.fsdecode(line.strip()) for line in lines if line.strip()]
    if not names:
        raise MissingError(f"{path} lists no image file", "one a line, from the folder of the list on")
    for number, name in enumerate(names, 1):
        if "\0" in name or not os.path.lexists(path.parent / name):
            raise MissingError(f"{path}, name {number}: no image file {name!r} in {path.parent}")
        yield path.parent / name
