"""The trunks of CNN-RNN: each ends in one feature of an image, which the recurrent part reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pysrn.nets import messages
from pysrn.nets.fixed import Features
from pysrn.nets.layers import Learning, add_layer
from pysrn.systems.trunks import resnet, vgg
from pysrn.systems.trunks.resnet import PREACT, TrunkSpec


@dataclass(frozen=True)
class FeatureTrunk:
    """A trunk up to its feature; `add(net, data, learning)` adds it and returns the feature's blob."""

    name: str
    title: str
    small: bool
    features: Features
    add: Callable[[messages.NetParameter, str, Learning], str]
    spec: TrunkSpec | None = None  # of a residual trunk


def _pooled(spec: TrunkSpec) -> FeatureTrunk:
    """A residual trunk and its global average pool."""

    def add(net: messages.NetParameter, data: str, learning: Learning) -> str:
        top = resnet.add_trunk(net, spec, learning, data)
        return add_layer(net, "pool5", "Pooling", top, pooling_param={"pool": "AVE", "global_pooling": True})

    channels = 4 * spec.width * 2 ** (resnet.STAGES[-1] - 2)
    return FeatureTrunk(spec.name, spec.title, spec.small, Features("pool5", (channels, 1, 1)), add, spec)


def _vgg() -> FeatureTrunk:
    return FeatureTrunk("vgg16", vgg.TITLE, False, Features("fc7", (vgg.WIDTH,)), vgg.add_trunk)


TRUNKS = {
    trunk.name: trunk
    for trunk in (_vgg(), *(_pooled(spec) for spec in resnet.TRUNKS.values() if spec.family != PREACT))
}
