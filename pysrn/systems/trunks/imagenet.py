"""ImageNet weights of today's PyTorch nets as weights of our trunks: names, and what the first layers must take over.

torchvision's ResNets (v1 and v2 weights are of the same net; timm's `resnet50` has the names, too) fill the trunks
`resnet*_v15`, timm's `resnetv2_*` the trunks `resnet*_preact`. `torch_import.py` writes and compares what is made here.
`imagenet_vgg.py` has the same functions for VGG-16.

Those nets eat RGB from 0 to 1, minus a mean, divided by a deviation; ours eats BGR from 0 to 255 minus our mean. With u
our input, theirs is y = u / (255 * std) + shift, shift = (our mean / 255 - their mean) / std, channel by channel:
the order of channels and the division go into conv1's weights, the shift as a constant through conv1 into the running
mean of the first BN (max pooling between them lets a constant pass). That is exact wherever conv1's window lies within
the image. Beyond its border theirs reads zeros, y = 0, and ours u = 0, y = shift: there our net sees our mean colour in
place of theirs. That differs by 0.7 of 255 grey levels for torchvision's mean, 23.5 for timm's 0.5, and reaches the
first row and column of conv1 (and the second, to a lesser part). A convolution that pads with zeros cannot do better:
its bias would have to depend on the position; a layer before it that adds the shift could, and is left out, because
stage 1 trains the trunk anyway. `torch_import.py` measures it. With trained weights it is small:
in the public ResNet-50 on eight photos such a border moves logits (up to 20) by at most 0.014 for torchvision's mean
and by 0.20 for timm's, and no first guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pysrn.console import SrnError
from pysrn.nets import messages
from pysrn.nets.layers import FIXED
from pysrn.recipes import Input
from pysrn.systems.torch_parts import BN_EPSILON
from pysrn.systems.trunks import resnet
from pysrn.systems.trunks.resnet import FEATURE_STAGE, PREACT, STAGES, TRUNKS, V15, TrunkSpec, block_names, feature_name
from pysrn.systems.trunks.torch_resnet import Trunk

BN_PARTS = ("weight", "bias", "running_mean", "running_var")
# (RGB mean, RGB deviation) of the input
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision, transforms of every weight enum
COMPARED = ("X (14 x 14)", "top (7 x 7)")
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # timm, default_cfg of resnetv2_50 and resnetv2_101


@dataclass(frozen=True)
class Family:
    """Nets that have one scheme of names.

    Attributes: title, blocks (what a block's first weight is called, with the stage's number and the block's), first
    (number of the first stage), conv1, bn1 (the first BN), preact, normalisation, classifier (what is left out).
    """

    title: str
    blocks: str
    first: int
    conv1: str
    bn1: str
    preact: bool
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    classifier: str


FAMILIES = (
    Family("torchvision ResNet", r"layer(\d+)\.(\d+)\.conv3\.weight", 1, "conv1", "bn1", False, IMAGENET, "fc."),
    Family(
        "timm resnetv2",
        r"stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight",
        0,
        "stem.conv",
        "stages.0.blocks.0.norm1",
        True,
        HALF,
        "head.",
    ),
)


def family_of(values: Mapping[str, Tensor], families: Sequence[Family] = FAMILIES) -> Family | None:
    """The family whose names a state dict has, or None."""
    for family in families:
        if f"{family.conv1}.weight" in values and any(re.fullmatch(family.blocks, name) for name in values):
            return family
    return None


def trunk_of(values: Mapping[str, Tensor], family: Family, source: str) -> TrunkSpec:
    """Our trunk of the same blocks and width; SrnError where there is none."""
    found = [re.fullmatch(family.blocks, name) for name in values]
    stages = [int(match[1]) for match in found if match]
    counts = tuple(stages.count(family.first + i) for i in range(len(STAGES)))
    width = values[f"{family.conv1}.weight"].shape[0]
    for spec in TRUNKS.values():
        if (spec.blocks, spec.width, spec.family) == (counts, width, PREACT if family.preact else V15):
            return spec
    raise SrnError(
        f"{source}: {family.title} of {'+'.join(map(str, counts))} blocks and {width} channels fits no trunk",
        "give weights of 50, 101 or 152 layers",
    )


def trunk_with(values: Mapping[str, Tensor], family: Family, source: str) -> Trunk:
    """Our trunk with these weights, the input as it was; SrnError on a tensor left over, missing or of other shape."""
    spec = trunk_of(values, family, source)
    names = dict(_names(spec, family))
    result: dict[str, Tensor] = {}
    used: set[str] = set()
    trunk = empty_trunk(spec)
    for path, module in trunk.named_modules():
        parts = [part for part in BN_PARTS if getattr(module, part, None) is not None]
        if not isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            continue
        for part in parts:
            theirs, wanted = f"{names[path]}.{part}", getattr(module, part).shape
            if theirs not in values and path == "conv1" and part == "bias":
                result[f"{path}.{part}"] = torch.zeros(wanted)  # theirs has none: TrunkSpec.conv1_bias
                continue
            if theirs not in values or values[theirs].shape != wanted:
                there = f"has {tuple(values[theirs].shape)}" if theirs in values else "is missing"
                raise SrnError(f"{source}: {theirs} {there}, {spec.title} wants {tuple(wanted)}")
            used.add(theirs)
            result[f"{path}.{part}"] = values[theirs].detach().float().clone()
        if isinstance(module, torch.nn.BatchNorm2d):
            result[f"{path}.num_batches_tracked"] = torch.tensor(0)
            result[f"{path}.caffe_sums"] = torch.zeros(2 * module.num_features + 1)
    left = (name for name in values if name not in used and not name.endswith("num_batches_tracked"))
    if rest := [name for name in left if not name.startswith(family.classifier)]:
        raise SrnError(f"{source}: {len(rest)} tensors are unknown to {spec.title}, the first is {rest[0]}")
    trunk.load_state_dict(result, assign=True)
    return trunk


def values_of(trunk: Trunk, spec: TrunkSpec, family: Family) -> dict[str, Tensor]:
    """The trunk's weights under a family's names, a conv1's bias left out: the inverse of `trunk_with`."""
    result: dict[str, Tensor] = {}
    modules = dict(trunk.named_modules())
    for ours, theirs in _names(spec, family):
        module = modules.get(ours)
        if isinstance(module, torch.nn.BatchNorm2d):
            result |= {f"{theirs}.{part}": getattr(module, part).detach() for part in BN_PARTS}
            result[f"{theirs}.num_batches_tracked"] = torch.tensor(0)
        elif isinstance(module, torch.nn.Conv2d):
            result[f"{theirs}.weight"] = module.weight.detach()
    return result


def fold_input(trunk: Trunk, ours: Input, mean: Sequence[float], deviation: Sequence[float]) -> None:
    """Let a trunk that eats RGB from 0 to 1, minus `mean`, by `deviation` (RGB) eat what ours does; see above."""
    deviation_bgr = np.array(deviation, np.float64)[::-1]
    weight = trunk.conv1.weight.detach().double().numpy()[:, ::-1]
    constant = np.einsum("ocij,c->o", weight, shift_bgr(ours, mean, deviation))
    folded = weight / (255 * ours.scale * deviation_bgr[None, :, None, None])
    first = trunk.bn_conv1 if trunk.norms_conv1 else trunk.bn_pool1
    with torch.no_grad():
        trunk.conv1.weight.copy_(torch.from_numpy(folded))
        first.running_mean.copy_(first.running_mean.double() - torch.from_numpy(constant))


def unfold_input(trunk: Trunk, ours: Input, mean: Sequence[float], deviation: Sequence[float]) -> None:
    """Undo `fold_input`; a bias of conv1, which theirs has not, goes into the BN behind it (post-activation)."""
    deviation_bgr = np.array(deviation, np.float64)[::-1]
    weight = trunk.conv1.weight.detach().double().numpy() * (255 * ours.scale * deviation_bgr[None, :, None, None])
    constant = torch.from_numpy(np.einsum("ocij,c->o", weight, shift_bgr(ours, mean, deviation)))
    with torch.no_grad():
        trunk.conv1.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight[:, ::-1])))
        running = trunk.bn_conv1.running_mean
        running.copy_(running.double() + constant)
        if trunk.conv1.bias is not None:
            running.sub_(trunk.conv1.bias)


