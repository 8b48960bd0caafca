"""The residual trunks: layer names, order, wiring and shapes of the public ImageNet release, or pre-activation.

The release (deep-residual-networks, 50, 101 and 152 layers) is post-activation, strides in the first 1x1
convolution of a stage and pools by Caffe's ceil rule. Its caffemodel loads with nothing left over but `fc1000`.

The pre-activation trunks (variant `released`) keep its names. Every BN is named after the blob that it normalises:

| here                                    | function                       | timm, `resnetv2_*`              |
|-----------------------------------------|--------------------------------|---------------------------------|
| conv1, pool1                            |                                | stem.conv, stem.pool            |
| bn_pool1, or bn_conv1 (see below)       | before the first block         | stages.0.blocks.0.norm1         |
| res3b1_branch2a, bn3b1_branch2a         | 1x1, then BN and ReLU          | blocks.1.conv1, norm2           |
| res3b1_branch2b, bn3b1_branch2b         | 3x3 (strided), BN and ReLU     | blocks.1.conv2, norm3           |
| res3b1_branch2c                         | 1x1                            | blocks.1.conv3                  |
| res3a_branch1                           | projection of the activation   | blocks.0.downsample.conv        |
| bn3b1 (on the sum res3b1)               | before the next block          | norm1 of the next block         |
| bn5c                                    | before pool5                   | norm                            |

X is `res4b22_relu`: the sum at the end of res4 behind the BN and ReLU that res5a reads too. The blob's name in the
authors' nets (official repo issue 15) says that X is rectified; the TensorFlow transcription takes the bare sum.
There are two families. They differ in one place, which leaves the same shapes:

| family      | first BN and ReLU                       | first block  | as in                                     |
|-------------|-----------------------------------------|--------------|-------------------------------------------|
| `preact`    | `bn_pool1`, behind pool1                | reads them   | timm, whose ImageNet weights can be had   |
| `preact_fb` | `bn_conv1`, between conv1 and pool1     | reads pool1  | fb.resnet.torch, models/preresnet.lua     |

The authors pre-trained with a fork of the latter (official repo issue 14).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase

from pysrn.later import later
from pysrn.nets import messages
from pysrn.nets.fixed import Features
from pysrn.nets.layers import Learning, activation, add_layer, batch_norm_scale, convolution, preact_bottleneck, relu

np = later("numpy")

STAGES = (2, 3, 4, 5)  # res2 ... res5
FEATURE_STAGE = 4  # X: the end of res4, 14 x 14 (official repo issue 15)
NUMBERED_FROM = (3, 4)  # in the nets of 101 and 152 layers only res3 and res4 are numbered


FEATURE_SIZE = 14  # X is the output of res4b22_relu (official repo issue 15)
IMAGENET_CLASSIFIER = "fc1000"  # of the public release: the only thing that stage 1 leaves
FULL_WIDTH = 64  # channels of conv1 in the public release
# Families of trunks: of the public release; those that take torchvision's weights ("ResNet v1.5"); pre-activation as
# in timm and as in fb.resnet.torch.
RELEASE, V15, PREACT, PREACT_FB = "release", "v15", "preact", "preact_fb"


@dataclass(frozen=True)
class TrunkSpec:
    """A residual trunk of bottleneck blocks.

    Post-activation as in the public Caffe release, or pre-activation ("identity mappings", v2: BN, ReLU, convolution)
    as the authors used (official repo issue 14).
    """

    name: str
    blocks: tuple[int, int, int, int]  # bottleneck blocks of res2, res3, res4, res5
    width: int  # channels of conv1; stage s has width * 2^s inside and four times that outside
    numbered: bool  # True: long stages are named a, b1, b2 ... as in the release of 101 and 152 layers
    title: str  # the net's name in the public release
    preact: bool = False
    norm_before_pool: bool = False  # of a pre-activation trunk: the place of its first BN and ReLU, see above
    # Place of a stage's stride: the first 1x1 convolution (public Caffe release) or the 3x3 (PyTorch's nets and the
    # training code that the authors refer to).
    stride_in_3x3: bool = False
    # 0: Caffe's ceil rule, windows from pixel 0. 1: PyTorch's, windows from pixel -1 and the floor rule; both end at
    # 56 x 56, one pixel apart.
    pool1_pad: int = 0
    family: str = RELEASE
    release: str = ""  # name of the trunk of the public release that this is a counterpart of; its own there

    @property
    def conv1_bias(self) -> bool:
        """Whether conv1 has a bias, although BN follows: it tells the two post-activation families apart.

        In the release the net of 50 layers alone has one. Place of stride and padding of pool1 leave no trace in
        weights; so the v1.5 trunk of the same depth has a bias where the release has none, and the reverse, and a
        weight file fits one of the two only.
        """
        return not self.preact and self.numbered == self.stride_in_3x3

    @property
    def first_norm(self) -> str:
        """The blob that the first BN normalises."""
        return "pool1" if self.preact and not self.norm_before_pool else "conv1"

    @property
    def feature_channels(self) -> int:
        """Channels of X, the end of res4."""
        return 16 * self.width

    @property
    def features(self) -> Features:
        """X: what stages with a fixed trunk share."""
        return Features(feature_name(self), (self.feature_channels, FEATURE_SIZE, FEATURE_SIZE))

    @property
    def small(self) -> bool:
        """Whether its matrix products are too small for several threads."""
        return self.width < FULL_WIDTH

    def counterpart(self, family: str) -> TrunkSpec:
        """The trunk of the same depth in another family."""
        return next(spec for spec in TRUNKS.values() if (spec.release, spec.family) == (self.release, family))


def block_names(spec: TrunkSpec, stage: int) -> list[str]:
    """Names of the bottleneck blocks of a stage: `res4a, res4b, ...` or `res4a, res4b1, res4b2, ...`."""
    count = spec.blocks[stage - 2]
    if spec.numbered and stage in NUMBERED_FROM:
        suffixes = ["a"] + [f"b{number}" for number in range(1, count)]
    else:
        suffixes = list(ascii_lowercase[:count])
    return [f"res{stage}{suffix}" for suffix in suffixes]


def feature_name(spec: TrunkSpec) -> str:
    """Blob name of the 14 x 14 features X: `res4b22` (rectified in place), pre-activation `res4b22_relu`."""
    return block_names(spec, FEATURE_STAGE)[-1] + ("_relu" if spec.preact else "")


def is_whole_in(spec: TrunkSpec, weights: Mapping[str, Sequence[np.ndarray]]) -> bool:
    """Whether weights hold all blocks of a post-activation trunk, no others, and its conv1."""
    names = {name for stage in STAGES for name in block_names(spec, stage)}
    blocks = {name.split("_branch")[0] for name in weights if name.startswith("res") and "_branch" in name}
    conv1 = weights.get("conv1", [])
    return blocks == names and len(conv1) == 1 + spec.conv1_bias and conv1[0].shape[0] == spec.width


def add_trunk(net: messages.NetParameter, spec: TrunkSpec, learning: Learning, data: str, up_to: int = 5) -> str:
    """Add conv1 to res<up_to>; returns the top: N x 16*width x 14 x 14 after res4, N x 32*width x 7 x 7 after res5."""
    convolution(net, "conv1", data, spec.width, 7, learning, stride=2, pad=3, bias=spec.conv1_bias)
    if spec.first_norm == "conv1":
        relu(net, "conv1_relu", batch_norm_scale(net, "conv1", learning))
    pooling = {"kernel_size": 3, "stride": 2, "pool": "MAX"}
    if spec.pool1_pad:
        pooling |= {"pad": spec.pool1_pad, "round_mode": "FLOOR"}
    top = add_layer(net, "pool1", "Pooling", "conv1", pooling_param=pooling)
    activated = activation(net, top, learning) if spec.first_norm == top else top
    for stage in STAGES:
        if stage > up_to:
            break
        inside = spec.width * 2 ** (stage - 2)
        for position, name in enumerate(block_names(spec, stage)):
            shape = {"stride": 2 if position == 0 and stage > 2 else 1, "projected": position == 0}
            shape["stride_in_3x3"] = spec.stride_in_3x3
            if spec.preact:
                top, activated = preact_bottleneck(net, name, top, activated, inside, learning, **shape)
            else:
                top = activated = _add_bottleneck(net, name, top, inside, learning, **shape)
    return activated


def _add_bottleneck(
    net: messages.NetParameter,
    name: str,
    bottom: str,
    inside: int,
    learning: Learning,
    *,
    stride: int,
    projected: bool,
    stride_in_3x3: bool,
) -> str:
    """One block: 1x1, 3x3, 1x1 (the first or the second strided) beside an identity or a strided projection; ReLU."""
    shortcut = bottom
    if projected:
        shortcut = _conv_bn(net, f"{name}_branch1", bottom, 4 * inside, 1, learning, stride=stride)
    strides = (1, stride) if stride_in_3x3 else (stride, 1)
    top = _conv_bn(net, f"{name}_branch2a", bottom, inside, 1, learning, stride=strides[0])
    relu(net, f"{name}_branch2a_relu", top)
    top = _conv_bn(net, f"{name}_branch2b", top, inside, 3, learning, stride=strides[1], pad=1)
    relu(net, f"{name}_branch2b_relu", top)
    top = _conv_bn(net, f"{name}_branch2c", top, 4 * inside, 1, learning)
    add_layer(net, name, "Eltwise", [shortcut, top])
    return relu(net, f"{name}_relu", name)


def _conv_bn(
    net: messages.NetParameter,
    name: str,
    bottom: str,
    channels: int,
    kernel: int,
    learning: Learning,
    *,
    stride: int = 1,
    pad: int = 0,
) -> str:
    top = convolution(net, name, bottom, channels, kernel, learning, stride=stride, pad=pad, bias=False)
    return batch_norm_scale(net, top, learning)


def _families(*specs: TrunkSpec) -> dict[str, TrunkSpec]:
    """Each trunk of the public release, its v1.5 and its pre-activation counterparts, by name.

    The counterparts have Torch's stride and pooling, because their ImageNet weights come from there.
    """
    released = [replace(spec, release=spec.name) for spec in specs]
    counterparts = [
        replace(
            spec,
            name=f"{spec.name}_{family}",
            title=f"{spec.title}{words}",
            preact=family in (PREACT, PREACT_FB),
            norm_before_pool=family == PREACT_FB,
            stride_in_3x3=True,
            pool1_pad=1,
            family=family,
        )
        for family, words in (
            (V15, " v1.5"),
            (PREACT, ", pre-activation"),
            (PREACT_FB, ", pre-activation of fb.resnet.torch"),
        )
        for spec in released
    ]
    return {spec.name: spec for spec in (*released, *counterparts)}


TRUNKS = _families(
    TrunkSpec("resnet101", (3, 4, 23, 3), FULL_WIDTH, True, "ResNet-101"),
    TrunkSpec("resnet50", (3, 4, 6, 3), FULL_WIDTH, False, "ResNet-50"),
    TrunkSpec("resnet152", (3, 8, 36, 3), FULL_WIDTH, True, "ResNet-152"),
    # The embedded data set's trunk: same topology, small enough to be trained from scratch on two cores.
    TrunkSpec("resnet14", (1, 1, 1, 1), 8, False, "ResNet-14"),
    # With two more blocks, as the paper's ResNet-107 (Sec. 4): is it depth alone that SRN gains? Where the paper has
    # them is not known; assumed: at the end of res5.
    TrunkSpec("resnet107", (3, 4, 23, 5), FULL_WIDTH, True, "ResNet-107"),
    TrunkSpec("resnet20", (1, 1, 1, 3), 8, False, "ResNet-20"),
)
