"""What readers of annotations ask of foreign names and of the split they made, whatever the format.

A fault of a single record is a reason for `AnnotatedSplit.left_out`; a split of which nothing is left is an error.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from pysrn.console import MissingError, SrnError
from pysrn.data.readers.records import AnnotatedSplit

KEY_BYTES = 400  # LMDB takes keys of 511 bytes; the pair's own number comes before the name

# In names of files and classes: control characters, ends of lines, halves of characters.
BAD_SIGNS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 100


def shown(value: object) -> str:
    """A foreign value for a message: on one line, shortened."""
    return _short.repr(value)


def file_name_fault(name: object) -> str:
    """Why `name` cannot name a file inside the image folder; empty when it can."""
    if not isinstance(name, str) or not name.strip("./"):
        return f"file_name {shown(name)} is no file name"
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"file_name {shown(name)} is not valid Unicode"
    if "\0" in name:
        return f"file_name {shown(name)} holds a NUL"
    if name.startswith("/") or ".." in name.split("/"):
        return f"file_name {shown(name)} leads out of the image folder"
    return ""


def key_names(files: Iterable[PurePath]) -> list[str]:
    """`folder/name.jpg` -> `folder_name`, unique: of names that come to the same, later ones get `~2`, `~3` ..."""
    taken: set[str] = set()
    repeated: Counter[str] = Counter()
    keys = []
    for file in files:
        name = "_".join((*file.parts[:-1], file.stem)).encode(errors="replace")  # not all file names are Unicode
        key = stem = name[-KEY_BYTES:].decode(errors="ignore")
        while key in taken:
            repeated[stem] += 1
            key = f"{stem}~{repeated[stem] + 1}"
        taken.add(key)
        keys.append(key)
    return keys


def usable(split: AnnotatedSplit) -> AnnotatedSplit:
    """The split, when a sample is left in it.

    Raises MissingError for one that listed nothing, SrnError for one of which nothing can be used.
    """
    if not split.samples and not split.left_out:
        raise MissingError(f"{split.sources[0]}: the data set is empty, it lists no images")
    if not split.samples:
        first = ": ".join(split.left_out[0])
        first = first if first.isprintable() and len(first) < 300 else shown(first)
        raise SrnError(f"{split.sources[0]}: none of what it lists can be used ({len(split.left_out)}); first, {first}")
    return split
