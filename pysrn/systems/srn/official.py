"""Weights of the authors' own Caffe to ours: caffemodels of their fork become those of variant `released`.

Their fork (yjxiong/caffe) normalises in one layer, `BN`, with four blobs: slope, bias, mean and, since its change of
27 April 2016, the variance, before that 1 / sqrt(variance + eps) (its release notes; python/bn_convert_style.py). Ours
has two, BatchNorm and Scale. The names of their heads' layers are of no pattern that could be trusted, so each layer is
found by what it computes from what (`weight_graph.py`). Nothing is guessed: what has two readings is refused.

Not verified on the authors' own files: written after the fork's messages, layers and release notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pysrn.console import SrnError, UsageError
from pysrn.nets.caffemodel import StoredLayer, read_net
from pysrn.nets.weight_graph import Mismatch, match, units_of
from pysrn.systems.srn.official_layers import OurLayer, Target, kind_of, likeness, mark_of, targets

VARIANCE, INVERSE_STD = "variance", "inverse-std"
DIALECTS = (VARIANCE, INVERSE_STD)
THEIR_EPSILON = 1e-5  # official repo, caffe.proto, BNParameter: the default of eps
OUR_EPSILON = 1e-5  # Caffe's default of BatchNormParameter.eps, which our nets keep
SATURATED = 1e-4  # relative; an inverse std this near to 1 / sqrt(eps) is that of a channel that never varies


@dataclass(frozen=True)
class Converted:
    """Weights as ours: layer name -> (type, blobs), in the order of the net; and how they were come by."""

    net: str
    layers: dict[str, tuple[str, list[np.ndarray]]]
    sources: dict[str, str]  # our layer -> theirs; of BatchNorm and Scale the former
    dialect: str
    evidence: str

    def lines(self) -> list[str]:
        """What was read as what, as text."""
        width = max(map(len, self.sources.values()))
        head = [f"net {self.net}, fourth blob of BN: {self.dialect} ({self.evidence})"]
        return head + [f"  {theirs:<{width}}  {ours}" for ours, theirs in self.sources.items()]


def convert(path: str | Path, dialect: str | None = None, known: Mapping[str, str] | None = None) -> Converted:
    """Read a caffemodel of the authors' fork; `known` names layers of it (theirs -> ours) that are not to be searched.

    Takes whole nets of variant `released` and the trunk with its classifier (an ImageNet model).

    Raises:
        MissingError: there is no such file.
        UsageError: the dialect does not show in the numbers and is not given, or they contradict the one given.
        SrnError: no such file of theirs, another net, or one with two readings.
    """
    stored = [layer for layer in read_net(path) if layer.blobs or layer.tops]
    theirs = {layer.name: layer for layer in stored if layer.blobs}
    wrong = [f"{layer.name} ({layer.kind})" for layer in theirs.values() if kind_of(layer) is None]
    if wrong or not any(layer.kind == "BN" for layer in theirs.values()):
        reason = f"{wrong[0]} is no layer with weights of theirs" if wrong else "it has no layer of type BN"
        raise SrnError(f"{path} is no caffemodel of the authors' fork: {reason}")
    dialect, evidence = _dialect(theirs.values(), dialect, path)
    target, names = _best_match(stored, theirs, known or {}, path)
    layers: dict[str, tuple[str, list[np.ndarray]]] = {}
    folded = _surplus_biases(target, names, theirs, path)
    for layer in target.layers:
        source = theirs[names[layer.name]]
        if layer.scale is None:
            layers[target.rename(layer.name)] = (layer.kind, _weights(layer, source))
        else:
            statistics, scale = _batch_norm(source, dialect, folded.get(layer.name))
            layers[layer.name], layers[layer.scale] = ("BatchNorm", statistics), ("Scale", scale)
    sources = {target.rename(ours): name for ours, name in names.items()}
    return Converted(target.title, layers, sources, dialect, evidence)


def _best_match(
    stored: Sequence[StoredLayer], theirs: Mapping[str, StoredLayer], known: Mapping[str, str], path: str | Path
) -> tuple[Target, dict[str, str]]:
    """The net of ours that the file holds, and our layer -> theirs."""
    wired = any(layer.bottoms for layer in theirs.values())
    geometry = any(layer.message.HasField("convolution_param") for layer in theirs.values())
    absent = [name for name in known if name not in theirs]
    if absent:
        raise UsageError(f"{path} has no layer {absent[0]} with weights")
    likenesses = [
        likeness(one, geometry) if one.blobs else mark_of(one.kind, one.message.pooling_param) for one in stored
    ]
    rows = [(one.name, one.bottoms, one.tops, like) for one, like in zip(stored, likenesses, strict=True)]
    their_units = units_of(rows, wired)
    found, failures, ambiguous = [], [], []
    for target in targets(theirs.values(), geometry, wired):
        ours = {unit.name for unit in target.units}
        pairs = {name: name for name in theirs if not wired and name in ours} | dict(known)
        if not set(pairs.values()) <= ours:
            continue
        try:
            found.append((len(pairs), target, match(their_units, target.units, pairs, wired)))
        except Mismatch as error:
            text = f"taken as {target.title}, {error}"
            if error.ambiguous:
                ambiguous.append(text)
            else:
                failures.append((error.weight, text))
    found = [one for one in found if one[0] == max(pairs for pairs, _, _ in found)]  # names of ours in it decide
    ambiguous += [" or ".join(target.title for _, target, _ in found)] if len(found) > 1 else []
    if ambiguous:  # also beside a net that fits: one of two readings is no more than a guess
        raise SrnError(f"{path} has more than one reading: {ambiguous[0]}", "say which is which: --layer THEIRS=OURS")
    if not found:
        reason = min(failures, default=(0, "no layer of ours is named so"))[1]
        raise SrnError(f"{path} holds no net of variant `released`: {reason}")
    return found[0][1:]


def _dialect(layers: Iterable[StoredLayer], given: str | None, path: str | Path) -> tuple[str, str]:
    """What the fourth blob of BN holds, and how that is known.

    1 / sqrt(variance + eps) is above 0 and at most 1 / sqrt(eps). So a zero or a greater value can only be a variance;
    and a value at that very limit, and none beyond, is the mark of a channel that never varies, stored inverted.
    """
    highest, lowest, saturated = 0.0, np.inf, False
    for layer in (layer for layer in layers if layer.kind == "BN"):
        values, limit = layer.blobs[3].astype(np.float64).reshape(-1), _epsilon(layer) ** -0.5
        if not np.isfinite(values).all() or (values < 0).any():
            raise SrnError(f"{path}: layer {layer.name} has batch statistics that are negative or no numbers")
        relative = values / limit
        highest, lowest = max(highest, relative.max(initial=0)), min(lowest, relative.min(initial=np.inf))
        saturated |= bool((abs(relative - 1) < SATURATED).any())
    if lowest == 0 or highest > 1 + SATURATED:
        shown = VARIANCE, "a value is 0" if lowest == 0 else "a value is beyond 1 / sqrt(eps)"
    elif saturated:
        shown = INVERSE_STD, "a value is 1 / sqrt(eps), that of a constant channel, and none is beyond"
    elif given is None:
        raise UsageError(
            f"{path}: whether the fourth blob of BN is a variance or an inverse standard deviation does not show in it",
            "say --statistics variance (files since May 2016, when the fork changed) or --statistics inverse-std",
        )
    else:
        return given, "as given; the numbers allow both"
    # A variance that happens to lie at the limit is possible; an inverse std of 0 or beyond the limit is not.
    if given is not None and given != shown[0] and shown[0] == VARIANCE:
        raise UsageError(f"{path}: the fourth blob of BN cannot be {given}: {shown[1]}")
    return (given, "as given") if given is not None else shown


def _epsilon(layer: StoredLayer) -> float:
    parameters = layer.message.bn_param
    return parameters.eps if parameters.HasField("eps") else THEIR_EPSILON


def _batch_norm(
    source: StoredLayer, dialect: str, folded: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """BN -> blobs of BatchNorm (mean, variance, their scale factor 1) and of Scale; `folded` goes off the mean."""
    slope, bias, mean, fourth = (blob.reshape(-1) for blob in source.blobs)
    if folded is not None:
        mean = mean - folded
    if dialect == INVERSE_STD:  # theirs holds its eps already, ours will be added
        variance = fourth.astype(np.float64) ** -2 - OUR_EPSILON
    elif abs(_epsilon(source) / OUR_EPSILON - 1) < 1e-6:  # eps is float32 in the file
        variance = fourth
    else:
        variance = fourth.astype(np.float64) + _epsilon(source) - OUR_EPSILON
    return [mean, np.asarray(variance, np.float32), np.ones(1, np.float32)], [slope, bias]


def _weights(layer: OurLayer, source: StoredLayer) -> list[np.ndarray]:
    """Weights and, where ours has one, bias (theirs without: zero)."""
    weights = [source.blobs[0].reshape(layer.shape)]
    if layer.bias:
        given = source.blobs[1].reshape(-1) if len(source.blobs) == 2 else np.zeros(layer.shape[0], np.float32)
        weights.append(given)
    return weights


def _surplus_biases(
    target: Target, names: Mapping[str, str], theirs: Mapping[str, StoredLayer], path: str | Path
) -> dict[str, np.ndarray]:
    """Our BatchNorm -> the bias of the convolution before it, which theirs has and ours has not.

    Exact: BN of x + b is BN of x with a mean that is lower by b.
    """
    found = {}
    for place, layer in enumerate(target.layers):
        blobs = theirs[names[layer.name]].blobs
        if layer.scale is not None or layer.bias or len(blobs) < 2 or not blobs[1].any():
            continue
        readers = [i for i, unit in enumerate(target.units) if place in unit.sources]
        alone = len(readers) == 1 and target.units[readers[0]].sources == {place}
        if not alone or target.layers[readers[0]].scale is None:
            raise SrnError(f"{path}: layer {names[layer.name]} has a bias that the net has no place for")
        found[target.layers[readers[0]].name] = blobs[1].reshape(-1)
    return found
