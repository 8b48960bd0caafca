"""Class names with more in them than a name: quotes of a cell, half a list, a confidence; signs that nobody sees."""

from __future__ import annotations

import re

from pysrn.console import SrnError, message
from pysrn.data.readers.names.folding import oddly_written
from pysrn.data.readers.records import Naming

_QUOTES = '"\u201c\u201d\u201e\u00ab\u00bb'
_QUOTED = re.compile(rf"[{_QUOTES}].*|.*[^\d{_QUOTES}][{_QUOTES}]|['\u2018`].*['\u2019`]", re.DOTALL)  # `12"` is inches
_HALF = re.compile(r"[\[({][^\])}]*|[^\[({]*\w\s*[\])}]", re.DOTALL)  # `{cat` of `{cat,dog}`
_SHARE = r"(?:0?\.\d+|[01]\.\d+|\d{1,3}(?:\.\d+)?\s*%)"  # 0.9, .9, 1.0, 90 %
_CONFIDENCE = re.compile(rf".*\S\s*(?:[:=@(\[|]\s*{_SHARE}\s*[)\]}}]?)", re.DOTALL)  # cat:0.9, cat=.9, cat (90 %)
_NUMBERED = re.compile(r".*[^\W\d]\s*(?:[:=]\s*\d+|\s(?:0?|[01])\.\d+)", re.DOTALL)  # cat:2, cat 0.9: may be meant
REASONS = {
    "has quotes in it": _QUOTED,
    "looks like a piece of a list": _HALF,
    "looks like a label with its confidence": _CONFIDENCE,
}


def is_odd(name: str) -> bool:
    """Whether a name is better written otherwise."""
    return bool(oddly_written(name)) or any(pattern.fullmatch(name) for pattern in REASONS.values())


def check_odd_names(namings: list[Naming]) -> None:
    """Raise SrnError for what is no name, unless a list of the classes has it; say what may be none."""
    listed = {naming.name for naming in namings if naming.listed}
    first: dict[str, Naming] = {}
    for naming in namings:
        first.setdefault(naming.name, naming)
    for naming in first.values():
        for reason, pattern in REASONS.items() if naming.name not in listed else ():
            if pattern.fullmatch(naming.name):
                raise SrnError(
                    f"{naming.place}: class name {naming.name!r} {reason}",
                    "write the name alone (in a table cat;dog, the cell as a whole in quotes or none of it), "
                    "or list it as it is in classes.txt",
                )
    numbered = [naming for name, naming in first.items() if name not in listed and _NUMBERED.fullmatch(name)]
    if numbered:
        one = f"{numbered[0].name!r} ({numbered[0].place})"
        message(f"warning: {len(numbered)} class names end in a number, the first {one}: a count, or a confidence?")
    for naming in first.values():
        if reason := oddly_written(naming.name):
            message(f"warning: {naming.place}: class name {naming.name!a} {reason}: write it anew if this is not meant")
