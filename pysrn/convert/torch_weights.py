"""Weights from Caffe to PyTorch: every blob under PyTorch's name, nothing left over, nothing missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pysrn.convert.torch_model import SRN
from pysrn.evaluate.trained import Architecture, architecture_of
from pysrn.nets import layers
from pysrn.nets.caffemodel import read_weights
from pysrn.recipes import TRUNKS
from pysrn.train.surgery import plan_copy

Kinds = nn.Conv2d | nn.Linear | nn.BatchNorm2d


def empty_model(architecture: Architecture) -> SRN:
    """The PyTorch module of an architecture, in evaluation mode, with PyTorch's own random weights."""
    return SRN(TRUNKS[architecture.trunk], architecture.classes, architecture.heads).eval()


def load_model(caffemodel: str | Path) -> SRN:
    """The PyTorch module with the weights of a caffemodel (trained to the end of stage 4)."""
    weights = read_weights(caffemodel)
    model = empty_model(architecture_of(weights, caffemodel))
    model.load_state_dict(state_dict(model, weights, str(caffemodel)))
    return model


def state_dict(model: SRN, weights: Mapping[str, Sequence[np.ndarray]], source: str) -> dict[str, torch.Tensor]:
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
            mean, variance, factor = weights[bn]
            inverse = 0.0 if factor.item() == 0 else 1.0 / factor.item()
            values = {"running_mean": mean * inverse, "running_var": variance * inverse}
            values |= dict(zip(("weight", "bias"), weights[scale], strict=True))
            values["num_batches_tracked"] = np.array(0)
        else:
            values = dict(zip(("weight", "bias"), weights[layer_name(path)], strict=False))
        for name, array in values.items():
            shape = getattr(module, name).shape
            result[f"{path}.{name}"] = torch.from_numpy(np.array(array)).reshape(shape)
    return result


def caffe_shapes(model: SRN) -> dict[str, list[tuple[int, ...]]]:
    """Caffe layer name -> shapes of its blobs, for every layer that the module holds weights of."""
    shapes = {}
    for path, module in _weighted(model):
        if isinstance(module, nn.BatchNorm2d):
            channels = (module.num_features,)
            bn, scale = batch_norm_names(path)
            shapes[bn], shapes[scale] = [channels, channels, (1,)], [channels, channels]
        else:
            shapes[layer_name(path)] = [tuple(parameter.shape) for parameter in module.parameters()]
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


def _weighted(model: SRN) -> list[tuple[str, nn.Module]]:
    return [(path, part) for path, part in model.named_modules() if isinstance(part, Kinds)]
