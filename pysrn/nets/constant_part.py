"""The part of a net that no input reaches: computed once, it becomes `Parameter` layers, and the rest runs alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pysrn.nets import messages
from pysrn.nets.folding import Weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import FIXED, add_layer, set_learning


def fold_constant_part(
    net: messages.NetParameter, weights: Weights, kept: Collection[str] = ()
) -> tuple[messages.NetParameter, Weights]:
    """A net that begins with its Input layer, and its weights, without the layers that no input reaches.

    What others read of them, or is `kept`, is a `Parameter` layer of the blob's name. Both stay as they are.
    """
    known: set[str] = set()
    still, moving = [], []
    for layer in net.layer:
        constant = layer.type == "Parameter" or (bool(layer.bottom) and known.issuperset(layer.bottom))
        known.update(layer.top if constant else ())
        (still if constant else moving).append(layer)
    if not still:
        return net, weights
    part, rest = messages.NetParameter(name=f"{net.name}_constant"), messages.NetParameter(name=net.name)
    part.layer.extend(still)
    made = make_net(part)
    fill(made, weights)
    made.forward()
    rest.layer.append(moving[0])
    read = {bottom for layer in moving for bottom in layer.bottom}
    blobs = {layer.name: weights[layer.name] for layer in moving if layer.name in weights}
    for name in sorted(known & (read | set(kept))):
        values = made.blobs[name].data.copy()
        add_layer(rest, name, "Parameter", [], parameter_param={"shape": {"dim": list(values.shape)}})
        set_learning(rest, FIXED, None)
        blobs[name] = [values]
    rest.layer.extend(moving[1:])
    return rest, blobs


def fill(net, weights: Weights) -> None:
    """Copy weights into a pycaffe net, which has no other layers than they, but for those that share theirs."""
    for name in net.params.keys() & weights.keys():
        for blob, values in zip(net.params[name], weights[name], strict=True):
            blob.data[...] = np.asarray(values).reshape(blob.data.shape)
