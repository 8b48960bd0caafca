"""SRN as a plain PyTorch module, the same net as `pysrn/nets` makes for Caffe, in both variants.

Parameters carry the names of Caffe's layers, so that `torch_weights.py` maps them by rule: `res4b1_branch2a`
is `trunk.res4.res4b1.branch2a`, the pair `bn4b1_branch2a` and `scale4b1_branch2a` is
`trunk.res4.res4b1.bn_branch2a`; in variant `released` `bn4b1` and `scale4b1` are `trunk.res4.res4b1.bn`, and
`att_conv1_bn` and `att_conv1_scale` are `att_conv1_bn`.

`torch.jit.script`, `torch.jit.trace`, `torch.compile` and `torch.export.export` take the module as it is. So `forward`
names its parts (it looks none up by name), and the numbers that it needs are the module's own.
`Preprocessing` in front of it lets users feed RGB pictures from 0 to 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree

from pysrn.systems.srn.heads import (
    ATTENTION,
    POOLED,
    RANKED,
    RESIDUAL_BLOCKS,
    SCORE_WEIGHT,
    HeadSpec,
    blocks_prefix,
)
from pysrn.systems.srn.recipes import INPUT
from pysrn.systems.system import Architecture
from pysrn.systems.torch_parts import BatchNorm2d, Preprocessing
from pysrn.systems.trunks.resnet import FEATURE_SIZE, TRUNKS, TrunkSpec
from pysrn.systems.trunks.torch_resnet import PreactBottleneck, Trunk


class SRNOutput(NamedTuple):
    """Scores are logits, N x C; maps are N x C x 14 x 14: attention A, confidence S, weighted attention U."""

    score_cls: Tensor
    score_att: Tensor
    score_sr: Tensor
    score: Tensor
    att_map: Tensor
    conf_map: Tensor
    sr_map: Tensor


# Else `torch.export.save` refuses a net that returns it. PyTorch has no public function for this. The name is in files
# that people have: it stays.
_pytree._register_namedtuple(SRNOutput, serialized_type_name="pysrn.convert.torch_model.SRNOutput")


class SRN(nn.Module):
    """The whole net for 224 x 224 images: BGR, 0 to 255, minus the mean (104, 117, 123).

    Args:
        trunk: one of `resnet.TRUNKS`.
        classes: number of labels C.
        heads: structure and widths of the attention and regularisation heads.

    `class_names` are the labels in the order of the scores, where they are known (`from_pretrained`).

    Training: in evaluation mode gradients are those of Caffe's stages with stored BN statistics, which do not move;
    `train()` lets them follow the batch, as in any PyTorch net. Half precision: `torch.autocast` or `bfloat16()`; with
    `half()` a variance of inputs up to 255 may go beyond 65,504, and the scores are wrong without a word.
    """

    # TorchScript compiles only the branch that they choose.
    __constants__ = ("released", "shared", "plain", "pooled", "ranked")

    def __init__(self, trunk: TrunkSpec, classes: int, heads: HeadSpec | None = None) -> None:
        super().__init__()
        heads = heads or HeadSpec()
        self.class_names: tuple[str, ...] = ()
        self.trunk = Trunk(trunk)
        self.cls_fc = nn.Linear(self.trunk.channels, classes)
        features, attention, width = self.trunk.feature_channels, heads.attention_width, heads.regulariser_width
        self.heads, self.released, self.shared = heads, heads.variant == "released", heads.confidence_sees_blocks
        self.plain, self.pooled, self.ranked = (heads.regulariser_input == one for one in (ATTENTION, POOLED, RANKED))
        self.classes, self.side, self.score_weight = classes, FEATURE_SIZE, SCORE_WEIGHT
        if self.released:
            prefix = blocks_prefix(heads)
            self.add_module(f"{prefix}input_bn", BatchNorm2d(features))
            for number in range(1, RESIDUAL_BLOCKS + 1):
                self.add_module(f"{prefix}res{number}", PreactBottleneck(features, features // 4))
        self._add_hidden("att_conv1", features, attention, 1)  # f_att, Sec. 3.2
        self._add_hidden("att_conv2", attention, attention, 3, padding=1)
        self.att_conv3 = nn.Conv2d(attention, classes, 1)
        if self.released:
            self._add_hidden("conf_conv1", features, heads.confidence_width, 1)
            self.conf_conv2 = nn.Conv2d(heads.confidence_width, classes, 1)
        else:
            self.conf_conv1 = nn.Conv2d(features, classes, 1)  # the paper's conv1
        self._add_hidden(heads.conv2, classes, width, 1)  # f_sr, Fig. 4
        self._add_hidden("sr_conv3", width, width, 1)
        groups = width if heads.regulariser_grouped else 1
        self._add_hidden("sr_conv4", width, width * heads.neurons_per_channel, heads.kernel, groups=groups)
        self.sr_fc = nn.Linear(width * heads.neurons_per_channel, classes)

    @classmethod
    def of(cls, architecture: Architecture) -> SRN:
        """The net of an architecture, with PyTorch's own random weights."""
        return cls(TRUNKS[architecture.trunk], architecture.classes, architecture.heads)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> SRN:
        """The net of a `.safetensors` or `.pth` file that tools/to_torch.py wrote, in evaluation mode.

        The card (`.json` of the same name) says which net it is; its labels become `class_names`. Nothing but tensors
        is read from the file.

        Raises:
            MissingError: the file or its card is not there.
            SrnError: the SHA-256 does not begin as the file's name ends, the card is damaged, or the two do not fit.
        """
        from pysrn.convert.torch_files import load_pretrained

        return load_pretrained(path)

    def with_preprocessing(self) -> nn.Sequential:
        """The same net (not a copy) behind `Preprocessing`: feed it RGB from 0 to 1, N x 3 x 224 x 224."""
        return nn.Sequential(Preprocessing(INPUT).to(self.trunk.conv1.weight), self)

    def forward(self, images: Tensor) -> SRNOutput:
        """N x 3 x 224 x 224 -> scores and maps."""
        features, top = self.trunk(images)
        score_cls = self.cls_fc(functional.avg_pool2d(top, 7).flatten(1))
        blocks = self.residual_blocks(features) if self.released else features
        att_map = self.attention(blocks)
        conf_map = self.confidence(blocks if self.shared else features)
        score_att = (conf_map * att_map).sum((2, 3))  # the raw confidence
        sr_map = self.weighted(att_map, conf_map)
        score_sr = self.regulariser(sr_map)
        score = self.score_weight * score_cls + (1 - self.score_weight) * score_sr
        return SRNOutput(score_cls, score_att, score_sr, score, att_map, conf_map, sr_map)

    def residual_blocks(self, features: Tensor) -> Tensor:
        """Features X -> what the two residual blocks of variant `released` make of them, same shape."""
        if self.shared:
            pair = features, functional.relu(self.att_conf_input_bn(features))
            pair = self.att_conf_res2(self.att_conf_res1(pair))
        else:
            pair = features, functional.relu(self.att_input_bn(features))
            pair = self.att_res2(self.att_res1(pair))
        return pair[1]

    def attention(self, features: Tensor) -> Tensor:
        """Features -> attention maps A: per label, a softmax over the 196 positions."""
        x = functional.relu(self.att_conv1_bn(self.att_conv1(features)))
        values = self.att_conv3(functional.relu(self.att_conv2_bn(self.att_conv2(x))))
        # The number of images alone is left open: ONNX then has one Reshape, which OpenCV reads with any number.
        flat = values.reshape(-1, self.classes, self.side * self.side)
        return functional.softmax(flat, dim=2).reshape(-1, self.classes, self.side, self.side)

    def confidence(self, features: Tensor) -> Tensor:
        """Features -> confidence maps S."""
        if self.released:
            return self.conf_conv2(functional.relu(self.conf_conv1_bn(self.conf_conv1(features))))
        else:  # TorchScript leaves out a branch, not what stands behind it
            return self.conf_conv1(features)

    def weighted(self, att_map: Tensor, conf_map: Tensor) -> Tensor:
        """Attention A and confidence S -> weighted attention maps U (Eq. 8)."""
        if self.plain:
            return 0.5 * att_map
        else:
            return torch.sigmoid(conf_map) * att_map

    def first_hidden(self, maps: Tensor) -> Tensor:
        """U -> the first hidden layer of f_sr, which is called after what it reads."""
        if self.plain:
            return functional.relu(self.sr_attention_conv2_bn(self.sr_attention_conv2(maps)))
        elif self.pooled:
            return functional.relu(self.sr_pooled_conv2_bn(self.sr_pooled_conv2(maps.sum((2, 3), keepdim=True))))
        elif self.ranked:
            return functional.relu(self.sr_ranked_conv2_bn(self.sr_ranked_conv2(by_strength(maps))))
        else:
            return functional.relu(self.sr_conv2_bn(self.sr_conv2(maps)))

    def regulariser(self, weighted: Tensor) -> Tensor:
        """Weighted attention maps U -> `score_sr`."""
        x = self.first_hidden(weighted)
        x = functional.relu(self.sr_conv3_bn(self.sr_conv3(x)))
        return self.sr_fc(functional.relu(self.sr_conv4_bn(self.sr_conv4(x))).flatten(1))

    def _add_hidden(self, name: str, inputs: int, outputs: int, kernel: int, **options) -> None:
        """A hidden convolution; in variant `released` with BN and therefore no bias."""
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, bias=not self.released, **options))
        self.add_module(f"{name}_bn", BatchNorm2d(outputs) if self.released else nn.Identity())


def by_strength(maps: Tensor) -> Tensor:
    """N x C x H x W with the places of each image in the order of their sums over the labels, the greatest first."""
    flat = maps.flatten(2)
    order = torch.sort(flat.sum(1, keepdim=True), dim=2, descending=True)[1]
    return flat.gather(2, order.expand(flat.shape)).reshape(maps.shape)
