"""Caffe's layer `SemanticAttention` in NumPy, for a Caffe that does not have it.

In a net: `type: "Python"`, module `pysrn.systems.msrn.semantic_attention`, layer `SemanticAttention`, with the bottoms
and the top of the layer in C++, which computes the same many times as fast
(docker/caffe/include/caffe/layers/semantic_attention_layer.hpp).

Every row of the second bottom looks at every channel of a map by itself: at the places where the channel, multiplied
by the row's number for it, is large (Qu et al., 2021; `MSGDN.forward` in the released code).
"""

from __future__ import annotations

from collections.abc import Iterator

import caffe
import numpy as np


class SemanticAttention(caffe.Layer):
    """Bottoms: features N x D x H x W, rows R x D. Top: N x R x D.

    top[n, r, d] = sum over positions p of softmax_p(rows[r, d] * features[n, d, p]) * features[n, d, p].
    Memory beside the blobs: six arrays of D x H x W. A NaN reaches all that its row and channel or map give.
    """

    def setup(self, bottom, top) -> None:
        """Nothing to set."""

    def reshape(self, bottom, top) -> None:
        """Raises ValueError where the bottoms do not fit."""
        shapes = [list(bottom[number].shape) for number in range(len(bottom))]
        axes = [len(shape) for shape in shapes]
        fit = len(axes) == 2 and axes[0] >= 3 and axes[1] == 2 and shapes[0][1] == shapes[1][1]
        if not fit or 0 in (*shapes[0], *shapes[1]):
            raise ValueError(f"SemanticAttention wants features N x D x H x W and rows R x D, not {shapes}")
        features, rows = shapes
        top[0].reshape(features[0], rows[0], rows[1])

    def forward(self, bottom, top) -> None:
        """The weighted means of the maps."""
        rows, out = bottom[1].data, top[0].data
        for n, maps in enumerate(planes(bottom[0].data)):
            extremes = maps.max(axis=1, keepdims=True), maps.min(axis=1, keepdims=True)
            for r in range(len(rows)):
                weights, away, extreme = attend(maps, extremes, rows[r])
                out[n, r] = extreme + np.sum(weights * away, axis=1)

    def backward(self, top, propagate_down, bottom) -> None:
        """With w the weights of a row's number e, and m and v the mean and variance of the map f under them:
        df = sum over rows of g w (1 + e (f - m)), de = sum over images of g v.
        """
        rows, grads = bottom[1].data, top[0].diff
        row_diff = np.zeros_like(rows)
        for n, maps in enumerate(planes(bottom[0].data)):
            extremes = maps.max(axis=1, keepdims=True), maps.min(axis=1, keepdims=True)
            map_diff = np.zeros_like(maps)
            for r in range(len(rows)):
                weights, away, _ = attend(maps, extremes, rows[r])
                away -= np.sum(weights * away, axis=1, keepdims=True)
                row_diff[r] += grads[n, r] * np.sum(weights * away * away, axis=1)
                map_diff += grads[n, r, :, None] * weights * (1 + rows[r, :, None] * away)
            if propagate_down[0]:
                bottom[0].diff[n] = map_diff.reshape(bottom[0].diff[n].shape)
        if propagate_down[1]:
            bottom[1].diff[...] = row_diff


def planes(features: np.ndarray) -> Iterator[np.ndarray]:
    """Each image's maps as D x positions."""
    for maps in features:
        yield maps.reshape(len(maps), -1)


def attend(maps: np.ndarray, extremes: tuple[np.ndarray, np.ndarray], row: np.ndarray) -> tuple[np.ndarray, ...]:
    """The weights (D x positions) of one row, and the maps less the place that weighs most, which is D numbers.

    `extremes`: the maps' maxima and minima, D x 1 each. Every product is largest at one of them; away from it all are
    below 0, so no exponential overflows.
    """
    extreme = np.where(row[:, None] > 0, *extremes)
    away = maps - extreme
    weights = np.exp(row[:, None] * away)
    weights /= np.sum(weights, axis=1, keepdims=True)
    return weights, away, extreme[:, 0]
