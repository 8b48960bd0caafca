"""Folding batch normalisation into the weights of a net that does not learn: the same outputs from fewer layers.

With stored statistics BatchNorm and Scale are one factor and one shift a channel. They go into the convolution that
they directly follow; elsewhere (a pre-activation trunk normalises sums and pooled maps that others read too) the two
become one Scale layer. Prediction and the fixed part of stages 2 and 3 run folded; what learns, is exported or looked
at layer by layer stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, list[np.ndarray]]


def fold(net, weights: Weights):
    """A net (NetParameter) and its weights without BatchNorm: the folded net, layer name -> float32 blobs.

    Computed in double precision. A folded convolution keeps its name and has a bias; a Scale layer that could not
    be folded keeps its name and takes the BatchNorm's place. `net` and `weights` stay as they are.
    """
    folded, blobs = type(net)(), {name: list(values) for name, values in weights.items()}
    folded.CopyFrom(net)
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
        blobs[convolution.name] = [
            (kernel * factor[:, None, None, None]).astype(np.float32),
            (before * factor + shift).astype(np.float32),
        ]
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
