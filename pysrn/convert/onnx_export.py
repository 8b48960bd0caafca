"""A net as an ONNX file, checked: the format by onnx itself, the outputs by onnxruntime against PyTorch.

An extra: `pip install pysrn[onnx]`. The file's input is `images` (N x 3 x S x S, as the PyTorch net eats them), its
outputs are the scores and maps by name.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from pysrn.console import ToleranceError
from pysrn.convert.layer_check import Difference, difference
from pysrn.convert.torch_files import write_named

OPSET = 17  # of 2022: what it lacks this net does not need


def export_onnx(model: nn.Module, out: Path, images: np.ndarray) -> tuple[Path, dict[str, Difference]]:
    """Write `<stem of out>-<SHA-256>.onnx`, compared on N x 3 x S x S images, N of at least 2.

    Returns its path and output name -> difference; ToleranceError, and no file, where one is out of tolerance.
    """
    differences: dict[str, Difference] = {}

    def write(path: Path) -> None:
        _write(model, path, images[:2])
        differences.update(compare(path, model, images))
        bad = [name for name, found in differences.items() if not found.ok]
        if bad:
            raise ToleranceError(f"onnxruntime differs from PyTorch by more than the tolerance: {', '.join(bad)}")

    return write_named(out, ".onnx", write), differences


def compare(path: Path, model: nn.Module, images: np.ndarray) -> dict[str, Difference]:
    """Output name -> difference between PyTorch and onnxruntime on N x 3 x S x S images."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = model(torch.from_numpy(images))
    found = session.run(list(expected._fields), {"images": images})
    return {
        name: difference(tensor.numpy(), array)
        for name, tensor, array in zip(expected._fields, expected, found, strict=True)
    }


def _write(model: nn.Module, path: Path, images: np.ndarray) -> None:
    with torch.inference_mode():
        names = ["images", *model(torch.from_numpy(images))._fields]
    with warnings.catch_warnings(), torch.no_grad():  # or every layer's output is kept while it is traced
        # The exporter by tracing is called deprecated; its successor wants a further package and gives the same net.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(images.shape),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "images"} for name in names},
        )
    onnx.checker.check_model(str(path), full_check=True)
