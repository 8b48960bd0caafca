"""Several rows of one image: what they make of its labels, or why they cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pysrn.console import SrnError, message
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.records import NEGATIVE, POSITIVE, UNSPECIFIED

# What is done where they differ:
LEFT_OUT = "left out"  # nobody knows which are right
UNITED = "united"  # each row names some of the labels
REFUSED = "refused"  # a table of the user's own, who can mend it; united where no row contradicts another


def without_repetitions(
    files: list[str],
    labels: np.ndarray,
    places: list[tuple[Path, int]],
    repeated: str,
    classes: Sequence[str],
    left_out: list[tuple[str, str]],
) -> list[int]:
    """Indices of the rows to keep; appends others to `left_out`, and unites the `labels` of rows as `repeated` says."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(files):
        rows_of.setdefault(name, []).append(row)
    keep, contradictory, united = [], 0, []
    for name, rows in rows_of.items():
        first = rows[0]
        if len(rows) == 1 or (labels[rows] == labels[first]).all():
            keep.append(first)
            left_out += [(name, f"listed twice: {places[row][0].name} line {places[row][1]}") for row in rows[1:]]
        elif repeated == LEFT_OUT:
            contradictory += 1
            lines = ", ".join(str(places[row][1]) for row in rows[:9])
            reason = f"listed several times with different labels: {len(rows)}, on lines {lines}"
            left_out += [(name, reason) for _ in rows]
        else:
            yes, no = (labels[rows] == POSITIVE).any(0), (labels[rows] == NEGATIVE).any(0)
            if repeated == REFUSED and (yes & no).any():
                raise _contradiction(name, rows, int((yes & no).argmax()), labels, places, classes)
            labels[first] = np.where(yes, POSITIVE, np.where(no, NEGATIVE, UNSPECIFIED))
            keep.append(first)
            united.append(rows)
    if contradictory:
        message(f"{contradictory} names are listed several times with different labels: left out")
    if united:
        (source, line), (_, other) = places[united[0][0]], places[united[0][1]]
        message(
            f"{source}: {len(united):,} images have several rows: labels united; the first, on lines {line} and {other}"
        )
    return sorted(keep)


def _contradiction(
    name: str,
    rows: list[int],
    column: int,
    labels: np.ndarray,
    places: list[tuple[Path, int]],
    classes: Sequence[str],
) -> SrnError:
    """The error for an image that has a class in one row and has it not in another."""
    rows = [next(row for row in rows if labels[row, column] == value) for value in (POSITIVE, NEGATIVE)]
    (source, line), (other, other_line) = sorted(places[row] for row in rows)
    return SrnError(
        f"{source} line {line} and {'' if other == source else f'{other} '}line {other_line}: the same image, "
        f"{printable(Path(name).name)}, has {printable(classes[column])!r} in one and has it not in the other",
        "write one row an image (pandas: table.groupby('file', as_index=False).max() unites them), "
        "or name the labels: file,labels",
    )
