"""What the PyTorch nets of all systems are made of.

A system's net (`System.torch_model`) has a classmethod `of(architecture)` and gives back a named tuple of its scores
and maps, in the system's order. Its modules carry the names of Caffe's layers, which `convert/torch_weights.py` maps by
rule. It may have `for_onnx(images)`, which gives an `OnnxNet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pysrn.recipes import Input

LSTM_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
BN_EPSILON = 1e-5  # Caffe's default, BatchNormParameter.eps


@dataclass(frozen=True, eq=False)
class OnnxNet:
    """The net that an ONNX file holds: `module`, called with `inputs` in order, gives `outputs` in order.

    `inputs`: by name, with values that it is compared on. `axes`: of inputs and outputs the axis along which there may
    be any number (of images, of paths).
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    axes: Mapping[str, int]


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


def lstm_values(blobs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters of an `nn.LSTM` from the blobs of Caffe's LSTM layer (of the input, bias, of the state).

    Gates are i, f, o, g in Caffe and i, f, g, o in PyTorch, which has a second bias: it becomes 0.
    """
    of_input, bias, of_state = (_gates(np.asarray(blob, np.float32)) for blob in blobs)
    values = (of_input, of_state, bias.reshape(-1), np.zeros(bias.size, np.float32))
    return dict(zip(LSTM_NAMES, values, strict=True))


def lstm_blobs(values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The inverse of `lstm_values`; the two biases are added up."""
    of_input, of_state, one, other = (values[name] for name in LSTM_NAMES)
    return [_gates(np.asarray(part, np.float32)) for part in (of_input, one + other, of_state)]


def _gates(blob: np.ndarray) -> np.ndarray:
    """The last two of the four gates exchanged."""
    i, f, third, fourth = np.split(blob, 4)
    return np.concatenate([i, f, fourth, third])


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
