"""Label names that are several: `cat|dog` where `;` divides the names of a cell would be a class of its own.

Whether a sign divides is seen from the names of both splits: the pieces are classes themselves, or come again.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pysrn.console import SrnError, message
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.names.folding import folded
from pysrn.data.readers.records import Naming

DIVIDER = ";"  # in a cell of label names, unless --separator says otherwise
NEVER_IN_NAMES = "|\t\n"  # assumed: two names with one of these are enough to take it for a divider
DIVIDING = f"{NEVER_IN_NAMES},;/+&\uff5c\uff0c\uff1b\uff0f\uff0b\uff06\u3001"  # as wide letters have them, too
PERHAPS = (" ", "-", "_", ":", ".", "\\", " and ")  # parts of good names: `hot dog`, `t-shirt`
_SIGNS = ("Po", "Sm", "Sc", "Sk")  # Unicode's other marks, as `#` and `~`: they divide where every piece is a label
_ESCAPED = {"\t": r"\t", "\n": r"\n"}
TWO_VALUES = frozenset(("0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false", "t", "f", "yes", "no", "y", "n"))
# What pandas, databases, sheets, Roboflow write for none:
NO_NAMES = frozenset(("nan", "<na>", "null", "n/a", "#n/a", "?", "-", "unlabeled", "unlabelled"))
NO_NAMES_EXACTLY = ("None", "NA")  # Python's and R's; `none` and `Na` may be names


def check_names(found: Sequence[Naming], listed: Sequence[str], separator: str | None, several: bool) -> None:
    """Look at the names in the label cells of all tables; a name that the user has `listed` as a class is one.

    `separator`: as the user gave it, whose word ends all doubt; `several`: some cell names more than one label.
    Raises SrnError for names that are several, for 0 and 1, and for what is written for an empty cell.
    """
    names: dict[str, str] = {}
    for naming in found:
        if naming.name not in listed:
            names.setdefault(naming.name, naming.place)
    for name, place in names.items():
        if name.lower() in NO_NAMES or name in NO_NAMES_EXACTLY:
            raise SrnError(
                f"{place}: {shown(name)} is what is written for an empty cell, no label name",
                "leave the cell empty (pandas: na_rep=''), or list the class in classes.txt",
            )
    if names and not several and {naming.name.lower() for naming in found} <= TWO_VALUES:
        raise SrnError(
            f"{next(iter(names.values()))}: every label is one of {', '.join(sorted(names))}: is it yes or no, "
            "or the name of a class?",
            "for yes and no, write 1 and 0 under the class's name: file,cat; for names, list them in classes.txt",
        )
    alone = {folded(name) for name in (*listed, *names)}
    signs = sorted({sign for name in names for sign in name if unicodedata.category(sign) in _SIGNS})
    for sign in dict.fromkeys((*DIVIDING, " ", *(sign for sign in signs if sign not in (*PERHAPS, "'", '"')))):
        if sign != (separator or DIVIDER):
            _check_divided(names, alone, sign, separator is not None)
    _warn_of_made_names(names, alone)


def _check_divided(names: dict[str, str], alone: set[str], sign: str, sure: bool) -> None:
    """Raise, or if the user is `sure` say, that `sign` divides some names."""
    pieces = {name: parts for name in names if len(parts := _pieces(name, sign)) > 1}
    if sign == " ":  # numbers of classes: `16 0`
        pieces = {name: parts for name, parts in pieces.items() if all(part.isdecimal() for part in parts)}
    times = Counter(part for parts in pieces.values() for part in {folded(part) for part in parts})
    known = {part for part in times if part in alone or times[part] > 1}
    enough = any if sign in (*DIVIDING, " ") else all
    proof = [name for name, parts in pieces.items() if enough(folded(part) in known for part in parts)]
    if enough is all:  # `4*2`, `2*4`
        proof = [name for name in proof if not all(part.isdecimal() for part in pieces[name])]
    if sign in NEVER_IN_NAMES and len(pieces) > 1:
        proof = list(pieces)
    suspect = proof or (list(pieces) if sign in NEVER_IN_NAMES else [])
    if not suspect:
        return
    first = suspect[0]
    given = shlex.quote(_ESCAPED.get(sign, sign))
    what = f"{names[first]}: label {shown(first)} looks like {len(pieces[first])} labels divided by {sign!r}"
    more = f"; so do {len(suspect) - 1} more names" if len(suspect) > 1 else ""
    if proof and not sure:
        raise SrnError(
            what + more,
            f"--separator {given} divides them, --separator {shlex.quote(DIVIDER)} takes each for the name of a class",
        )
    message(f"warning: {what}{more}; it is read as one class")


def warn_of_made_names(found: Sequence[Naming]) -> None:
    """Say which class names are made of others, by any sign: where no cell was divided, nobody can give a separator."""
    listed = {naming.name for naming in found if naming.listed}
    names = {naming.name: naming.place for naming in reversed(found) if naming.name not in listed}
    alone = {folded(naming.name) for naming in found}
    for sign in (*DIVIDING, *PERHAPS):
        _say_made(_made(names, alone, sign), names, sign, "each is a class of its own")


def _warn_of_made_names(names: dict[str, str], alone: set[str]) -> None:
    """Say which names are made of other classes' names, by signs that good names have, too."""
    for sign in PERHAPS:
        made = _made(names, alone, sign)
        words = {folded(part) for name in names for part in _pieces(name, sign)}
        if sign == " " and not made and len(words) < len(names):  # few words, combined in many ways
            made = [name for name in names if len(_pieces(name, sign)) > 1]
        _say_made(made, names, sign, f"if it divides labels, give --separator {shlex.quote(sign)}")


def _made(names: Iterable[str], alone: set[str], sign: str) -> list[str]:
    return [name for name in names if len(p := _pieces(name, sign)) > 1 and alone.issuperset(map(folded, p))]


def _say_made(made: Sequence[str], names: Mapping[str, str], sign: str, then: str) -> None:
    if made:
        first = f"{shown(made[0])} ({names[made[0]]})"
        message(f"warning: {len(made)} class names are made of others by {sign!r}, the first {first}; {then}")


def _pieces(name: str, sign: str) -> list[str]:
    return [part for part in map(str.strip, name.split(sign)) if part]
