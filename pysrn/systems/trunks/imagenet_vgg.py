"""ImageNet weights of torchvision's VGG-16 as weights of ours: what `imagenet.py` is for residual trunks.

The function is the public release's; names and input differ. The shift goes through conv1_1 into its bias, which is
exact wherever its 3 x 3 window lies within the image. Beyond the border our net sees our mean colour in place of
theirs: that reaches the outermost pixels of conv1_1.
"""

from __future__ import annotations

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
from pysrn.systems.trunks import vgg
from pysrn.systems.trunks.imagenet import IMAGENET, Family, bordered, shift_bgr
from pysrn.systems.trunks.torch_vgg import Vgg16

FAMILY = Family("torchvision VGG", r"features\.(\d+)\.weight", 0, "features.0", "", False, IMAGENET, "classifier.6.")
COMPARED = ("pool5 (7 x 7)", "fc7")
FULL = {"fc6": "classifier.0", "fc7": "classifier.3"}  # torchvision/models/vgg.py: rectifiers and dropout between


@dataclass(frozen=True)
class VggTrunk:
    """What the trunk is called."""

    name: str = vgg.NAME
    title: str = vgg.TITLE
    release: str = vgg.NAME


def trunk_of(values: Mapping[str, Tensor], family: Family, source: str) -> VggTrunk:
    """The only one that there is; `trunk_with` tells whether the weights are of it."""
    return VggTrunk()


def trunk_with(values: Mapping[str, Tensor], family: Family, source: str) -> Vgg16:
    """Our trunk with these weights, the input as it was; SrnError on a tensor left over, missing or of other shape."""
    names, result = _names(), {}
    trunk = empty_trunk(trunk_of(values, family, source))
    for path, parameter in trunk.named_parameters():
        ours, _, part = path.rpartition(".")
        theirs = f"{names[ours]}.{part}"
        if theirs not in values or values[theirs].shape != parameter.shape:
            there = f"has {tuple(values[theirs].shape)}" if theirs in values else "is missing"
            raise SrnError(f"{source}: {theirs} {there}, {vgg.TITLE} wants {tuple(parameter.shape)}")
        result[path] = values[theirs].detach().float()
    read = {f"{theirs}.{part}" for theirs in names.values() for part in ("weight", "bias")}
    rest = [name for name in values if name not in read and not name.startswith(family.classifier)]
    if rest:
        raise SrnError(f"{source}: {len(rest)} tensors are unknown to {vgg.TITLE}, the first is {rest[0]}")
    for part in ("weight", "bias"):  # or `fold_input` would write into the weights that it is compared with
        result[f"conv1_1.{part}"] = result[f"conv1_1.{part}"].clone()
    trunk.load_state_dict(result, assign=True)
    return trunk


def fold_input(trunk: Vgg16, ours: Input, mean: Sequence[float], deviation: Sequence[float]) -> None:
    """Let a trunk that eats RGB from 0 to 1, minus `mean`, by `deviation` (RGB) eat what ours does."""
    weight = trunk.conv1_1.weight.detach().double().numpy()[:, ::-1]
    constant = np.einsum("ocij,c->o", weight, shift_bgr(ours, mean, deviation))
    folded = weight / (255 * ours.scale * np.array(deviation, np.float64)[::-1, None, None])
    with torch.no_grad():
        trunk.conv1_1.weight.copy_(torch.from_numpy(folded))
        trunk.conv1_1.bias.copy_(trunk.conv1_1.bias.double() + torch.from_numpy(constant))


@torch.inference_mode()
def their_forward(
    values: Mapping[str, Tensor], family: Family, images: Tensor, border: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """The original net, computed from its own tensors: images as it eats them -> pool5 and fc7.

    In the images' precision. `border`: RGB values read beyond the image in place of zeros.
    """

    def read(name: str) -> tuple[Tensor, Tensor]:
        return tuple(values[f"{name}.{part}"].to(images) for part in ("weight", "bias"))

    x, pad, number = bordered(images, 1, border), 0, 0
    for channels in vgg.CHANNELS.values():
        for _ in channels:
            x = functional.conv2d(x, *read(f"features.{number}"), padding=pad).relu()
            pad, number = 1, number + 2  # its rectifier
        x = functional.max_pool2d(x, 2)
        number += 1
    top = x.flatten(1)
    for theirs in FULL.values():
        top = functional.linear(top, *read(theirs)).relu()
    return x, top


def add_trunk(net: messages.NetParameter, spec: VggTrunk) -> tuple[str, str]:
    """Add it, fixed, to a net with `data`; returns the blobs that are compared."""
    return f"pool{max(vgg.CHANNELS)}", vgg.add_trunk(net, "data", FIXED)


def empty_trunk(spec: VggTrunk) -> Vgg16:
    """Our module, without weights."""
    with torch.device("meta"):
        return Vgg16().eval()


def outputs_of(trunk: Vgg16, images: Tensor) -> tuple[Tensor, Tensor]:
    """What is compared, by our module."""
    features = trunk.features(images)
    return features, trunk.full(features)


def _names() -> dict[str, str]:
    """Our layer -> theirs: numbers of convolutions among rectifiers and poolings."""
    found, number = {}, 0
    for block, channels in vgg.CHANNELS.items():
        for place in range(1, len(channels) + 1):
            found[f"conv{block}_{place}"] = f"features.{number}"
            number += 2
        number += 1
    return found | FULL