def shift_bgr(ours: Input, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """What our mean colour is in their input: three numbers in the order BGR."""
    return ((np.array(ours.mean) / 255) - np.array(mean)[::-1]) / np.array(deviation)[::-1]


def their_input(
    images: np.ndarray,
    ours: Input,
    mean: Sequence[float],
    deviation: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Our images (N x 3 x H x W, BGR 0 to 255 minus our mean) as theirs: RGB 0 to 1, minus mean, by deviation."""
    rgb = (images.astype(np.float64) / ours.scale + np.array(ours.mean)[:, None, None])[:, ::-1] / 255
    theirs = (rgb - np.array(mean)[:, None, None]) / np.array(deviation)[:, None, None]
    return torch.from_numpy(theirs).to(dtype)


@torch.inference_mode()
def their_forward(
    values: Mapping[str, Tensor], family: Family, images: Tensor, border: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """The original net, computed from its own tensors: images as it eats them -> X (14 x 14) and the top (7 x 7).

    In the images' precision, float32 or float64.
    `border`: RGB values read beyond the image in place of zeros.
    """

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = values[f"{name}.weight"].to(x)
        return functional.conv2d(x, weight, None, stride, weight.shape[2] // 2)

    def normalise(x: Tensor, name: str) -> Tensor:
        weight, bias, mean, variance = (values[f"{name}.{part}"].to(x) for part in BN_PARTS)
        return functional.batch_norm(x, mean, variance, weight, bias, eps=BN_EPSILON)

    def activate(x: Tensor, name: str) -> Tensor:
        return normalise(x, name).relu()

    x = functional.conv2d(bordered(images, 3, border), values[f"{family.conv1}.weight"].to(images), None, 2)
    x = functional.max_pool2d(x if family.preact else activate(x, family.bn1), 3, 2, 1)
    features = x
    for stage in range(len(STAGES)):
        count = 0
        while (block := _block(family, stage, count)) + ".conv3.weight" in values:
            stride = 2 if stage and not count else 1
            if family.preact:
                y = activate(x, f"{block}.norm1")
                shortcut = convolve(y, f"{block}.downsample.conv", stride) if not count else x
                y = activate(convolve(y, f"{block}.conv1"), f"{block}.norm2")
                y = activate(convolve(y, f"{block}.conv2", stride), f"{block}.norm3")
                x = shortcut + convolve(y, f"{block}.conv3")
            else:
                shortcut = x
                if not count:
                    shortcut = normalise(convolve(x, f"{block}.downsample.0", stride), f"{block}.downsample.1")
                y = activate(convolve(x, f"{block}.conv1"), f"{block}.bn1")
                y = activate(convolve(y, f"{block}.conv2", stride), f"{block}.bn2")
                x = (shortcut + normalise(convolve(y, f"{block}.conv3"), f"{block}.bn3")).relu()
            count += 1
        if stage == STAGES.index(FEATURE_STAGE):
            features = activate(x, f"{_block(family, stage + 1, 0)}.norm1") if family.preact else x
    return features, activate(x, "norm") if family.preact else x


def bordered(images: Tensor, width: int, border: np.ndarray | None) -> Tensor:
    """Images with a border of `width` pixels of these RGB values, or of zeros."""
    colour = torch.zeros(3) if border is None else torch.from_numpy(np.array(border, np.float64))
    colour = colour.reshape(1, 3, 1, 1).to(images)
    return functional.pad(images - colour, (width,) * 4) + colour


def add_trunk(net: messages.NetParameter, spec: TrunkSpec) -> tuple[str, str]:
    """Add it, fixed, to a net with `data`; returns the blobs that are compared."""
    return feature_name(spec), resnet.add_trunk(net, spec, FIXED, "data")


def empty_trunk(spec: TrunkSpec) -> Trunk:
    """Our module, without weights."""
    with torch.device("meta"):
        return Trunk(spec).eval()


def outputs_of(trunk: Trunk, images: Tensor) -> tuple[Tensor, Tensor]:
    """What is compared, by our module."""
    return trunk(images)


def _block(family: Family, stage: int, number: int) -> str:
    """Their name of a block; stage 0 is our res2."""
    return f"stages.{stage}.blocks.{number}" if family.preact else f"layer{stage + 1}.{number}"


def _names(spec: TrunkSpec, family: Family) -> list[tuple[str, str]]:
    """Our module and theirs, for every convolution and BN of the trunk."""
    names = [("conv1", family.conv1), (f"bn_{spec.first_norm}", family.bn1)]
    for stage, number in enumerate(STAGES):
        blocks = block_names(spec, number)
        for count, name in enumerate(blocks):
            ours, theirs = f"res{number}.{name}", _block(family, stage, count)
            names += [(f"{ours}.branch2{'abc'[i]}", f"{theirs}.conv{i + 1}") for i in range(3)]
            names.append((f"{ours}.branch1", f"{theirs}.downsample.{'conv' if spec.preact else '0'}"))
            if not spec.preact:
                names += [(f"{ours}.bn_branch2{'abc'[i]}", f"{theirs}.bn{i + 1}") for i in range(3)]
                names.append((f"{ours}.bn_branch1", f"{theirs}.downsample.1"))
                continue
            names += [(f"{ours}.bn_branch2{'ab'[i]}", f"{theirs}.norm{i + 2}") for i in range(2)]
            last = count + 1 == len(blocks)
            following = _block(family, stage + 1, 0) if last else _block(family, stage, count + 1)
            names.append((f"{ours}.bn", "norm" if last and number == STAGES[-1] else f"{following}.norm1"))
    return names
