"""The deploy net in Caffe, filled with the weights of a file: what prediction, pictures and export run.

A run's stages end in caffemodels that hold more and more of the net (stage 1: `score_cls` only). The net is
cut to the scores that the weights can compute, and every layer is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.folding import Weights
from pysrn.nets.in_caffe import check_gpu, engine_in_use
from pysrn.nets.still_net import StillNet
from pysrn.predict.trained import Architecture, architecture_of
from pysrn.systems.srn import nets as stages


def deploy_message(architecture: Architecture, layers: Collection[str] | None = None, batch_size: int = 1):
    """The deploy net (a NetParameter), cut to the scores that the named `layers` can compute (None: all)."""
    net = stages.deploy_net(architecture.trunk, architecture.classes, architecture.heads, batch_size)
    if layers is None:
        return net
    weighted = set(stages.parameter_layers(net))
    kept: set[int] = set()
    for score in stages.SCORES:
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
    what global average pooling reads: N x channels x 7 x 7).
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
        self.scores = tuple(name for name in stages.SCORES if name in blobs)
        self.maps = tuple(name for name in stages.MAPS if name in blobs)
        if not self.scores:
            whole = stages.parameter_layers(deploy_message(self.architecture))
            missing = [name for name in whole if name not in weights]
            raise SrnError(f"{path} can compute no score: {len(missing)} layers are missing, the first is {missing[0]}")
        self.features = next((layer.bottom[0] for layer in message.layer if layer.name == "pool5"), None)
        use_device(gpu)
        self._kept = (*self.scores, *self.maps, self.features, *kept) if folded else None
        self._still = self._built(message, weights, folded)
        self.net = self._still.net

    def _built(self, net, weights: Weights, folded: bool) -> StillNet:
        """The net (a NetParameter) in Caffe, or that part of it which begins with the images."""
        return StillNet(net, weights, str(self.path), folded, self._kept)

    def forward(self, images: np.ndarray, outputs: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Run N x 3 x 224 x 224 images (BGR minus mean); returns `outputs` (default: the scores)."""
        return {name: blob.copy() for name, blob in self._still.forward(images, outputs or self.scores).items()}

    def forward_records(
        self, records: Sequence[int], views: Callable[[], np.ndarray], outputs: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run records of a split, whose images `views` loads; returns `outputs` (default: the scores)."""
        return self.forward(views(), outputs)


def use_device(gpu: int | None) -> None:
    """Let Caffe compute on the CPU (None) or a CUDA device; raises as `check_gpu` and `engine_in_use`."""
    import caffe

    engine_in_use()
    if gpu is None:
        caffe.set_mode_cpu()
        return
    check_gpu(gpu)
    caffe.set_device(gpu)
    caffe.set_mode_gpu()


def _ancestors(net, output: str) -> set[int]:
    """Positions of the layers that a blob depends on."""
    wanted, kept = {output}, set()
    for i in reversed(range(len(net.layer))):
        if wanted.intersection(net.layer[i].top):
            kept.add(i)
            wanted.update(net.layer[i].bottom)
    return kept
