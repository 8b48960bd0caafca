"""A net that only computes: in Caffe's TEST phase, filled strictly from a file's weights, folded on request.

The fixed part of stages 2 and 3 (`fixed_part.py`) and prediction (`evaluate/deploy.py`) are such nets.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from pysrn.nets import messages
from pysrn.nets.folding import fill, fold, fold_constant_part
from pysrn.nets.in_caffe import make_net
from pysrn.nets.strides import move_strides_up
from pysrn.nets.surgery import fill_strictly


class ForwardNet:
    """A net that begins with an Input layer.

    Attributes: net (pycaffe's), output (name of the last layer's top).
    """

    def __init__(
        self,
        message: messages.NetParameter,
        weights: dict[str, list[np.ndarray]],
        source: str,
        folded: bool = True,
        kept: Collection[str] | None = None,
        shared: bool = True,
    ) -> None:
        """Fill it with `weights`, which must be those of its layers exactly; SrnError naming `source` otherwise.

        `folded`: with batch normalisation folded into the weights, equal but for rounding, and without what no input
        reaches (`folding.py`); `weights` is empty then.
        `kept`: only these blobs and the output will be read, so what else no later stride reads is not computed
        (`strides.py`), and memory is `shared`; None: all of them.
        """
        self._input, self.output = message.layer[0].top[0], message.layer[-1].top[0]
        self.net = _in_caffe(message)
        fill_strictly(self.net, weights, source)
        if folded:
            message, weights = fold_constant_part(*fold(message, weights), kept or ())
            if kept is not None:
                message = move_strides_up(message, kept)
            self.net = None  # its memory, for the one that computes
            self.net = _in_caffe(message)
            fill(self.net, weights)
        if kept is not None and shared and hasattr(self.net, "reuse_activations"):  # stock Caffe has not
            self.net.reuse_activations(keep=[name for name in kept if name in self.net.blobs])

    def output_shape(self, *shape: int) -> tuple[int, ...]:
        """Shape of the last layer's top for an input of this shape."""
        self._reshape(shape)
        return tuple(self.net.blobs[self.output].shape)

    def forward(self, values: Sequence[np.ndarray], outputs: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Name -> blob, of `outputs` or of the last layer's top; valid until the next call. `values`: one an image."""
        self._reshape((len(values), *values[0].shape))
        for place, value in zip(self.net.blobs[self._input].data, values, strict=True):
            place[...] = value
        self.net.forward()
        return {name: self.net.blobs[name].data for name in outputs or [self.output]}

    def _reshape(self, shape: tuple[int, ...]) -> None:
        if tuple(self.net.blobs[self._input].shape) != tuple(shape):
            self.net.blobs[self._input].reshape(*shape)
            self.net.reshape()


def _in_caffe(message: messages.NetParameter):
    """The net in Caffe, its weights not drawn but zero."""
    plain = messages.copy_of(message)
    for layer in plain.layer:
        for part in ("convolution_param", "inner_product_param"):
            if layer.HasField(part):
                getattr(layer, part).ClearField("weight_filler")
    return make_net(plain)
