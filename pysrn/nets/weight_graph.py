"""Nets as graphs of their layers with weights, and which layer of one net is which of another.

Under `official.py`. What lies between (ReLU, pooling, sums, maps) is contracted: a layer's sources are the layers with
weights whose values reach it through such layers. Two layers are the same when kind, shapes and, step by step, the
sources and readers of both agree: colour refinement (Weisfeiler and Lehman). Names are not asked. What is contracted
may leave a mark, where nets are alike but for its place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

NAMES_SHOWN = 4


@dataclass(frozen=True)
class Unit:
    """A layer with weights; `likeness` is what two that correspond must share, `sources` are places in the list.

    `behind`: the marks of what lies between it and its sources; without wiring, of what comes before it.
    """

    name: str
    likeness: Hashable
    sources: frozenset[int] = frozenset()
    behind: frozenset[Mark] = frozenset()


@dataclass(frozen=True)
class Mark:
    """In place of a likeness: a layer without weights that counts as wiring."""

    kind: str


class Mismatch(Exception):
    """The nets differ, or several readings are possible; the text says where. `weight`: how much differs."""

    def __init__(self, text: str, weight: int, ambiguous: bool = False) -> None:
        super().__init__(text)
        self.weight, self.ambiguous = weight, ambiguous


def units_of(
    layers: Iterable[tuple[str, Sequence[str], Sequence[str], Hashable | None]], wired: bool = True
) -> list[Unit]:
    """(name, bottoms, tops, likeness or, without weights, Mark or None) in order of computation -> the units."""
    units: list[Unit] = []
    nothing, before = (frozenset(), frozenset()), frozenset()
    reached: dict[str, tuple[frozenset, frozenset]] = {}  # blob -> the units whose values it carries, marks since then
    for name, bottoms, tops, likeness in layers:
        read = [reached.get(bottom, nothing) for bottom in bottoms]
        sources, marks = (frozenset().union(*parts) for parts in zip(nothing, *read, strict=True))
        if isinstance(likeness, Mark):
            marks |= {likeness}
            before |= {likeness}
        elif likeness is not None:
            units.append(Unit(name, likeness, sources, marks if wired else before))
            sources, marks = frozenset({len(units) - 1}), frozenset()
        reached.update(dict.fromkeys(tops, (sources, marks)))
    return units


def match(theirs: Sequence[Unit], ours: Sequence[Unit], known: Mapping[str, str], wired: bool) -> dict[str, str]:
    """Our name -> theirs, for every unit; raises Mismatch.

    `known` are pairs (theirs -> ours) that are given. `wired`: their wiring is known and decides; otherwise order does,
    where the wiring of our net leaves only one: among layers that are alike, each computed from the one before.
    """
    given = {ours_name: theirs_name for theirs_name, ours_name in known.items()}
    marked = not wired and any(unit.behind for unit in theirs)
    nets = [
        [(unit.likeness, unit.name if unit.name in known else None, marked and unit.behind) for unit in theirs],
        [(unit.likeness, given.get(unit.name), marked and unit.behind) for unit in ours],
    ]
    colours = _numbered(nets)
    _compare(colours, theirs, ours, "shape")
    while wired:
        finer = _numbered([_with_neighbours(c, units) for c, units in zip(colours, (theirs, ours), strict=True)])
        _compare(finer, theirs, ours, "wiring")
        if len(set(finer[1])) == len(set(colours[1])):
            break
        colours = finer
    groups = [_groups(of_net) for of_net in colours]
    before = _ancestors(ours)
    found = {}
    for colour, places in groups[1].items():
        others = groups[0][colour]
        in_line = all(a in before[b] for a, b in pairwise(places))
        if len(places) > 1 and (wired or not in_line):
            raise Mismatch(
                f"its layers {_names(theirs, others)} are alike, and may each be {_names(ours, places)}", 0, True
            )
        found.update((ours[b].name, theirs[a].name) for a, b in zip(others, places, strict=True))
    return {unit.name: found[unit.name] for unit in ours}


def _numbered(nets: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Colours as small numbers, the same in both nets."""
    numbers: dict[Hashable, int] = {}
    return [[numbers.setdefault(colour, len(numbers)) for colour in net] for net in nets]


def _with_neighbours(colours: Sequence[int], units: Sequence[Unit]) -> list[Hashable]:
    """Each unit's colour with those of its sources and of its readers, and what lies between."""
    readers = defaultdict(list)
    for place, unit in enumerate(units):
        for source in unit.sources:
            readers[source].append(colours[place])
    return [
        (colours[i], tuple(sorted(colours[s] for s in unit.sources)), tuple(sorted(readers[i])), unit.behind)
        for i, unit in enumerate(units)
    ]


def _compare(colours: Sequence[Sequence[int]], theirs: Sequence[Unit], ours: Sequence[Unit], what: str) -> None:
    """Raise Mismatch when the nets do not have the same colours, each as often."""
    counts = [Counter(net) for net in colours]
    only = [
        [unit for unit, colour in zip(units, net, strict=True) if counts[0][colour] != counts[1][colour]]
        for units, net in zip((theirs, ours), colours, strict=True)
    ]
    if any(only):
        here, there = (_names(units, range(len(units))) or "nothing" for units in only)
        raise Mismatch(f"by {what}, {here} in it do not fit {there} of the net", len(only[0]) + len(only[1]))


def _groups(colours: Sequence[int]) -> dict[int, list[int]]:
    groups = defaultdict(list)
    for place, colour in enumerate(colours):
        groups[colour].append(place)
    return groups


def _ancestors(units: Sequence[Unit]) -> list[frozenset[int]]:
    """Of each unit, all those that it is computed from."""
    found: list[frozenset[int]] = []
    for unit in units:
        found.append(unit.sources.union(*(found[source] for source in unit.sources)))
    return found


def _names(units: Sequence[Unit], places: Iterable[int]) -> str:
    names = [units[place].name for place in places]
    return ", ".join(names[:NAMES_SHOWN]) + (
        f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    )
