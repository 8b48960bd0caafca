"""Where the images lie that an annotation names: it may name another machine's folders, or files without an ending."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np

from pysrn.console import MissingError, SrnError, message
from pysrn.data.image_files import ENDINGS
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.label_text import is_utf8, printable
from pysrn.data.readers.records import PARTS

FOLDERS = (".", "Flickr", "images", "Images", "image", "Image")  # below the root; assumed: what copies of data sets use
_PROBES = 64  # names that are looked for to learn where the images lie


def name_parts(name: str) -> list[str]:
    """Folders and file name; `\\` divides, too, `.` says nothing, and what `..` leads out of is another machine's."""
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    return parts[len(parts) - parts[::-1].index("..") :] if ".." in parts else parts


def image_folders(root: Path, source: Path, split: str) -> list[Path]:
    """The folders that the images of a table may lie in, those tried first in front."""
    bases = [root / folder for folder in FOLDERS]
    if split:
        if source.parent != root and source.is_relative_to(root):
            bases.insert(0, source.parent)  # a table beside its images
        own = ("train",) if split == "train" else ("test", "val")  # which is the test split where there is no other
        words = [word for part in own for word in PARTS if PARTS[word] == part]
        parts = [form for word in words for form in (word, word.title())]
        bases += [path for part in parts for base in FOLDERS for path in (root / base / part, root / part / base)]
    return bases


def located(
    names: Sequence[str], bases: Iterable[Path], root: Path, source: Path, places: Sequence[str] | None = None
) -> tuple[Path, list[str]]:
    """Which of `bases` the images are in, and the names with some leading folders off and the file's ending on.

    Lists that circulate carry the folders of another machine. One rule is chosen for a file: the first of `bases`, with
    the fewest leading folders off, by which most of `_PROBES` names, spread evenly, are found. Names may be URL-encoded
    or composed otherwise than on the disk.
    Raises MissingError when none is found; and, with `places` (where in `source` each name stands), SrnError for images
    of two folders that come to one file.
    """
    parts = list(map(name_parts, names))
    probes = [parts[int(index)] for index in np.linspace(0, len(parts) - 1, min(_PROBES, len(parts)))]
    bases = [base for base in dict.fromkeys(bases) if base.is_dir()]
    if names[0].strip().startswith("/"):
        bases.append(Path("/"))
    endings_in = cache(_endings_in)
    best, rule = 0, (root, 0, [])
    for off in range(max(map(len, probes), default=0)):
        for base in bases:
            tried = (_found(base, "/".join(probe[off:]), endings_in) for probe in probes if len(probe) > off)
            if len(found := [endings for _, endings in tried if endings]) > best:
                best, rule = len(found), (base, off, found)
    base, off, found = rule
    if not best:
        first = "/".join(probes[0])
        ending = "" if _is_named(first) else ENDINGS[0]
        looked = ", ".join(str(base / (first + ending)) for base in bases[:3])
        raise MissingError(
            f"{source}: none of {len(probes)} images is below {root}; looked for {printable(looked, 300)}, and so on, "
            "also without leading folders",
            "give the folder that the names in the file start from as --root",
        )
    if off:
        message(f"{source}: images found in {base} without the {off} leading folders of their names")
    times = Counter(ending for endings in found for ending in endings if ending)
    usual = sorted(times, key=lambda ending: (-times[ending], ENDINGS.index(ending.lower()), ending))

    several = []

    def on_disk(tail: str) -> str:
        form, there = _found(base, tail, endings_in)
        there = there or ("" if _is_named(tail) or not usual else usual[0],)
        taken = form + next((ending for ending in ("", *usual) if ending in there), there[0])
        if len(there) > 1:
            several.append((taken, [form + ending for ending in there if form + ending != taken]))
        return taken

    files = [on_disk("/".join(part[off:] or part[-1:])) for part in parts]
    if several:
        taken, others = several[0]
        said = f"{printable(taken)} is taken, not {printable(', '.join(others))}"
        message(f"warning: {source}: {len(several)} names without an ending fit several files; the first: {said}")
    first_of: dict[str, int] = {}
    for row, file in enumerate(files if places else ()):  # `a/1.jpg` and `b/1.jpg` are two images
        one = first_of.setdefault(file, row)
        if parts[one][:-1] != parts[row][:-1]:
            both = " and ".join(f"{places[number]} {shown(names[number])}" for number in (one, row))
            raise SrnError(
                f"{source}: {both} come to the same file, {printable(file)}",
                "lay the images into the folders that are named; if they are one image, write its name alone",
            )
    return base, files


def _is_named(name: str) -> bool:
    """Whether a name ends as an image's does; a dot alone, as in `scan.0001`, is no ending."""
    return PurePosixPath(name).suffix.lower() in ENDINGS


def _forms(name: str) -> Iterator[str]:
    """The ways to write a name: as it is, URL-decoded, composed otherwise, or in the bytes of Windows or from these."""
    yield name
    if not is_utf8(name):
        with suppress(UnicodeError):
            name = os.fsencode(name).decode("cp1252")
    plain = unquote(name)
    yield from (unicodedata.normalize(form, text) for text in dict.fromkeys((name, plain)) for form in ("NFC", "NFD"))
    if not plain.isascii():
        with suppress(UnicodeError):
            yield os.fsdecode(unicodedata.normalize("NFC", plain).encode("cp1252"))


def _found(base: Path, tail: str, endings_in: Callable[[str], Mapping[str, list[str]]]) -> tuple[str, Sequence[str]]:
    """A name as the disk has it, and what can be put behind it so that it is a file in `base`: "" where it is one."""
    if os.path.isfile(base / tail):  # takes names that no file can have
        return tail, ("",)
    forms = [form for form in _forms(tail) if ".." not in form.split("/")]
    for form in forms:
        if os.path.isfile(base / form):
            return form, ("",)
    for form in forms:
        folder, _, name = form.rpartition("/")
        if _is_named(tail):  # `a.JPG` may be `a.jpg`
            stem, ending = os.path.splitext(name)
            there = [one for one in endings_in(str(base / folder)).get(stem, ()) if one.lower() == ending.lower()]
            if there:
                return form.removesuffix(ending) + there[0], ("",)
        elif there := endings_in(str(base / folder)).get(name):
            return form, there
    return tail, ()


def _endings_in(folder: str) -> Mapping[str, list[str]]:
    """Image files of a folder: name without the ending -> its endings, as they are written."""
    found: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() in ENDINGS and entry.is_file():
                    found.setdefault(stem, []).append(ending)
    except (OSError, ValueError):  # there is none, or none can have this name
        return {}
    return found
