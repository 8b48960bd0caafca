"""Weight surgery between stages: strict copies with a report, fingerprints of what must not change, carried layers.

Caffe's own copy skips unknown names without a word and aborts the process on a wrong shape. Here every layer is
accounted for before Caffe is touched: copied, initialised by this stage as declared, or left over as declared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.nets.caffemodel import fits, read_weights, write_weights
from pysrn.nets.folding import Weights, fill

NAMES_SHOWN = 6


@dataclass(frozen=True)
class CopyReport:
    """What became of every layer with weights in a copy from a file to a net."""

    source: str
    copied: tuple[str, ...]
    initialised: tuple[str, ...]  # in the net, not in the file
    unused: tuple[str, ...]  # in the file, not in the net

    def lines(self, unused: str = "unused", fixed: Collection[str] = (), dropped: Collection[str] = ()) -> list[str]:
        """The report as text: one line a fate; `unused` is the word for what the net does not have.

        `fixed` are those among them that compute all the same, in the fixed part beside the net, `dropped` those that
        are left for good.
        """
        rest = [name for name in self.unused if name not in (*fixed, *dropped)]
        left = [name for name in self.unused if name in dropped]
        computing = [name for name in self.unused if name in fixed]
        fates = [("copied", self.copied), ("initialised", self.initialised), (unused, rest)]
        fates += [("fixed", computing), ("dropped", left)]
        return [f"weights from {self.source}"] + [
            f"  {fate:<12}{len(layers):4d}  {_names(layers)}".rstrip() for fate, layers in fates if layers
        ]


def plan_copy(
    shapes: Mapping[str, list[tuple[int, ...]]],
    weights: Weights,
    source: str,
    may_initialise: Collection[str] = (),
    may_leave: Collection[str] = (),
) -> CopyReport:
    """Compare a net (layer name -> blob shapes) with a file's weights; raise SrnError on anything undeclared.

    `may_initialise` are the layers that the file need not have, `may_leave` those that the net need not have.
    """
    copied = [name for name in shapes if name in weights]
    initialised = [name for name in shapes if name not in weights]
    unused = [name for name in weights if name not in shapes]
    problems = []
    for name in copied:
        stored, wanted = [blob.shape for blob in weights[name]], shapes[name]
        if len(stored) != len(wanted) or not all(map(fits, stored, wanted)):
            problems.append(f"layer {name} has blobs {_shapes(stored)}, the net wants {_shapes(wanted)}")
    missing = [name for name in initialised if name not in may_initialise]
    if missing:
        problems.append(f"{len(missing)} layers of the net are not in it: {_names(missing)}")
    surplus = [name for name in unused if name not in may_leave]
    if surplus:
        problems.append(f"{len(surplus)} of its layers are unknown to the net: {_names(surplus)}")
    if problems:
        more = f" (and {len(problems) - 1} more such lines)" if len(problems) > 1 else ""
        raise SrnError(
            f"{source} does not hold the weights of this net: {problems[0]}{more}",
            "give the weights of the same trunk, data set and stage",
        )
    return CopyReport(source, tuple(copied), tuple(initialised), tuple(unused))


def load_strict(
    net, path: str | Path, may_initialise: Collection[str] = (), may_leave: Collection[str] = ()
) -> CopyReport:
    """Copy a caffemodel's weights into a pycaffe net, all of them accounted for (see `plan_copy`)."""
    return fill_strictly(net, read_weights(path), str(path), may_initialise, may_leave)


