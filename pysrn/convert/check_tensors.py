"""Stored tensors: one image and what Caffe made of it, so that a machine without Caffe can verify a conversion.

tools/to_torch.py writes them beside the PyTorch weights, wherever Caffe is there to compute them (`*-check.npz`). They
belong to one caffemodel, named by its SHA-256, and to everything that is converted from it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pysrn.console import MissingError, SrnError
from pysrn.convert.layer_check import Difference, difference
from pysrn.predict.predictions import DAMAGE
from pysrn.whole_files import written_beside

ENDING = "-check.npz"


@dataclass(frozen=True)
class CheckTensors:
    """Images N x 3 x S x S as nets eat them, Caffe's outputs by name, SHA-256 of the caffemodel, their file."""

    images: np.ndarray
    outputs: Mapping[str, np.ndarray]
    source_sha256: str
    path: Path

    def compare(self, model: nn.Module) -> dict[str, Difference]:
        """Output name -> difference of `model` to what Caffe had; SrnError where the shapes are of another net."""
        with torch.inference_mode():
            found = model(torch.from_numpy(self.images))._asdict()
        for name, value in found.items():
            there = self.outputs[name].shape if name in self.outputs else "not"
            if there != tuple(value.shape):
                raise SrnError(f"{self.path} belongs to another net: {name} is {there} there")
        return {name: difference(self.outputs[name], value.numpy()) for name, value in found.items()}


def write_check(path: Path, images: np.ndarray, outputs: Mapping[str, np.ndarray], source_sha256: str) -> None:
    """Write images, all of Caffe's outputs for them (float32) and whose they are, whole or not at all."""
    with written_beside(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, images=images, source_sha256=np.array(source_sha256), **outputs)


def read_check(path: Path) -> CheckTensors:
    """Read what `write_check` wrote; SrnError where the file is damaged."""
    content = io.BytesIO(path.read_bytes())
    try:
        with np.load(content, allow_pickle=False) as stored:
            images, digest = stored["images"], str(stored["source_sha256"])
            outputs = {name: stored[name] for name in stored.files if name not in ("images", "source_sha256")}
    except DAMAGE as error:
        raise SrnError(f"{path} is damaged: {error}", "write it anew where Caffe is: tools/to_torch.py") from None
    square = images.ndim == 4 and images.shape[1] == 3 and images.shape[2] == images.shape[3]
    if not square or not outputs or any(array.dtype != np.float32 for array in (images, *outputs.values())):
        raise SrnError(f"{path} is damaged: not float32 outputs of square images")
    return CheckTensors(images, outputs, digest, path)


def find_check(folders: Iterable[Path], source_sha256: str) -> CheckTensors | None:
    """The stored tensors of a caffemodel in one of `folders`, or None."""
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.glob(f"*{ENDING}")):
            if (found := read_check(path)).source_sha256 == source_sha256:
                return found
    return None


def check_beside(weights: Path, source_sha256: str) -> CheckTensors:
    """The stored tensors beside a file of PyTorch weights; MissingError when there are none."""
    found = find_check([weights.parent], source_sha256)
    if found is None:
        raise MissingError(f"no stored tensors (*{ENDING}) of {weights.name} in {weights.parent}")
    return found
