"""Weights between Caffe and PyTorch, both ways: every blob under its other name, nothing left over, nothing missing.

There and back gives the same bits (`BatchNorm2d.caffe_sums`). Caffe itself is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pysrn.console import SrnError
from pysrn.nets import layers
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.surgery import plan_copy
from pysrn.predict.trained import architecture_of
from pysrn.systems.system import Architecture
from pysrn.systems.torch_parts import LSTM_NAMES, Constant, lstm_blobs, lstm_values

Kinds = nn.Conv2d | nn.Linear | nn.Embedding | nn.LSTM | nn.BatchNorm2d | Constant


def empty_model(architecture: Architecture) -> nn.Module:
    """The PyTorch module of an architecture, in evaluation mode, with PyTorch's own random weights."""
    return architecture.system.torch_class().of(architecture).eval()


def load_model(caffemodel: str | Path) -> nn.Module:
    """The PyTorch module with the weights of a caffemodel (trained to the end of the last stage)."""
    weights = read_weights(caffemodel)
    return model_of(weights, architecture_of(weights, caffemodel), str(caffemodel))


def model_of(weights: Mapping[str, Sequence[np.ndarray]], architecture: Architecture, source: str) -> nn.Module:
    """The PyTorch module of an architecture with Caffe's weights; `source` names them in errors."""
    system = architecture.system
    with torch.device("meta"):  # no random weights are drawn only to be replaced
        model = empty_model(architecture)
    wanted, there = ({system.part_of(name).title for name in names} for names in (caffe_shapes(model), weights))
    if missing := [part.title for part in system.parts if part.title in wanted - there]:
        cure = f"train to the end: tools/run_stage.py {system.last_stage}"
        raise SrnError(f"{source} is of an earlier stage: no {' and no '.join(missing)} in it", cure)
    model.load_state_dict(state_dict(model, weights, source), assign=True)
    return model


def state_dict(model: nn.Module, weights: Mapping[str, Sequence[np.ndarray]], source: str) -> dict[str, Tensor]:
    """Caffe's weights under PyTorch's names.

    Caffe's BatchNorm stores sums: mean and variance are divided by its third blob, the scale factor (0 means
    never filled: Caffe then takes both as 0). Every layer of `weights` is used and every parameter of `model`
    is filled; else SrnError names what is left over, missing, or of another shape.
    """
    plan_copy(caffe_shapes(model), weights, source)
    result = {}
    for path, module in _weighted(model):
        if isinstance(module, nn.BatchNorm2d):
            bn, scale = batch_norm_names(path)
            values = dict(zip(("weight", "bias"), weights[scale], strict=True))
            sums = np.concatenate([blob.reshape(-1) for blob in weights[bn]])
            values["running_mean"], values["running_var"] = _statistics(sums)
            values["num_batches_tracked"] = np.array(0)
            values["caffe_sums"] = sums
        elif isinstance(module, nn.LSTM):
            values = lstm_values(weights[layer_name(path)])
        else:
            names = ("value",) if isinstance(module, Constant) else ("weight", "bias")
            values = dict(zip(names, weights[layer_name(path)], strict=False))
        for name, array in values.items():
            shape = getattr(module, name).shape
            # A copy: the array may be a view of a file's bytes, and training would write to it.
            result[f"{path}.{name}"] = torch.from_numpy(np.array(array)).reshape(shape)
    for name, value in model.named_parameters():
        if isinstance(value, nn.Parameter):
            result[name] = nn.Parameter(result[name])
    return result


