"""Where the images lie that an annotation of another tool or machine names."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from pysrn.console import MissingError, SrnError, message
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.names import image_places


def name_parts(name: str) -> tuple[str, ...]:
    """Folders and file name; `\\` divides, too, `.` says nothing, and what `..` leads out of is another machine's."""
    parts = image_places.name_parts(name)
    return tuple(parts[len(parts) - parts[::-1].index("..") :] if ".." in parts else parts)


def located(names: Sequence[str], bases: Iterable[Path], source: Path) -> list[tuple[Path, str]]:
    """For each name its file, and its name from the folder in which all are looked for.

    One rule is chosen for all: the first of `bases`, with the fewest leading folders off, by which most of some
    names, spread evenly, are found. Names may be URL-encoded, or composed otherwise than on the disk.
    Raises MissingError where none is found, SrnError where two names come to the same file.
    """
    parts = [name_parts(name) for name in names]
    probes = image_places.probed(parts)
    bases = [base for base in dict.fromkeys(bases) if base.is_dir()]
    if names[0].startswith("/"):
        bases.append(Path("/"))
    best, rule = 0, None
    for off in range(max(map(len, probes), default=0)):
        for base in bases:
            found = sum(os.path.isfile(_file(base, probe[off:])) for probe in probes if len(probe) > off)
            if found > best:
                best, rule = found, (base, off)
    if rule is None:
        looked = ", ".join(map(str, bases[:3]))
        raise MissingError(
            f"{source}: none of {len(probes)} images is there; looked for {printable('/'.join(probes[0]), 200)} in "
            f"{looked}, and so on, also without leading folders"
        )
    base, off = rule
    if off:
        message(f"{source}: images found in {base} without the {off} leading folders of their names")
    files = [_file(base, part[off:] or part[-1:]) for part in parts]
    of_file: dict[Path, tuple[str, ...]] = {}
    for file, part in zip(files, parts, strict=True):
        if of_file.setdefault(file, part) != part:
            both = " and ".join(printable("/".join(name), 100) for name in (of_file[file], part))
            raise SrnError(f"{source}: {both} come to the same file {file}")
    return [(file, str(file.relative_to(base))) for file in files]


def _file(base: Path, parts: Sequence[str]) -> Path:
    name = "/".join(parts)
    forms = dict.fromkeys((name, unquote(name)))
    forms |= dict.fromkeys(unicodedata.normalize(form, text) for text in list(forms) for form in ("NFC", "NFD"))
    safe = [form for form in forms if ".." not in form.split("/")]
    return base / next((form for form in safe if os.path.isfile(base / form)), name)
