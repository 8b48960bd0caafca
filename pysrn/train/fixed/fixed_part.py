"""The fixed part of a stage's net as nets of their own, and the Caffe layer that gives what they make to training.

In the net that is trained (net.prototxt of a stage with a fixed trunk): `type: "Python"`, bottom `data` (or X, from a
cache), top what the learning part reads, layer `FixedPartLayer` of this module, with `settings.FixedSettings` as its
`param_str`. The nets run in Caffe's TEST phase, folded; nothing is back-propagated into them.
"""

from __future__ import annotations

import weakref
from pathlib import Path

import caffe

from pysrn.console import SrnError
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.forward_net import ForwardNet
from pysrn.nets.layers import parameter_layers
from pysrn.nets.prototxt import read_message
from pysrn.nets.surgery import fingerprint
from pysrn.train.fixed.settings import FixedSettings

_in_use: weakref.WeakValueDictionary[tuple[Path, str], FixedNet] = weakref.WeakValueDictionary()


class FixedNet(ForwardNet):
    """One net of the fixed part, folded, with the weights of a caffemodel that may hold more.

    Raises SrnError where the file's weights are not those of the net.
    """

    def __init__(self, path: Path, weights: str) -> None:
        message = read_message(path, messages.NetParameter)
        names = set(parameter_layers(message))
        own = {name: blobs for name, blobs in read_weights(weights).items() if name in names}
        super().__init__(message, own, weights, kept=())
        self._path, self._print = path, self._fingerprint()

    @classmethod
    def shared(cls, path: Path, weights: str) -> FixedNet:
        """The net that this process has already, or a new one: training and validation need it once."""
        found = _in_use.get((path, weights))
        if found is None:
            found = _in_use[path, weights] = cls(path, weights)
        return found

    def check_unchanged(self) -> None:
        """Raise SrnError when its weights are no longer those that it was filled with, bit by bit."""
        if self._fingerprint() != self._print:
            raise SrnError(f"weights of {self._path} have changed while they were fixed", "run the same command again")

    def _fingerprint(self) -> str:
        return fingerprint(blob for blobs in self.net.params.values() for blob in blobs)


def check_unchanged() -> None:
    """`FixedNet.check_unchanged` of every fixed net that this process uses."""
    for net in fixed_in_use():
        net.check_unchanged()


def fixed_in_use() -> list[FixedNet]:
    """The fixed nets that this process uses."""
    return list(_in_use.values())


class FixedPartLayer(caffe.Layer):
    """Bottom: images or X. Top: what the last of its nets makes of that."""

    def setup(self, bottom, top) -> None:
        """Build the nets, or take those that are there."""
        settings = FixedSettings.from_json(self.param_str)
        self.nets = [FixedNet.shared(Path(net), settings.weights) for net in settings.nets]

    def reshape(self, bottom, top) -> None:
        """The top's shape follows from the bottom's."""
        shape = tuple(bottom[0].shape)
        for net in self.nets:
            shape = net.output_shape(*shape)
        top[0].reshape(*shape)

    def forward(self, bottom, top) -> None:
        """Net after net."""
        values = bottom[0].data
        for net in self.nets:
            values = net.forward(values)[net.output]
        top[0].data[...] = values

    def backward(self, top, propagate_down, bottom) -> None:
        """Caffe never asks: no weight below this layer learns."""