def caffe_layers(values: Mapping[str, Tensor]) -> dict[str, tuple[str, list[np.ndarray]]]:
    """A state dict of a net or a trunk as Caffe's layers: name -> (type, blobs float32), for `write_weights`.

    The inverse of `state_dict`, to the bit. Batch statistics that no longer belong to `caffe_sums` (trained in
    PyTorch), or without it, are written as they are with the factor 1.
    """
    result = {}
    for path in dict.fromkeys(name.rpartition(".")[0] for name in values):
        part = {
            name: values[f"{path}.{name}"].detach().cpu().numpy()
            for name in ("weight", "bias", "running_mean", "running_var", "caffe_sums", "value", *LSTM_NAMES)
            if f"{path}.{name}" in values
        }
        parameters = [np.asarray(part[name], np.float32) for name in ("weight", "bias") if name in part]
        if "running_mean" in part:
            bn, scale = batch_norm_names(path)
            result[bn], result[scale] = ("BatchNorm", _sums(part)), ("Scale", parameters)
        elif LSTM_NAMES[0] in part:
            result[layer_name(path)] = ("LSTM", lstm_blobs(part))
        elif "value" in part:
            result[layer_name(path)] = ("Parameter", [np.asarray(part["value"], np.float32)])
        else:
            kind = "InnerProduct" if part["weight"].ndim == 2 else "Convolution"
            result[layer_name(path)] = (kind, parameters)
    return result


def check_finite(values: Mapping[str, Tensor], source: str) -> None:
    """Raise SrnError naming the first tensor of a state dict with NaN or infinity: no comparison would tell."""
    for name, value in values.items():
        if not name.endswith("caffe_sums") and not torch.isfinite(value).all():
            raise SrnError(f"{source}: {name} holds NaN or infinity")


def caffe_shapes(model: nn.Module) -> dict[str, list[tuple[int, ...]]]:
    """Caffe layer name -> shapes of its blobs, for every layer that the module holds weights of."""
    shapes = {}
    for path, module in _weighted(model):
        if isinstance(module, nn.BatchNorm2d):
            channels = (module.num_features,)
            bn, scale = batch_norm_names(path)
            shapes[bn], shapes[scale] = [channels, channels, (1,)], [channels, channels]
        elif isinstance(module, nn.LSTM):
            gates = 4 * module.hidden_size
            shapes[layer_name(path)] = [(gates, module.input_size), (gates,), (gates, module.hidden_size)]
        else:
            parts = module.buffers() if isinstance(module, Constant) else module.parameters()
            shapes[layer_name(path)] = [tuple(part.shape) for part in parts]
    return shapes


def layer_name(path: str) -> str:
    """`trunk.res4.res4b1.branch2a` -> `res4b1_branch2a`; `trunk.conv1` -> `conv1`; `cls_fc` stays."""
    return "_".join(path.split(".")[-2:]).removeprefix("trunk_")


def batch_norm_names(path: str) -> tuple[str, str]:
    """Caffe's BatchNorm and Scale layers of a BatchNorm2d, which is called after what it normalises.

    `trunk.res4.res4b1.bn_branch2a` -> (`bn4b1_branch2a`, `scale4b1_branch2a`), `trunk.res4.res4b1.bn` -> (`bn4b1`,
    `scale4b1`), `att_conv1_bn` -> (`att_conv1_bn`, `att_conv1_scale`).
    """
    return layers.batch_norm_names("_".join(part for part in layer_name(path).split("_") if part != "bn"))


def _weighted(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(path, part) for path, part in model.named_modules() if isinstance(part, Kinds)]


def _statistics(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (float32) of Caffe's three blobs end to end."""
    factor = float(sums[-1])
    values = sums[:-1] * np.float32(0.0 if factor == 0 else 1.0 / factor)
    return tuple(np.split(values, 2))


def _sums(part: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Caffe's three blobs of a BatchNorm2d: those that it came with, if its statistics are still theirs."""
    running = np.concatenate([part["running_mean"], part["running_var"]]).astype(np.float32)
    sums = part.get("caffe_sums")
    if sums is None or not np.any(sums) or not np.array_equal(np.concatenate(_statistics(sums)), running):
        sums = np.append(running, np.float32(1))
    channels = len(running) // 2
    return [sums[:channels], sums[channels:-1], sums[-1:]]
