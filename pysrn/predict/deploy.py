"""The deploy net in Caffe, filled with the weights of a file: what prediction, pictures and export run.

A run's stages end in caffemodels that hold more and more of the net (a first stage: one score only). The net is
cut to the scores that the weights can compute, and every layer is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.folding import Weights
from pysrn.nets.forward_net import ForwardNet
from pysrn.nets.in_caffe import use_device
from pysrn.nets.layers import parameter_layers
from pysrn.predict.trained import architecture_of
from pysrn.systems.stage_nets import deploy_net
from pysrn.systems.system import Architecture, System


def deploy_message(architecture: Architecture, layers: Collection[str] | None = None, batch_size: int = 1):
    """The deploy net (a NetParameter), cut to the scores that the named `layers` can compute (None: all)."""
    net = deploy_net(architecture, batch_size)
    if layers is None:
        return net
    weighted = set(parameter_layers(net))
    kept: set[int] = set()
    for score in architecture.system.score_names:
        needed = _ancestors(net, score)
        if all(net.layer[i].name in layers for i in needed if net.layer[i].name in weighted):
            kept |= needed
    for i in reversed(range(len(net.layer))):
        if i not in kept:
            del net.layer[i]
    return net


class DeployNet:
    """A deploy net in Caffe, with the weights of a file.

    Attributes: path, architecture, scores (names of the score outputs it has), maps (likewise), features (name of
    what global average pooling reads: N x channels x H x W; None: nothing).
    """

    def __init__(
        self,
        path: Path,
        batch_size: int = 1,
        gpu: int | None = None,
        folded: bool = False,
        kept: Collection[str] = (),
    ) -> None:
        """Build the net and fill it; SrnError where the weights do not account for a net exactly.

        `folded`: with batch normalisation folded into the weights (`folding.py`), faster, equal but for rounding; only
        scores, maps, features and the blobs `kept` can be read then.
        """
        weights = read_weights(path)
        self.path = path
        self.architecture = architecture_of(weights, path)
        message = deploy_message(self.architecture, weights, batch_size)
        blobs = {top for layer in message.layer for top in layer.top}
        self.scores = tuple(name for name in self.system.score_names if name in blobs)
        self._made = {one.name: one for one in self.system.maps if one.of and blobs.issuperset(one.needs)}
        self.maps = tuple(name for name in self.system.map_names if name in blobs or name in self._made)
        if not self.scores:
            whole = parameter_layers(deploy_message(self.architecture))
            missing = [name for name in whole if name not in weights]
            raise SrnError(f"{path} can compute no score: {len(missing)} layers are missing, the first is {missing[0]}")
        self.features = self._features(message)
        use_device(gpu)
        features = (self.features,) if self.features else ()
        needed = dict.fromkeys(blob for one in self._made.values() for blob in one.needs)
        self._kept = (*self.scores, *self.maps, *needed, *features, *kept) if folded else None
        self._still = self._built(message, weights, folded)
        self.net = self._still.net

    @property
    def system(self) -> System:
        """Whose net it is."""
        return self.architecture.system

    def _features(self, message) -> str | None:
        """What the global average pooling of the system's classifier reads."""
        activation = self.system.activation
        pooling = [layer for layer in message.layer if activation and layer.name == activation.pooling]
        return pooling[0].bottom[0] if pooling else None

    def _built(self, net, weights: Weights, folded: bool) -> ForwardNet:
        """The net (a NetParameter) in Caffe, or that part of it which begins with the images."""
        return ForwardNet(net, weights, str(self.path), folded, self._kept)

    def forward(self, images: np.ndarray, outputs: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Run N x 3 x S x S images (BGR minus mean); returns `outputs` (default: the scores)."""
        wanted = list(outputs or self.scores)
        blobs = [blob for name in wanted for blob in (self._made[name].needs if name in self._made else (name,))]
        found = self._still.forward(images, list(dict.fromkeys(blobs)))
        return {
            name: one.of(*(found[blob] for blob in one.needs)) if (one := self._made.get(name)) else found[name].copy()
            for name in wanted
        }

    def forward_records(
        self, records: Sequence[int], views: Callable[[], np.ndarray], outputs: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run records of a split, whose images `views` loads; returns `outputs` (default: the scores)."""
        return self.forward(views(), outputs)


def _ancestors(net, output: str) -> set[int]:
    """Positions of the layers that a blob depends on."""
    wanted, kept = {output}, set()
    for i in reversed(range(len(net.layer))):
        if wanted.intersection(net.layer[i].top):
            kept.add(i)
            wanted.update(net.layer[i].bottom)
    return kept
