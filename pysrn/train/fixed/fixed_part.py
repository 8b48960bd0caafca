"""The fixed part of a stage's net as nets of their own, and the Caffe layer that gives what they make to training.

In the net that is trained (net.prototxt of stages 2 and 3): `type: "Python"`, bottom `data` (or X, that from
a cache), top X or U, `python_param { module: "pysrn.train.fixed.fixed_part" layer: "FixedPartLayer" param_str: '{"nets":
[...], "weights": ...}' }`. The nets run in Caffe's TEST phase, folded; nothing is back-propagated into them.
"""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import caffe
from caffe.proto import caffe_pb2

from pysrn.console import SrnError
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.prototxt import read_message
from pysrn.nets.still_net import StillNet
from pysrn.nets.surgery import fingerprint
from pysrn.systems.srn.nets import parameter_layers

_in_use: weakref.WeakValueDictionary[tuple[Path, str], FixedNet] = weakref.WeakValueDictionary()


class FixedNet(StillNet):
    """One net of the fixed part, folded, with the weights of a caffemodel that may hold more.

    Raises SrnError where the file's weights are not those of the net.
    """

    def __init__(self, path: Path, weights: str) -> None:
        message = read_message(path, caffe_pb2.NetParameter)
        own = set(parameter_layers(message))
        super().__init__(
            message, {name: blobs for name, blobs in read_weights(weights).items() if name in own}, weights, kept=()
        )
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
    for net in list(_in_use.values()):
        net.check_unchanged()


class FixedPartLayer(caffe.Layer):
    """Bottom: images or X. Top: what the last of its nets makes of that."""

    def setup(self, bottom, top) -> None:
        """Build the nets, or take those that are there."""
        parameters = json.loads(self.param_str)
        self.nets = [FixedNet.shared(Path(net), parameters["weights"]) for net in parameters["nets"]]

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
