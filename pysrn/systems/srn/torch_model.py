"""SRN as a plain PyTorch module, the same net as `pysrn/nets` makes for Caffe, in both variants.

Parameters carry the names of Caffe's layers, so that `torch_weights.py` maps them by rule: `res4b1_branch2a`
is `trunk.res4.res4b1.branch2a`, the pair `bn4b1_branch2a` and `scale4b1_branch2a` is
`trunk.res4.res4b1.bn_branch2a`; in variant `released` `bn4b1` and `scale4b1` are `trunk.res4.res4b1.bn`, and
`att_conv1_bn` and `att_conv1_scale` are `att_conv1_bn`.

`torch.jit.trace` and `torch.export.export` take the module as it is (not `torch.jit.script`: parts are looked up by
name). `Preprocessing` in front of it lets users feed RGB pictures from 0 to 1.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree

from pysrn.recipes import FEATURE_SIZE, MEAN_BGR, SCORE_WEIGHT, HeadSpec, TrunkSpec
from pysrn.systems.srn.heads import RESIDUAL_BLOCKS, blocks_prefix
from pysrn.systems.trunks.resnet import FEATURE_STAGE, STAGES, block_names

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


# Else `torch.export.save` refuses a net that returns it. PyTorch has no public function for this.
_pytree._register_namedtuple(SRNOutput, serialized_type_name="pysrn.convert.torch_model.SRNOutput")


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's own, and Caffe's three blobs as they were, so that a way there and back changes no bit.

    Caffe stores mean and variance times a factor, and the factor; what is divided cannot always be multiplied back.
    `caffe_sums` (2 * channels + 1 numbers) holds the three end to end; zeros where there are none. It is not computed
    with, and disregarded once the running statistics are no longer those that it gives.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, BN_EPSILON)
        self.register_buffer("caffe_sums", torch.zeros(2 * channels + 1))

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        """Take state dicts without `caffe_sums`, too."""
        state_dict.setdefault(f"{prefix}caffe_sums", torch.zeros_like(self.caffe_sums))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Preprocessing(nn.Module):
    """RGB from 0 to 1 (N x 3 x 224 x 224) -> what `SRN` eats: BGR, 0 to 255, minus the mean. Resizes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """N x 3 x 224 x 224 -> the same shape."""
        return images.flip(1) * 255 - self.mean


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


class Trunk(nn.Module):
    """The residual trunk: N x 3 x 224 x 224 -> X (N x 16w x 14 x 14) and its top (N x 32w x 7 x 7)."""

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        self.preact = spec.preact
        self.conv1 = nn.Conv2d(3, spec.width, 7, 2, 3, bias=spec.conv1_bias)
        self.add_module("bn_pool1" if spec.preact else "bn_conv1", BatchNorm2d(spec.width))
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
            self.add_module(f"res{stage}", nn.Sequential(blocks))
            if stage == FEATURE_STAGE:
                self.feature_channels = inputs
        self.channels = inputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> (X, top)."""
        x = self.conv1(x)
        if not self.preact:
            x = functional.relu(self.bn_conv1(x))
        x = self.pool1(x)
        if self.preact:
            features = self.res4(self.res3(self.res2((x, functional.relu(self.bn_pool1(x))))))
            return features[1], self.res5(features)[1]
        features = self.res4(self.res3(self.res2(x)))
        return features, self.res5(features)


class SRN(nn.Module):
    """The whole net for 224 x 224 images: BGR, 0 to 255, minus the mean (104, 117, 123).

    Args:
        trunk: one of `pysrn.recipes.TRUNKS`.
        classes: number of labels C.
        heads: structure and widths of the attention and regularisation heads.

    `class_names` are the labels in the order of the scores, where they are known (`from_pretrained`).

    Training: in evaluation mode gradients are those of Caffe's stages with stored BN statistics, which do not move;
    `train()` lets them follow the batch, as in any PyTorch net. Half precision: `torch.autocast` or `bfloat16()`; with
    `half()` a variance of inputs up to 255 may go beyond 65,504, and the scores are wrong without a word.
    """

    def __init__(self, trunk: TrunkSpec, classes: int, heads: HeadSpec | None = None) -> None:
        super().__init__()
        heads = heads or HeadSpec()
        self.class_names: tuple[str, ...] = ()
        self.trunk = Trunk(trunk)
        self.cls_fc = nn.Linear(self.trunk.channels, classes)
        features, attention, width = (
            self.trunk.feature_channels,
            heads.attention_width,
            heads.regulariser_width,
        )
        self.heads, self.released = heads, heads.variant == "released"
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
        self._add_hidden("sr_conv2", classes, width, 1)  # f_sr, Fig. 4
        self._add_hidden("sr_conv3", width, width, 1)
        self._add_hidden("sr_conv4", width, width * heads.neurons_per_channel, FEATURE_SIZE, groups=width)
        self.sr_fc = nn.Linear(width * heads.neurons_per_channel, classes)

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
        return nn.Sequential(Preprocessing().to(self.trunk.conv1.weight), self)

    def forward(self, images: Tensor) -> SRNOutput:
        """N x 3 x 224 x 224 -> scores and maps."""
        features, top = self.trunk(images)
        score_cls = self.cls_fc(functional.avg_pool2d(top, 7).flatten(1))
        blocks = self.residual_blocks(features) if self.released else features
        att_map = self.attention(blocks)
        conf_map = self.confidence(blocks if self.heads.confidence_sees_blocks else features)
        score_att = (conf_map * att_map).sum((2, 3))  # the raw confidence
        sr_map = torch.sigmoid(conf_map) * att_map  # Eq. 8
        score_sr = self.regulariser(sr_map)
        score = SCORE_WEIGHT * score_cls + (1 - SCORE_WEIGHT) * score_sr
        return SRNOutput(score_cls, score_att, score_sr, score, att_map, conf_map, sr_map)

    def residual_blocks(self, features: Tensor) -> Tensor:
        """Features X -> what the two residual blocks of variant `released` make of them, same shape."""
        prefix = blocks_prefix(self.heads)
        pair = features, functional.relu(getattr(self, f"{prefix}input_bn")(features))
        for number in range(1, RESIDUAL_BLOCKS + 1):
            pair = getattr(self, f"{prefix}res{number}")(pair)
        return pair[1]

    def attention(self, features: Tensor) -> Tensor:
        """Features -> attention maps A: per label, a softmax over the 196 positions."""
        values = self.att_conv3(self._hidden("att_conv2", self._hidden("att_conv1", features)))
        return functional.softmax(values.flatten(2), dim=2).view_as(values)

    def confidence(self, features: Tensor) -> Tensor:
        """Features -> confidence maps S."""
        return self.conf_conv2(self._hidden("conf_conv1", features)) if self.released else self.conf_conv1(features)

    def regulariser(self, weighted: Tensor) -> Tensor:
        """Weighted attention maps U -> `score_sr`."""
        x = self._hidden("sr_conv3", self._hidden("sr_conv2", weighted))
        return self.sr_fc(self._hidden("sr_conv4", x).flatten(1))

    def _add_hidden(self, name: str, inputs: int, outputs: int, kernel: int, **options) -> None:
        """A hidden convolution; in variant `released` with BN and therefore no bias."""
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, bias=not self.released, **options))
        if self.released:
            self.add_module(f"{name}_bn", BatchNorm2d(outputs))

    def _hidden(self, name: str, x: Tensor) -> Tensor:
        x = getattr(self, name)(x)
        return functional.relu(getattr(self, f"{name}_bn")(x) if self.released else x)
