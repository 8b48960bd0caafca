"""The real ResNet-50 grown to a ResNet-101 that computes the same: as ResNet-101's ImageNet weights are not at hand."""

import numpy as np

from pysrn.systems.trunks.resnet import STAGES, TRUNKS, block_names


def grow(resnet50: dict) -> dict:
    """ResNet-50's layers as a ResNet-101 that computes the same."""
    rng = np.random.default_rng(0)
    first = ("conv1", "bn_conv1", "scale_conv1", "fc1000")
    layers = {name: resnet50[name] for name in first}
    (weight, bias), (mean, variance, factor) = resnet50["conv1"][1], resnet50["bn_conv1"][1]
    layers["conv1"] = ("Convolution", [weight])  # ResNet-101's has no bias: BN takes it
    layers["bn_conv1"] = ("BatchNorm", [mean - bias * factor, variance, factor])
    for stage in STAGES:
        small, large = (block_names(TRUNKS[name], stage) for name in ("resnet50", "resnet101"))
        for position, block in enumerate(large):
            source = small[min(position, 1)] if position >= len(small) else small[position]
            for branch in ("branch1", "branch2a", "branch2b", "branch2c"):
                for prefix in ("res", "bn", "scale"):
                    old = f"{prefix}{source.removeprefix('res')}_{branch}"
                    if old not in resnet50:
                        continue
                    kind, blobs = resnet50[old]
                    if position >= len(small):
                        blobs = fresh(prefix, branch, blobs, rng)
                    layers[f"{prefix}{block.removeprefix('res')}_{branch}"] = (kind, blobs)
    return layers


def fresh(prefix: str, branch: str, like: list, rng) -> list:
    """Untrained blobs of the same shapes; the last scale of the block is zero."""
    if prefix == "res":
        return [rng.normal(0, np.sqrt(2 / like[0][0].size), like[0].shape).astype(np.float32)]
    if prefix == "bn":
        return [np.zeros_like(like[0]), np.ones_like(like[1]), np.ones_like(like[2])]
    return [np.full_like(like[0], branch != "branch2c"), np.zeros_like(like[1])]