def fill_strictly(
    net, weights: Weights, source: str, may_initialise: Collection[str] = (), may_leave: Collection[str] = ()
) -> CopyReport:
    """Copy weights into a pycaffe net, all of them accounted for (see `plan_copy`).

    What several layers share belongs to the first of them. SrnError where a file has it for others, too, and not alike,
    and for weights that are no numbers: some layers lose them without a word.
    """
    owners = owners_of(net)
    for name, owner in owners.items():
        twice = name != owner and name in weights and owner in weights
        if twice and fingerprint(weights[name]) != fingerprint(weights[owner]):
            raise SrnError(
                f"{source} holds two different copies of what {owner} and {name} share", "give a file that Caffe wrote"
            )
    own = {name: blobs for name, blobs in weights.items() if owners.get(name, name) == name}
    report = plan_copy(own_shapes(net), own, source, may_initialise, may_leave)
    for name in report.copied:
        if not _finite(own[name]):
            raise SrnError(f"{source}: layer {name} holds NaN or infinity", "give weights of a training that went well")
    fill(net, own)
    return report


def owners_of(net) -> dict[str, str]:
    """Layer of a pycaffe net -> the first layer whose blobs it shares, all of them; itself where it shares none."""
    first: dict[tuple[int, ...], str] = {}
    return {
        name: first.setdefault(tuple(blob.data.ctypes.data for blob in blobs), name)
        for name, blobs in net.params.items()
    }


def own_shapes(net) -> dict[str, list[tuple[int, ...]]]:
    """Layer of a pycaffe net -> shapes of its blobs, without the layers that share those of another."""
    owners = owners_of(net)
    return {name: [tuple(blob.shape) for blob in net.params[name]] for name in owners if owners[name] == name}


def fingerprint(blobs) -> str:
    """SHA-256 over the bytes of a layer's blobs (arrays, or pycaffe blobs)."""
    digest = hashlib.sha256()
    for blob in blobs:
        digest.update(np.ascontiguousarray(getattr(blob, "data", blob), dtype=np.float32))
    return digest.hexdigest()


def check_unchanged(net, weights: Weights, layers: Collection[str]) -> dict[str, str]:
    """Compare fixed layers of a trained net, bit by bit, with the weights that the stage started from.

    Returns layer name -> fingerprint; raises SrnError naming the layers that moved.
    """
    prints = {name: fingerprint(net.params[name]) for name in layers}
    moved = [name for name in layers if prints[name] != fingerprint(weights[name])]
    if moved:
        raise SrnError(f"{len(moved)} layers that this stage must not change have changed: {_names(moved)}")
    return prints


def check_carried(path: str | Path, start: Weights, layers: Collection[str]) -> dict[str, str]:
    """Compare what a stage's weights say of the layers that it started with, and did not hold, bit by bit.

    Returns layer name -> fingerprint, of `layers` only; raises SrnError naming the layers that moved.
    """
    saved = read_weights(path)
    moved = [name for name in start if name not in saved or fingerprint(saved[name]) != fingerprint(start[name])]
    if moved:
        raise SrnError(f"{path}: {len(moved)} layers that this stage must not change have changed: {_names(moved)}")
    return {name: fingerprint(start[name]) for name in layers}


def save_with_carried(net, net_message, path: str | Path, carried: Weights, kinds: Mapping[str, str]) -> None:
    """Write `carried` layers, which this stage's net does not hold, and a net's own weights.

    So each stage's `weights.caffemodel` has everything that was learned so far. `net_message` gives the types of the
    net's layers, `kinds` those of the carried ones.
    """
    own = {layer.name: layer.type for layer in net_message.layer}
    layers = {name: (kinds[name], blobs) for name, blobs in carried.items()}
    owners = owners_of(net)
    layers.update(
        (name, (own[name], [blob.data for blob in blobs])) for name, blobs in net.params.items() if owners[name] == name
    )
    write_weights(path, net_message.name, layers)


def _finite(blobs: Collection[np.ndarray]) -> bool:
    """Whether all numbers are; without arrays of their size."""
    with np.errstate(invalid="ignore"):
        ends = [float(end(blob, initial=0)) for blob in blobs for end in (np.min, np.max)]
    return bool(np.isfinite(ends).all())


def _names(layers: Collection[str]) -> str:
    shown = ", ".join(list(layers)[:NAMES_SHOWN])
    return shown + (", ..." if len(layers) > NAMES_SHOWN else "")


def _shapes(shapes: Collection[tuple[int, ...]]) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)
