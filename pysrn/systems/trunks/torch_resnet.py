"""The residual trunks as PyTorch modules, the same nets as `resnet.py` makes for Caffe.

`res4b1_branch2a` is `res4.res4b1.branch2a`, the pair `bn4b1_branch2a` and `scale4b1_branch2a` is
`res4.res4b1.bn_branch2a`; of a pre-activation trunk `bn4b1` and `scale4b1` are `res4.res4b1.bn`.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from pysrn.systems.torch_parts import BatchNorm2d
from pysrn.systems.trunks.resnet import FEATURE_STAGE, STAGES, TrunkSpec, block_names


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (the first or the second strided) beside an identity or a strided projection; sum, ReLU."""

    def __init__(self, inputs: int, inside: int, stride: int, projected: bool, stride_in_3x3: bool) -> None:
        super().__init__()
        outputs, strides = 4 * inside, (1, stride) if stride_in_3x3 else (stride, 1)
        self.branch1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if projected else nn.Identity()
        self.bn_branch1 = BatchNorm2d(outputs) if projected else nn.Identity()
        self.branch2a = nn.Conv2d(inputs, inside, 1, strides[0], bias=False)
        self.bn_branch2a = BatchNorm2d(inside)
        self.branch2b = nn.Conv2d(inside, inside, 3, strides[1], padding=1, bias=False)
        self.bn_branch2b = BatchNorm2d(inside)
        self.branch2c = nn.Conv2d(inside, outputs, 1, bias=False)
        self.bn_branch2c = BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W -> N x 4*inside x H/stride x W/stride."""
        shortcut = self.bn_branch1(self.branch1(x))
        x = functional.relu(self.bn_branch2a(self.branch2a(x)))
        x = functional.relu(self.bn_branch2b(self.branch2b(x)))
        return functional.relu(shortcut + self.bn_branch2c(self.branch2c(x)))


class PreactBottleneck(nn.Module):
    """The same in pre-activation: takes and gives the pair of a sum and what its BN and ReLU make of it."""

    def __init__(
        self, inputs: int, inside: int, stride: int = 1, projected: bool = False, stride_in_3x3: bool = True
    ) -> None:
        super().__init__()
        outputs, strides = 4 * inside, (1, stride) if stride_in_3x3 else (stride, 1)
        self.branch1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if projected else None
        self.branch2a = nn.Conv2d(inputs, inside, 1, strides[0], bias=False)
        self.bn_branch2a = BatchNorm2d(inside)
        self.branch2b = nn.Conv2d(inside, inside, 3, strides[1], padding=1, bias=False)
        self.bn_branch2b = BatchNorm2d(inside)
        self.branch2c = nn.Conv2d(inside, outputs, 1, bias=False)
        self.bn = BatchNorm2d(outputs)  # of the sum

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """N x inputs x H x W, twice -> N x 4*inside x H/stride x W/stride, twice."""
        shortcut, activated = pair
        if self.branch1 is not None:
            shortcut = self.branch1(activated)
        x = functional.relu(self.bn_branch2a(self.branch2a(activated)))
        x = functional.relu(self.bn_branch2b(self.branch2b(x)))
        total = shortcut + self.branch2c(x)
        return total, functional.relu(self.bn(total))


class PreactBlocks(nn.Sequential):
    """Such blocks one after the other. TorchScript wants to be told that no single tensor goes through."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The pair of the last block."""
        for block in self:
            pair = block(pair)
        return pair


class Trunk(nn.Module):
    """The residual trunk: N x 3 x 224 x 224 -> X (N x 16w x 14 x 14) and its top (N x 32w x 7 x 7)."""

    __constants__ = ("preact", "norms_conv1")  # TorchScript compiles only the branch that they choose

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        self.preact, self.first_norm, self.norms_conv1 = spec.preact, spec.first_norm, spec.first_norm == "conv1"
        self.conv1 = nn.Conv2d(3, spec.width, 7, 2, 3, bias=spec.conv1_bias)
        self.add_module(f"bn_{spec.first_norm}", BatchNorm2d(spec.width))
        # Without padding Caffe's own ceil rule.
        self.pool1 = nn.MaxPool2d(3, 2, padding=spec.pool1_pad, ceil_mode=not spec.pool1_pad)
        block = PreactBottleneck if spec.preact else Bottleneck
        inputs = spec.width
        for stage in STAGES:
            inside, blocks = spec.width * 2 ** (stage - 2), OrderedDict()
            for position, name in enumerate(block_names(spec, stage)):
                stride = 2 if position == 0 and stage > 2 else 1
                blocks[name] = block(inputs, inside, stride, position == 0, spec.stride_in_3x3)
                inputs = 4 * inside
            self.add_module(f"res{stage}", (PreactBlocks if spec.preact else nn.Sequential)(blocks))
            if stage == FEATURE_STAGE:
                self.feature_channels = inputs
        self.channels = inputs

    def ends(self, x: Tensor) -> list[Tensor]:
        """Images -> what res2, res3, res4 and res5 of a post-activation trunk end in."""
        res2 = self.res2(self.pool1(functional.relu(self.bn_conv1(self.conv1(x)))))
        res3 = self.res3(res2)  # without a loop, which TorchScript would not take
        res4 = self.res4(res3)
        return [res2, res3, res4, self.res5(res4)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> (X, top)."""
        if self.preact:
            x = self.conv1(x)
            if self.norms_conv1:
                x = activated = self.pool1(functional.relu(self.bn_conv1(x)))
            else:
                x = self.pool1(x)
                activated = functional.relu(self.bn_pool1(x))
            pair = self.res4(self.res3(self.res2((x, activated))))
            features, top = pair[1], self.res5(pair)[1]
        else:
            ends = self.ends(x)
            features, top = ends[2], ends[3]
        return features, top
