"""Class names that look alike: the exact name is a class's identity, and two spellings of one are never two in silence.

`Cat` and `cat`, `traffic_light` and `traffic light`, or one word in two Unicode forms would be two classes, each with
a part of the images. Every reader of own names asks `one_spelling`; the lists of known data sets are `matched`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pysrn.console import SrnError, message

MERGE = "--merge-alike"
_SHOWN = 3  # groups of look-alikes in a message
_LONGEST = 100  # characters of a name in a message: those around where the names of a group begin to differ
# Letters or marks to Unicode, but nothing to the eye: fillers, the joiner of graphemes, variation selectors.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\ufe00-\ufe0f]")


@dataclass(frozen=True)
class Naming:
    """A class name, and where (`line 3`) which file first has it; `images`: on how many of its rows.

    `listed`: in a list of the classes, whose spelling is the right one.
    """

    name: str
    file: Path
    where: str
    images: int = 0
    listed: bool = False

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file} {self.where}"


def folded(name: str) -> str:
    """What a name shares with its look-alikes: no case, blanks, `_`, hyphens, unseen signs; one Unicode form (NFKC).

    What tells numbers apart is kept: `10-20` is not `1020`, `-1` is not `1`; but `3.0` is `3`.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    text = "".join(map(_plain_sign, _UNSEEN.sub("", text))).strip()
    sign = "-" if re.match(r"-\d", text) else ""
    text = re.sub(r"(?<![\d -])[ -]++|[ -]++(?!\d)", "", text)  # what divides digits stays
    text = sign + re.sub(r"[ -]+", " ", text)
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text) or name


def _plain_sign(sign: str) -> str:
    kind = unicodedata.category(sign)
    if sign.isspace() or kind == "Pc":
        return " "
    if kind == "Pd" or sign == "\N{MINUS SIGN}":
        return "-"
    return "" if kind in ("Cf", "Cc") else sign


def one_spelling(namings: Sequence[Naming], merge: bool = False) -> dict[str, str]:
    """Every name -> the spelling that is kept of it: itself, unless look-alikes are merged.

    With `merge` that of a list, else that of the most images, and a message says so. Raises SrnError, without `merge`,
    for names that look alike, with the spellings and their places.
    """
    groups: dict[str, dict[str, list[Naming]]] = {}
    for naming in namings:
        groups.setdefault(folded(naming.name), {}).setdefault(naming.name, []).append(naming)
    alike = [group for group in groups.values() if len(group) > 1]
    if alike and not merge:
        first = "; ".join(map(_listing, alike[:_SHOWN]))
        more = f"; and {len(alike) - _SHOWN} more" if len(alike) > _SHOWN else ""
        raise SrnError(
            f"class names that look alike: {first}{more}",
            f"write one spelling, or give {MERGE}, which takes them for one class",
        )
    kept = {naming.name: naming.name for naming in namings}
    for group in alike:
        weight = {name: (any(n.listed for n in found), sum(n.images for n in found)) for name, found in group.items()}
        best = max(weight, key=weight.__getitem__)
        others = ", ".join(f"{_spelled(name, group)} ({weight[name][1]} rows)" for name in group if name != best)
        message(f"merged into class {_spelled(best, group)} ({weight[best][1]} rows): {others}")
        kept.update(dict.fromkeys(group, best))
    return kept


def matched(names: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Every name -> that of the known list which it spells, exactly or as a look-alike; others stay as they are.

    For names of which no two look alike, as `one_spelling` leaves them; those of a known list do not either.
    """
    by_look = {folded(name): name for name in known}
    return {name: name if name in known else by_look.get(folded(name), name) for name in names}


def _listing(group: Mapping[str, Sequence[Naming]]) -> str:
    """The spellings of a group, each with its place, in the order of the files and their lines."""
    firsts = [found[0] for found in group.values()]
    files = list(dict.fromkeys(first.file for first in firsts))
    firsts.sort(key=lambda first: (files.index(first.file), int(re.sub(r"\D", "", first.where) or 0)))
    words, file = [], None
    for first in firsts:
        words.append(f"{first.place if first.file != file else first.where} {_spelled(first.name, group)}")
        file = first.file
    return ", ".join(words)


def _spelled(name: str, group: Iterable[str]) -> str:
    """A name for a message, so that what differs in its group shows: escaped where the eye would see the same."""
    others = [unicodedata.normalize("NFKC", other) for other in group if other != name]
    form = ascii if unicodedata.normalize("NFKC", name) in others else repr
    text = form(name)
    if len(text) <= _LONGEST:
        return text
    same = takewhile(lambda signs: len(set(signs)) == 1, zip(*map(form, group), strict=False))
    start = max(0, sum(1 for _ in same) - _LONGEST // 2)
    return f"{'...' if start else ''}{text[start : start + _LONGEST]}..."
