"""A net as an ONNX file, checked: the format by onnx itself, the outputs by onnxruntime against PyTorch.

An extra: `pip install pysrn[onnx]`. The file's input is `images` (N x 3 x S x S, as the PyTorch net eats them), its
outputs are the scores and maps by name; or it holds what the PyTorch net names (`torch_parts.OnnxNet`).
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
from pysrn.systems.torch_parts import OnnxNet

ANY = "images"  # what ONNX calls the axis that may have any length
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
        net = net_of(model, images)
        expected = net.module(*net.inputs.values())
    found = session.run(list(net.outputs), {name: value.numpy() for name, value in net.inputs.items()})
    return {
        name: difference(tensor.numpy(), array)
        for name, tensor, array in zip(net.outputs, expected, found, strict=True)
    }


@torch.inference_mode()
def net_of(model: nn.Module, images: np.ndarray) -> OnnxNet:
    """What of a system's net becomes the file: what the net says (`torch_parts.py`), or all of it."""
    read = torch.from_numpy(images)
    if hasattr(model, "for_onnx"):
        return model.for_onnx(read)
    outputs = model(read)._fields
    return OnnxNet(model, {"images": read}, outputs, dict.fromkeys(["images", *outputs], 0))


def signature(path: Path) -> dict[str, dict[str, list[int | str]]]:
    """Names and shapes of a file's inputs and outputs; a word is any number."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return {
        kind: {one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in ends}
        for kind, ends in (("inputs", graph.input), ("outputs", graph.output))
    }


def _write(model: nn.Module, path: Path, images: np.ndarray) -> None:
    net = net_of(model, images)
    with warnings.catch_warnings(), torch.no_grad():  # or every layer's output is kept while it is traced
        # The exporter by tracing is called deprecated; its successor wants a further package and gives the same net.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Of recurrent layers that begin with no state: here it is an input.
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size", UserWarning)
        torch.onnx.export(
            net.module,
            tuple(torch.zeros(value.shape, dtype=value.dtype) for value in net.inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(net.inputs),
            output_names=list(net.outputs),
            dynamic_axes={name: {axis: ANY} for name, axis in net.axes.items()},
        )
    onnx.checker.check_model(str(path), full_check=True)
