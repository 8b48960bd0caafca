"""Folding what a net that does not learn need not compute each time: the same outputs from fewer layers.

With stored statistics BatchNorm and Scale are one factor and one shift a channel. They go into the convolution that
they directly follow; elsewhere (a pre-activation trunk normalises sums and pooled maps that others read too) the two
become one Scale layer. The part that no input reaches is computed once and becomes `Parameter` layers. Prediction and
the fixed part of stages 2 and 3 run folded; what learns, is exported or looked at layer by layer stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pysrn.later import later
from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import FIXED, add_layer, set_learning

np = later("numpy")

Weights = Mapping[str, "list[np.ndarray]"]


def fold(net: messages.NetParameter, weights: dict[str, list[np.ndarray]]) -> tuple[messages.NetParameter, Weights]:
    """A net and its weights without BatchNorm: the folded net, layer name -> float32 blobs.

    Computed in double precision. A folded convolution keeps its name and has a bias; a Scale layer that could not
    be folded keeps its name and takes the BatchNorm's place. `net` stays as it is. `weights` is empty afterwards: a
    folded kernel takes the place of the one that was read, which may be the most of the memory.
    """
    folded, blobs = messages.copy_of(net), dict(weights)
    weights.clear()
    gone: list[int] = []
    for i, layer in enumerate(folded.layer):
        if layer.type != "BatchNorm":
            continue
        scale = folded.layer[i + 1]
        factor, shift = factor_and_shift(blobs.pop(layer.name), blobs.pop(scale.name), layer.batch_norm_param.eps)
        gone.append(i)
        convolution = _convolution_before(folded, i)
        if convolution is None:
            scale.bottom[0] = layer.bottom[0]
            blobs[scale.name] = [factor.astype(np.float32), shift.astype(np.float32)]
            continue
        gone.append(i + 1)
        kernel, *bias = blobs[convolution.name]
        before = bias[0].reshape(-1) if bias else 0.0
        np.multiply(kernel, factor[:, None, None, None], out=kernel, dtype=np.float64, casting="same_kind")
        blobs[convolution.name] = [kernel, (before * factor + shift).astype(np.float32)]
        convolution.convolution_param.ClearField("bias_term")  # the default: with a bias
        del convolution.param[1:]
    for i in reversed(gone):
        del folded.layer[i]
    return folded, blobs


def factor_and_shift(
    statistics: list[np.ndarray], scale: list[np.ndarray], eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """What BatchNorm (mean, variance, their common divisor) and Scale (gamma, beta) do: y = factor * x + shift.

    float64, of shape (channels,). A divisor of 0, a net that saw no batch, makes mean and variance 0 as in Caffe.
    """
    divisor = float(statistics[2].reshape(-1)[0])
    mean, variance = (
        blob.astype(np.float64).reshape(-1) / divisor if divisor else np.zeros(blob.size) for blob in statistics[:2]
    )
    gamma, beta = (blob.astype(np.float64).reshape(-1) for blob in scale)
    factor = gamma / np.sqrt(variance + eps)
    return factor, beta - mean * factor


def _convolution_before(net, position: int):
    """The convolution whose output the in-place BatchNorm at `position` alone reads, or None."""
    layer = net.layer[position]
    if layer.top[0] != layer.bottom[0]:
        return None
    for before in reversed(net.layer[:position]):
        if layer.bottom[0] in before.top:
            return before if before.type == "Convolution" else None
        if layer.bottom[0] in before.bottom:
            return None
    return None


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
