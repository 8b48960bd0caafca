"""SRN as a plain PyTorch module, the same net as `pysrn/nets` makes for Caffe (variant `paper`).

Parameters carry the names of Caffe's layers, so that `torch_weights.py` maps them by rule: `res4b1_branch2a`
is `trunk.res4.res4b1.branch2a`, the pair `bn4b1_branch2a` and `scale4b1_branch2a` is
`trunk.res4.res4b1.bn_branch2a`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pysrn.nets.resnet import FEATURE_STAGE, STAGES, block_names
from pysrn.recipes import FEATURE_SIZE, SCORE_WEIGHT, HeadSpec, TrunkSpec

BN_EPSILON = 1e-5  # Caffe's default, BatchNormParameter.eps


class SRNOutput(NamedTuple):
    """Scores are logits, N x C; maps are N x C x 14 x 14: attention A, confidence S, weighted attention U."""

    score_cls: Tensor
    score_att: Tensor
    score_sr: Tensor
    score: Tensor
    att_map: Tensor
    conf_map: Tensor
    sr_map: Tensor


class Bottleneck(nn.Module):
    """1x1 (strided), 3x3, 1x1 beside an identity or a strided projection; sum, ReLU."""

    def __init__(self, inputs: int, inside: int, stride: int, projected: bool) -> None:
        super().__init__()
        outputs = 4 * inside
        self.branch1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if projected else nn.Identity()
        self.bn_branch1 = nn.BatchNorm2d(outputs, BN_EPSILON) if projected else nn.Identity()
        self.branch2a = nn.Conv2d(inputs, inside, 1, stride, bias=False)  # the stride is here, as in Caffe's release
        self.bn_branch2a = nn.BatchNorm2d(inside, BN_EPSILON)
        self.branch2b = nn.Conv2d(inside, inside, 3, padding=1, bias=False)
        self.bn_branch2b = nn.BatchNorm2d(inside, BN_EPSILON)
        self.branch2c = nn.Conv2d(inside, outputs, 1, bias=False)
        self.bn_branch2c = nn.BatchNorm2d(outputs, BN_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W -> N x 4*inside x H/stride x W/stride."""
        shortcut = self.bn_branch1(self.branch1(x))
        x = functional.relu(self.bn_branch2a(self.branch2a(x)))
        x = functional.relu(self.bn_branch2b(self.branch2b(x)))
        return functional.relu(shortcut + self.bn_branch2c(self.branch2c(x)))


class Trunk(nn.Module):
    """The residual trunk: N x 3 x 224 x 224 -> X (N x 16w x 14 x 14) and its top (N x 32w x 7 x 7)."""

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, spec.width, 7, 2, 3, bias=not spec.numbered)  # the release's ResNet-50 has a bias
        self.bn_conv1 = nn.BatchNorm2d(spec.width, BN_EPSILON)
        inputs = spec.width
        for stage in STAGES:
            inside, blocks = spec.width * 2 ** (stage - 2), OrderedDict()
            for position, name in enumerate(block_names(spec, stage)):
                stride = 2 if position == 0 and stage > 2 else 1
                blocks[name] = Bottleneck(inputs, inside, stride, position == 0)
                inputs = 4 * inside
            self.add_module(f"res{stage}", nn.Sequential(blocks))
            if stage == FEATURE_STAGE:
                self.feature_channels = inputs
        self.channels = inputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> (X, top)."""
        x = functional.relu(self.bn_conv1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)  # Caffe pools by the ceil rule
        features = self.res4(self.res3(self.res2(x)))
        return features, self.res5(features)


class SRN(nn.Module):
    """The whole net for 224 x 224 images: BGR, 0 to 255, minus the mean (104, 117, 123).

    Args:
        trunk: one of `pysrn.recipes.TRUNKS`.
        classes: number of labels C.
        heads: widths of the attention and regularisation heads.
    """

    def __init__(self, trunk: TrunkSpec, classes: int, heads: HeadSpec | None = None) -> None:
        super().__init__()
        heads = heads or HeadSpec()
        self.trunk = Trunk(trunk)
        self.cls_fc = nn.Linear(self.trunk.channels, classes)
        features, attention, width = (
            self.trunk.feature_channels,
            heads.attention_width,
            heads.regulariser_width,
        )
        self.att_conv1 = nn.Conv2d(features, attention, 1)  # f_att, Sec. 3.2
        self.att_conv2 = nn.Conv2d(attention, attention, 3, padding=1)
        self.att_conv3 = nn.Conv2d(attention, classes, 1)
        self.conf_conv1 = nn.Conv2d(features, classes, 1)  # the paper's conv1
        self.sr_conv2 = nn.Conv2d(classes, width, 1)  # f_sr, Fig. 4
        self.sr_conv3 = nn.Conv2d(width, width, 1)
        self.sr_conv4 = nn.Conv2d(width, width * heads.neurons_per_channel, FEATURE_SIZE, groups=width)
        self.sr_fc = nn.Linear(width * heads.neurons_per_channel, classes)

    def forward(self, images: Tensor) -> SRNOutput:
        """N x 3 x 224 x 224 -> scores and maps."""
        features, top = self.trunk(images)
        score_cls = self.cls_fc(functional.avg_pool2d(top, 7).flatten(1))
        att_map, conf_map = self.attention(features), self.conf_conv1(features)
        score_att = (conf_map * att_map).sum((2, 3))  # the raw confidence
        sr_map = torch.sigmoid(conf_map) * att_map  # Eq. 8
        score_sr = self.regulariser(sr_map)
        score = SCORE_WEIGHT * score_cls + (1 - SCORE_WEIGHT) * score_sr
        return SRNOutput(score_cls, score_att, score_sr, score, att_map, conf_map, sr_map)

    def attention(self, features: Tensor) -> Tensor:
        """Features X -> attention maps A: per label, a softmax over the 196 positions."""
        x = functional.relu(self.att_conv2(functional.relu(self.att_conv1(features))))
        values = self.att_conv3(x)
        return functional.softmax(values.flatten(2), dim=2).view_as(values)

    def regulariser(self, weighted: Tensor) -> Tensor:
        """Weighted attention maps U -> `score_sr`."""
        x = functional.relu(self.sr_conv3(functional.relu(self.sr_conv2(weighted))))
        return self.sr_fc(functional.relu(self.sr_conv4(x)).flatten(1))
