"""What is timed of a net as one: a convolution or an inner product, and what follows it up to the next one.

Batch normalisation, rectifiers and sums that our engine (`fusion`), OpenVINO or a folded PyTorch net compute within a
convolution are so in one row with it, whether they are fused or not, and all contestants have the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pysrn.benchmark.limit import COUNTED

ROWS = "rows"  # in the description of our contestant, and in the figures
BEFORE, UPDATE = "before", "update"  # what is computed before the first row; the weights' update behind the last


@dataclass(frozen=True)
class Row:
    """Layers `first` to `last` of a net, by number, and the names of all that they are known by, blobs they make too.

    The row is named after the first one.
    """

    name: str
    first: int
    last: int
    layers: tuple[str, ...]
    blobs: tuple[str, ...] = ()


def rows_of(net) -> list[Row]:
    """The rows of a pycaffe net that has run once; they hold all of its layers, in order; the first one is BEFORE.

    Where memory that layers share keeps a pass from beginning at a row, it is one with the row before it.
    """
    names = list(net._layer_names)
    starts = [0]
    for number, layer in enumerate(net.layers):
        if layer.type in COUNTED:
            starts.append(number)
    ends = [*starts[1:], len(names)]
    found: list[Row] = []
    for first, end in zip(starts, ends, strict=True):
        if found and not _can_begin(net, first, end):
            first = found.pop().first
        layers = tuple(names[first:end])
        blobs = dict.fromkeys(top for layer in layers for top in net.top_names[layer])
        found.append(Row(layers[0] if first else BEFORE, first, end - 1, layers, tuple(blobs)))
    return found


def block_of(layer: str) -> str:
    """The part of a net that a layer is in: its name up to the first underscore."""
    return layer.partition("_")[0]


def row_of_each(rows: Sequence[Row]) -> dict[str, str]:
    """Layer, blob or row -> the name of its row; layers come before blobs of the same name."""
    blobs = {blob: row.name for row in reversed(rows) for blob in row.blobs}
    return blobs | {layer: row.name for row in rows for layer in (row.name, *row.layers)} | {UPDATE: UPDATE}


def sum_by_row(parts: Iterable[Sequence], rows: Sequence[Row]) -> dict[str, float]:
    """Row -> seconds, of pairs of a layer and its seconds in the order in which they were computed.

    A layer that no row has (a peer may have more) belongs to what came before it. UPDATE is a row of its own.
    """
    row_of = row_of_each(rows)
    found = {row.name: 0.0 for row in rows}
    current = BEFORE
    for layer, seconds in parts:
        current = row_of.get(layer, current)
        found[current] = found.get(current, 0.0) + seconds
    return found


def _can_begin(net, first: int, end: int) -> bool:
    """Whether nothing that layers from `first` on read is in shared memory, but what they compute themselves."""
    made: set[str] = set()
    for name in list(net._layer_names)[first:end]:
        if any(getattr(net.blobs[blob], "_pooled_data", False) for blob in net.bottom_names[name] if blob not in made):
            return False
        made.update(net.top_names[name])
    return True
