"""What of a stage's net is fixed, apart from what learns: it needs no trunk that could be trained (D8).

The net of such a stage falls into a fixed part, which nothing is back-propagated into, and the part that learns, which
reads one blob of the fixed one. The fixed part itself falls into the trunk up to its features, which several stages
share, and fixed layers behind them. `train/fixed/` runs the fixed part as nets of their own, with batch normalisation
folded into the weights; the checked-in prototxt are the whole nets.
"""

from __future__ import annotations

from dataclasses import dataclass

from pysrn.console import UsageError
from pysrn.nets import messages
from pysrn.nets.layers import add_input, fixed_layers, parameter_layers

LABEL = "label"
NO_CACHE = "leave --cache-features out"


@dataclass(frozen=True)
class Features:
    """What stages with a fixed trunk share: the blob that the trunk ends in, and its shape for one image."""

    blob: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Parts:
    """A stage's net in parts; all are NetParameters.

    `fixed`: the trunk and, in stage 3, the heads that do not learn, each reading the one before it; the first reads
    `data`. `learning` has all other layers but the data layer; it reads the last one's output and `label`.
    """

    fixed: tuple[messages.NetParameter, ...]
    learning: messages.NetParameter

    @property
    def fixed_names(self) -> list[str]:
        """Names of the fixed layers that have weights."""
        return [name for net in self.fixed for name in parameter_layers(net)]


def split(net: messages.NetParameter, features: Features, size: int) -> Parts:
    """Take a net that eats images of `size` x `size` apart, its fixed part behind the trunk's features.

    Raises ValueError where what learns reads several blobs of what is fixed, or the images.
    """
    data, *layers = net.layer
    fixed, learning = [], []
    moving: set[str] = set()  # blobs that something that learns has a part in
    read: set[str] = set()  # blobs of the fixed part that the learning part reads
    still = fixed_layers(net)
    for layer in layers:
        learns = layer.name not in still and bool(layer.param)
        if learns or moving.intersection(layer.bottom) or LABEL in layer.bottom:
            read |= set(layer.bottom) - moving - {LABEL}
            moving |= set(layer.top)
            learning.append(layer)
        else:
            fixed.append(layer)
    if len(read) != 1 or read & set(data.top):
        raise ValueError(f"{net.name} has no fixed part of its own: what learns reads {', '.join(sorted(read))}")
    whole = messages.NetParameter(name=net.name)
    add_input(whole, data.top[0], (1, 3, size, size))
    whole.layer.extend(fixed)
    trunk, heads = cut_at_features(whole, features)
    rest = messages.NetParameter(name=f"{net.name}_learning")
    rest.layer.extend(learning)
    return Parts((trunk, heads) if len(heads.layer) > 1 else (trunk,), rest)


def cut_at_features(
    net: messages.NetParameter, features: Features
) -> tuple[messages.NetParameter, messages.NetParameter]:
    """A net that begins with an Input layer, in two: the trunk up to its features, and what reads them.

    UsageError where that reads more of the trunk.
    """
    end = 1 + max(i for i, layer in enumerate(net.layer) if features.blob in layer.top)
    made = {top for layer in net.layer[:end] for top in layer.top} - {features.blob}
    if further := sorted(made.intersection(bottom for layer in net.layer[end:] for bottom in layer.bottom)):
        raise UsageError(f"{net.name} reads more of its trunk than {features.blob}: {further[0]}", NO_CACHE)
    trunk = messages.NetParameter(name=f"{net.name}_trunk")
    trunk.layer.extend(net.layer[:end])
    rest = messages.NetParameter(name=f"{net.name}_on_features")
    add_input(rest, features.blob, (net.layer[0].input_param.shape[0].dim[0], *features.shape))
    rest.layer.extend(net.layer[end:])
    return trunk, rest


def input_and_output(net: messages.NetParameter) -> tuple[str, str]:
    """What a fixed part reads and what it makes."""
    return net.layer[0].top[0], net.layer[-1].top[0]
