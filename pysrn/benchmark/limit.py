"""The time below which no net can be computed: its operations and bytes at the speed that this machine has for them.

Both speeds are measured among the contestants, round by round: operations by one large product of matrices, bytes by
copying more memory than caches hold. Convolutions and inner products are counted, pass by pass, everything else is
taken to be free. A convolution that saves products (Winograd) may be below the limit.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pysrn.nets import messages

PRODUCT, COPY = "a product of matrices", "a copy"  # contestants
SIDE = 2048  # of the matrices, square
PRODUCT_OPERATIONS = 2 * SIDE**3
COPY_NUMBERS = 1 << 26  # float32; assumed: 256 MB are more than most caches
COPY_BYTES = 2 * 4 * COPY_NUMBERS  # read and written
PASSES = "passes"  # in the description of our contestant
COUNTED = ("Convolution", "InnerProduct")
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Pass:
    """One layer forward, or one of its gradients: operations (a product and a sum are two), bytes read and written."""

    layer: str
    operations: int
    bytes: int


def passes(net, message: messages.NetParameter | None = None) -> list[Pass]:
    """What a pycaffe net has to compute forward; with its message also backward: gradients of what learns, and of what
    lies between that and the losses.
    """
    found = []
    layers = {layer.name: layer for layer in message.layer} if message else {}
    learned: set[str] = set()  # blobs that depend on what learns
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        bottoms, tops = net.bottom_names[name], net.top_names[name]
        deep = bool(learned.intersection(bottoms))
        learns = name in layers and bool(layer.blobs) and _learns(layers[name])
        if deep or learns:
            learned.update(tops)
        if layer.type in COUNTED:
            weight, top = layer.blobs[0], net.blobs[tops[0]]
            read = net.blobs[bottoms[0]].count
            operations = 2 * top.count * (weight.count // weight.shape[0])
            moved = FLOAT_BYTES * (read + weight.count + top.count)
            found += [Pass(name, operations, moved)] * (1 + learns + deep)
    return found


def _learns(layer: messages.LayerParameter) -> bool:
    """Caffe's weights learn unless a rate of 0 says otherwise."""
    return not layer.param or any(param.lr_mult for param in layer.param)


def limit_of(work: Sequence[Mapping], product: Sequence[float], copy: Sequence[float]) -> dict[str, float]:
    """Of passes as dictionaries: what they need, the speeds by seconds of rounds, and the least seconds of all.

    A pass needs the longer of the times of its operations and its bytes.
    """
    speed = {
        "operations_a_second": PRODUCT_OPERATIONS / statistics.median(product),
        "bytes_a_second": COPY_BYTES / statistics.median(copy),
    }
    seconds = sum(
        max(one["operations"] / speed["operations_a_second"], one["bytes"] / speed["bytes_a_second"]) for one in work
    )
    return {
        "operations": sum(one["operations"] for one in work),
        "bytes": sum(one["bytes"] for one in work),
        **speed,
        "seconds": seconds,
    }
