"""The toy as a PyTorch module."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from pysrn.systems.system import Architecture
from pysrn.systems.torch_parts import Preprocessing
from tests.systems.toy import INPUT, KERNEL, STRIDE, TRUNKS


class ToyOutput(NamedTuple):
    """The score, N x C logits."""

    verdict: Tensor


class ToyNet(nn.Module):
    """The whole net for 64 x 64 images."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.class_names: tuple[str, ...] = ()
        self.sieve = nn.Conv2d(3, channels, KERNEL, STRIDE)
        self.tell_fc = nn.Linear(channels, classes)

    @classmethod
    def of(cls, architecture: Architecture) -> ToyNet:
        """The net of an architecture."""
        return cls(TRUNKS[architecture.trunk].channels, architecture.classes)

    def with_preprocessing(self) -> nn.Sequential:
        """The same net behind `Preprocessing`."""
        return nn.Sequential(Preprocessing(INPUT), self)

    def forward(self, images: Tensor) -> ToyOutput:
        """N x 3 x 64 x 64 -> the score."""
        return ToyOutput(self.tell_fc(self.sieve(images).relu().mean((2, 3))))
