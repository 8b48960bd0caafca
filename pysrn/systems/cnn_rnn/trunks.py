"""The trunks of CNN-RNN: each ends in one feature of an image, which the recurrent part reads."""

from __future__ import annotations

from dataclasses import dataclass

from pysrn.nets import messages
from pysrn.nets.fixed import Features
from pysrn.nets.layers import Learning, add_layer
from pysrn.systems.trunks import resnet, vgg
from pysrn.systems.trunks.resnet import PREACT, TrunkSpec


@dataclass(frozen=True)
class FeatureTrunk:
    """VGG-16 up to fc7, or a residual trunk (`spec`) with its global average pool."""

    name: str
    title: str
    small: bool
    features: Features
    spec: TrunkSpec | None = None

    @property
    def reads_map(self) -> str:
        """The first layer behind the last feature map."""
        return "fc6" if self.spec is None else self.features.blob

    def add(self, net: messages.NetParameter, data: str, learning: Learning) -> str:
        """Add it to a net; returns the blob of the feature."""
        if self.spec is None:
            return vgg.add_trunk(net, data, learning)
        top = resnet.add_trunk(net, self.spec, learning, data)
        pooling = {"pool": "AVE", "global_pooling": True}
        return add_layer(net, self.features.blob, "Pooling", top, pooling_param=pooling)


def _pooled(spec: TrunkSpec) -> FeatureTrunk:
    channels = 4 * spec.width * 2 ** (resnet.STAGES[-1] - 2)
    return FeatureTrunk(spec.name, spec.title, spec.small, Features("pool5", (channels, 1, 1)), spec)


_VGG = FeatureTrunk(vgg.NAME, vgg.TITLE, False, Features("fc7", (vgg.WIDTH,)))
_RESIDUAL = [_pooled(spec) for spec in resnet.TRUNKS.values() if spec.family != PREACT]
TRUNKS = {trunk.name: trunk for trunk in (_VGG, *_RESIDUAL)}
