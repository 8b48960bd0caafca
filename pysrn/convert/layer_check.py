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
from pysrn.systems.trunks.torch_resnet import Bottleneck, PreactBottleneck

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


@torch.inference_mode()
def compare(message, blobs: Mapping[str, np.ndarray], model: nn.Module, images: np.ndarray) -> dict[str, Difference]:
    """Blob name -> difference, in the net's order; each is compared as soon as PyTorch has it, and not kept.

    Left out are the blobs that are a mere step (reshaped, sigmoid, product) between two that are here.

    Args:
        message: the net (a NetParameter) that Caffe has run on `images`.
        blobs: values of its blobs, after that run, and of what else it gives, by name.
        model: the PyTorch module.
        images: N x 3 x S x S.
    """
    modules = {}  # Caffe's layer -> the part of the net whose output is its
    for path, module in model.named_modules():
        name = torch_weights.layer_name(path)
        if isinstance(module, nn.BatchNorm2d):
            name = torch_weights.batch_norm_names(path)[1]
        elif isinstance(module, Bottleneck | PreactBottleneck):
            name = path.rpartition(".")[2]
        modules[name] = module
    # A blob is what the last layer that writes it leaves, then rectified, in place.
    written = {layer.top[0]: layer.name for layer in message.layer if layer.name in modules}
    rectified = {layer.top[0] for layer in message.layer if layer.type == "ReLU"}
    found: dict[str, Difference] = {}

    def look(blob: str, _module: nn.Module, _inputs: tuple, output: Tensor | tuple[Tensor, Tensor]) -> None:
        if blob in found:  # a search goes on with parts of the net
            return
        # Of a pre-activation block the sum; its activation is that of the BN behind it.
        value = output[0] if isinstance(output, tuple) else output
        found[blob] = difference(blobs[blob], (value.relu() if blob in rectified else value).numpy())

    hooks = [modules[name].register_forward_hook(partial(look, blob)) for blob, name in written.items()]
    try:
        outputs = model(torch.from_numpy(np.asarray(images, np.float32)))._asdict()
    finally:
        for hook in hooks:
            hook.remove()
    found |= {name: difference(blobs[name], value.numpy()) for name, value in outputs.items()}
    return {name: found[name] for name in (*written, *outputs) if name in found}
