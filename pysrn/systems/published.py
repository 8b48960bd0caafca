"""A paper's result tables as data: every figure with its sources and how far to trust it, and what is near enough.

`evaluate/compare.py` lays a run's figures beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

DECISIONS = ("F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")
TOP3_PREFIX = "top-3 "
COLUMNS = ("mAP", *DECISIONS, *(TOP3_PREFIX + name for name in DECISIONS))  # of the field's tables
MAP_AT_10 = "MAP@10"  # of an image's first ten labels, the mean over the images: no mAP
AP_PREFIX = "AP "  # of one class
HARMONIC = "F1-C_harmonic"
NOT_PRINTED, NOT_FOUND = "-", "?"  # the sources print a dash; no source could be found


@dataclass(frozen=True)
class Figure:
    """A cell: its value in percent with sources (keys of `Published.sources`) and trust, or None and why."""

    value: float | None
    sources: tuple[str, ...] = ()
    trust: str = ""
    note: str = ""


@dataclass(frozen=True)
class PaperTable:
    """One data set's table.

    Attributes:
        columns: metrics, those with TOP3_PREFIX under the rule `top3_rule`.
        rows: method -> column -> figure; every row has all columns.
        top3_rule: block of `metrics.BLOCKS`, None where the paper has no top-3 figures.
        notes: what holds for a whole row, by method.
        interpolated: whether its mAP is the mean of VOC 2012's AP; False: of the one that is not interpolated.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Figure]]
    top3_rule: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    interpolated: bool = True


@dataclass(frozen=True)
class Tolerance:
    """How far from the paper's figure is still the same, in points, and why."""

    points: float
    reason: str


NO_TOLERANCE = Tolerance(0.0, "no source says how far another training may end")


@dataclass(frozen=True)
class Method:
    """A row of the paper's table and the score that stands against it.

    `alone`: of predictions that have no other score (an early stage's); else of the last ones that have it.
    """

    title: str
    score: str
    alone: bool = False


@dataclass(frozen=True)
class Published:
    """What a system's paper prints: data set -> table, the rows that a run stands against, sources, tolerances."""

    tables: Mapping[str, PaperTable] = field(default_factory=dict)
    methods: tuple[Method, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    trust: Mapping[str, str] = field(default_factory=dict)
    tolerances: Callable[[str], Mapping[str, Tolerance]] = lambda dataset: dict.fromkeys(COLUMNS, NO_TOLERANCE)


NOTHING_PUBLISHED = Published()
AS_PUBLISHED, DIFFERS, UNKNOWN = "as published", "differs", "not published"  # verdicts on a run, for its report


def row_of(
    columns: tuple[str, ...],
    values: str,
    sources: str = "",
    trust: str = "",
    other: Mapping[str, tuple[str, str]] | None = None,
    notes: Mapping[str, str] | None = None,
) -> dict[str, Figure]:
    """A row from its values in the order of the columns; `other` has the (sources, trust) of single columns."""
    row = {}
    for column, value in zip(columns, values.split(), strict=True):
        note = (notes or {}).get(column, "")
        if value in (NOT_PRINTED, NOT_FOUND):
            row[column] = Figure(None, trust=value, note=note)
        else:
            keys, mark = (other or {}).get(column, (sources, trust))
            row[column] = Figure(float(value), tuple(keys.split()), mark, note)
    return row


def judged(what: str, ours: str, paper: str, same: bool | None = False) -> tuple[str, str, str, str]:
    """A row of `System.against_paper`: equal words are the same in any case; `same` None: nobody can tell."""
    if not paper or same is None:
        return what, ours, paper, UNKNOWN
    return what, ours, paper, AS_PUBLISHED if same or ours == paper else DIFFERS
