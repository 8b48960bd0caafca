"""The places of an image in the order of their strength: what is at one place stays together, where it was is lost.

For tests of the paper's claim that f_sr captures spatial relations (`HeadSpec.regulariser_input`). A Python layer of
Caffe: module `pysrn.systems.srn.ranked_places`, layer `RankedPlaces`.
"""

from __future__ import annotations

import caffe
import numpy as np


class RankedPlaces(caffe.Layer):
    """Bottom and top: maps N x C x H x W; a place's strength is its sum over the labels, the greatest comes first."""

    def setup(self, bottom, top) -> None:
        """Nothing to set."""

    def reshape(self, bottom, top) -> None:
        """The top is as the bottom."""
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top) -> None:
        """Put the places in order."""
        self._order = order_of(bottom[0].data)
        flat = bottom[0].data.reshape(*bottom[0].shape[:2], -1)
        top[0].data[...] = np.take_along_axis(flat, self._order, 2).reshape(top[0].data.shape)

    def backward(self, top, propagate_down, bottom) -> None:
        """Bring each gradient back to its place."""
        if propagate_down[0]:
            flat = np.empty((*bottom[0].shape[:2], self._order.shape[2]), np.float32)
            np.put_along_axis(flat, self._order, top[0].diff.reshape(flat.shape), 2)
            bottom[0].diff[...] = flat.reshape(bottom[0].diff.shape)


def order_of(maps: np.ndarray) -> np.ndarray:
    """N x 1 x places: the numbers of the places by falling strength, equal ones in their order."""
    strength = maps.reshape(*maps.shape[:2], -1).sum(axis=1, keepdims=True)
    return np.argsort(-strength, axis=2, kind="stable")
