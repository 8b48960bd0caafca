"""Caffe and PyTorch compared layer by layer: every blob that both nets compute, on the same images.

Part of the verification in `torch_export.py`; needs Caffe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pysrn.convert import torch_weights
from pysrn.convert.torch_model import SRN, Bottleneck, PreactBottleneck

TOLERANCE = 1e-4  # of every blob in float32; ours


@dataclass(frozen=True)
class Difference:
    """Of one blob: the greatest difference between Caffe and PyTorch, the greatest value in Caffe.

    `allowance` is what the net itself makes of rounding, where that is known and may be more than the tolerance.
    """

    absolute: float
    greatest: float
    allowance: float = 0.0

    @property
    def relative(self) -> float:
        """The difference as a part of the greatest value."""
        return self.absolute / self.greatest if self.greatest else self.absolute

    @property
    def excess(self) -> float:
        """The difference in units of the tolerance, which grows with values above 1: float32 has only seven digits."""
        return self.absolute / max(TOLERANCE * max(1.0, self.greatest), self.allowance)

    @property
    def ok(self) -> bool:
        """Within the tolerance."""
        return self.excess <= 1


def difference(expected: np.ndarray, found: np.ndarray) -> Difference:
    """Compare two arrays of the same numbers, whatever their shapes; NaN anywhere gives NaN, which is never ok."""
    expected, found = expected.reshape(-1), found.reshape(-1)
    return Difference(float(np.abs(expected - found).max()), float(np.abs(expected).max()))


def compare(message, blobs: Mapping, model: SRN, images: np.ndarray) -> dict[str, Difference]:
    """Blob name -> difference, in the net's order.

    Args:
        message: the net (a NetParameter) that Caffe has run on `images`.
        blobs: its blobs by name, after that run.
        model: the PyTorch module.
        images: N x 3 x 224 x 224.
    """
    return {
        name: difference(blobs[name].data, value.numpy()) for name, value in torch_blobs(message, model, images).items()
    }


@torch.inference_mode()
def torch_blobs(message, model: SRN, images: np.ndarray) -> dict[str, Tensor]:
    """What PyTorch has for the blobs of a Caffe net: blob name -> tensor, in the net's order.

    Left out are the blobs that are a mere step (reshaped, sigmoid, product) between two that are here.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, _module: nn.Module, _inputs: tuple, output: Tensor | tuple[Tensor, Tensor]) -> None:
        # Of a pre-activation block the sum; its activation is that of the BN behind it.
        outputs[name] = output[0] if isinstance(output, tuple) else output

    hooks = [
        module.register_forward_hook(partial(keep, _caffe_name(path, module)))
        for path, module in model.named_modules()
        if path
    ]
    try:
        outputs.update(model(torch.from_numpy(np.asarray(images, np.float32)))._asdict())
    finally:
        for hook in hooks:
            hook.remove()
    blobs: dict[str, Tensor] = {}
    for layer in message.layer:
        top = layer.top[0]
        if layer.type == "ReLU":  # in place; of a block's sum for the second time, which changes nothing
            blobs[top] = blobs[top].relu()
        elif layer.name in outputs:
            blobs[top] = outputs.pop(layer.name)  # what a ReLU replaces is not kept
    return blobs


def _caffe_name(path: str, module: nn.Module) -> str:
    """Caffe's layer whose output is that of a part of the net."""
    if isinstance(module, nn.BatchNorm2d):
        return torch_weights.batch_norm_names(path)[1]
    if isinstance(module, Bottleneck | PreactBottleneck):
        return path.rpartition(".")[2]
    return torch_weights.layer_name(path)
