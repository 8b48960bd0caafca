"""Class names that look alike: the exact name is a class's identity, and two spellings of one are never two in silence.

`Cat` and `cat`, `traffic_light` and `traffic light`, or one word in two Unicode forms would be two classes, each with
a part of the images. Every reader of own names asks `one_spelling`; the lists of known data sets are `matched`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from pysrn.console import SrnError, message
from pysrn.data.readers.names.folding import folded, seen
from pysrn.data.readers.names.odd_names import check_odd_names, is_odd
from pysrn.data.readers.records import Naming

MERGE = "--merge-alike"
_SHOWN = 3  # groups of look-alikes in a message
_LONGEST = 100  # characters of a name in a message: those around where the names of a group begin to differ


def one_spelling(namings: Sequence[Naming], merge: bool = False) -> dict[str, str]:
    """Every name -> the spelling that is kept of it: itself, unless look-alikes are merged.

    With `merge` that of a list, else one that is plainly written, else that of the most images, and a message says so.
    Raises SrnError, without `merge`, for names that look alike, with the spellings and their places; and as
    `check_odd_names`.
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
        rows = {name: sum(naming.images for naming in found) for name, found in group.items()}
        listed = {name for name, found in group.items() if any(naming.listed for naming in found)}
        best = max(group, key=lambda name: (name in listed, not is_odd(name), rows[name]))
        others = ", ".join(f"{_spelled(name, group)} ({rows[name]} rows)" for name in group if name != best)
        message(f"merged into class {_spelled(best, group)} ({rows[best]} rows): {others}")
        kept.update(dict.fromkeys(group, best))
    check_odd_names([naming for naming in namings if kept[naming.name] == naming.name])
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
    form = ascii if seen(name) in [seen(other) for other in group if other != name] else repr
    text = form(name)
    if len(text) <= _LONGEST:
        return text
    same = takewhile(lambda signs: len(set(signs)) == 1, zip(*map(form, group), strict=False))
    start = max(0, sum(1 for _ in same) - _LONGEST // 2)
    return f"{'...' if start else ''}{text[start : start + _LONGEST]}..."
