"""What the PyTorch nets of all systems are made of.

A system's net (`System.torch_model`) has a classmethod `of(architecture)` and gives back a named tuple of its scores
and maps, in the system's order. Its modules carry the names of Caffe's layers, which `convert/torch_weights.py` maps by
rule.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pysrn.recipes import Input

BN_EPSILON = 1e-5  # Caffe's default, BatchNormParameter.eps


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


class Constant(nn.Module):
    """Numbers that no training changes: a `Parameter` layer of Caffe's with rate 0; called, it gives them."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(shape))

    def forward(self) -> Tensor:
        """The numbers."""
        return self.value


class Preprocessing(nn.Module):
    """RGB from 0 to 1 (N x 3 x S x S) -> what a net eats: BGR, 0 to 255, minus the mean, scaled. Resizes nothing."""

    def __init__(self, eaten: Input) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(eaten.mean).reshape(1, 3, 1, 1), persistent=False)
        self.scale = eaten.scale

    def forward(self, images: Tensor) -> Tensor:
        """N x 3 x S x S -> the same shape."""
        shifted = images.flip(1) * 255 - self.mean
        return shifted if self.scale == 1 else shifted * self.scale
