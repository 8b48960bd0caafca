"""The residual trunks: layer names, order, wiring and shapes of the public ImageNet release.

The release (deep-residual-networks, 50, 101 and 152 layers) is post-activation, strides in the first 1x1
convolution of a stage and pools by Caffe's ceil rule. Its caffemodel loads with nothing left over but `fc1000`.
"""

from __future__ import annotations

from string import ascii_lowercase

from caffe.proto import caffe_pb2

from pysrn.nets.layers import Learning, add_layer, batch_norm_scale, convolution, relu
from pysrn.recipes import TrunkSpec

STAGES = (2, 3, 4, 5)  # res2 ... res5
FEATURE_STAGE = 4  # X: the end of res4, 14 x 14 (official repo issue 15)
NUMBERED_FROM = (3, 4)  # in the nets of 101 and 152 layers only res3 and res4 are numbered


def block_names(spec: TrunkSpec, stage: int) -> list[str]:
    """Names of the bottleneck blocks of a stage: `res4a, res4b, ...` or `res4a, res4b1, res4b2, ...`."""
    count = spec.blocks[stage - 2]
    if spec.numbered and stage in NUMBERED_FROM:
        suffixes = ["a"] + [f"b{number}" for number in range(1, count)]
    else:
        suffixes = list(ascii_lowercase[:count])
    return [f"res{stage}{suffix}" for suffix in suffixes]


def feature_name(spec: TrunkSpec) -> str:
    """Blob and layer name of the 14 x 14 features X, e.g. `res4b22` (rectified in place by `res4b22_relu`)."""
    return block_names(spec, FEATURE_STAGE)[-1]


def add_trunk(net: caffe_pb2.NetParameter, spec: TrunkSpec, learning: Learning, data: str, up_to: int = 5) -> str:
    """Add conv1 to res<up_to>; returns the top: N x 16*width x 14 x 14 after res4, N x 32*width x 7 x 7 after res5."""
    # The release's net of 50 layers alone has a bias in conv1, although BN follows.
    convolution(net, "conv1", data, spec.width, 7, learning, stride=2, pad=3, bias=not spec.numbered)
    batch_norm_scale(net, "bn_conv1", "scale_conv1", "conv1", learning)
    relu(net, "conv1_relu", "conv1")
    top = add_layer(net, "pool1", "Pooling", "conv1", pooling_param={"kernel_size": 3, "stride": 2, "pool": "MAX"})
    for stage in STAGES:
        if stage > up_to:
            break
        inside = spec.width * 2 ** (stage - 2)
        for position, name in enumerate(block_names(spec, stage)):
            stride = 2 if position == 0 and stage > 2 else 1
            top = _add_bottleneck(net, name, top, inside, stride, position == 0, learning)
    return top


def _add_bottleneck(
    net: caffe_pb2.NetParameter, name: str, bottom: str, inside: int, stride: int, projected: bool, learning: Learning
) -> str:
    """One block: 1x1 (strided), 3x3, 1x1 beside an identity or a strided projection; sum, ReLU."""
    shortcut = bottom
    if projected:
        shortcut = _conv_bn(net, name, "branch1", bottom, 4 * inside, 1, learning, stride=stride)
    top = _conv_bn(net, name, "branch2a", bottom, inside, 1, learning, stride=stride)
    relu(net, f"{name}_branch2a_relu", top)
    top = _conv_bn(net, name, "branch2b", top, inside, 3, learning, pad=1)
    relu(net, f"{name}_branch2b_relu", top)
    top = _conv_bn(net, name, "branch2c", top, 4 * inside, 1, learning)
    add_layer(net, name, "Eltwise", [shortcut, top])
    return relu(net, f"{name}_relu", name)


def _conv_bn(
    net: caffe_pb2.NetParameter,
    block: str,
    branch: str,
    bottom: str,
    channels: int,
    kernel: int,
    learning: Learning,
    *,
    stride: int = 1,
    pad: int = 0,
) -> str:
    top = convolution(net, f"{block}_{branch}", bottom, channels, kernel, learning, stride=stride, pad=pad, bias=False)
    suffix = f"{block.removeprefix('res')}_{branch}"
    return batch_norm_scale(net, f"bn{suffix}", f"scale{suffix}", top, learning)
