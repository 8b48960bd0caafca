"""Caffe nets for the checks on a GPU: training nets fed from memory, and nets of one layer cut out of them.

`gpu_layers.py` and `gpu_steps.py` build their nets with it.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import caffe
import numpy as np

from pysrn.benchmark.nets import fed_by_input, set_unit_statistics
from pysrn.nets import messages
from pysrn.nets.layers import add_layer
from pysrn.nets.prototxt import write_message
from pysrn.recipes import CROP_SIZE, RECIPES, Recipe
from pysrn.systems.srn.nets import DataSource, stage_net

CONV4 = "sr_conv4"  # the grouped convolution of f_sr
DATASET = "coco"  # 80 labels; the images are random


def recipe_of(trunk: str, batch_size: int, variant: str = "paper") -> Recipe:
    """MS-COCO's recipe with another trunk and batch."""
    return dataclasses.replace(RECIPES[DATASET], trunk=trunk, batch_size=batch_size, variant=variant)


def training_net(recipe: Recipe, stage: int, conv4_engine: str | None = None) -> messages.NetParameter:
    """A stage's net, its data layer replaced by inputs; `conv4_engine` (CAFFE, CUDNN) overrides the default."""
    message = stage_net(recipe, stage, DataSource(""))
    shapes = ((3, CROP_SIZE, CROP_SIZE), (len(recipe.dataset.classes),))
    inputs = {name: (recipe.batch_size, *shape) for name, shape in zip(message.layer[0].top, shapes, strict=True)}
    found = fed_by_input(message, inputs)
    for layer in found.layer:
        if layer.name == CONV4 and conv4_engine:
            layer.convolution_param.engine = messages.ConvolutionParameter.Engine.Value(conv4_engine)
    return found


def fill_inputs(net, seed: int = 0) -> None:
    """Random images and labels, and statistics that keep the features finite."""
    random = np.random.default_rng(seed)
    images, labels = net.blobs["data"], net.blobs["label"]
    images.data[...] = random.normal(0, 60, images.data.shape)
    labels.data[...] = random.random(labels.data.shape) < 0.05
    set_unit_statistics(net)


def make_net(message: messages.NetParameter):
    """A pycaffe net in phase TRAIN."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        write_message(message, path)
        return caffe.Net(str(path), caffe.TRAIN)


def one_layer_net(
    layer: messages.LayerParameter, shapes: list[tuple[int, ...]], engine: str | None = None
) -> messages.NetParameter:
    """Inputs of the given shapes and the layer, not in place, with gradients for all that it reads."""
    found = messages.NetParameter(name=layer.name, force_backward=True)
    own = messages.LayerParameter()
    own.CopyFrom(layer)
    own.top[:] = [f"top{number}" for number in range(len(layer.top))]
    own.bottom[:] = [f"bottom{number}" for number in range(len(layer.bottom))]
    for name, shape in zip(own.bottom, shapes, strict=True):
        add_layer(found, name, "Input", [], input_param={"shape": [{"dim": list(shape)}]})
    if engine:
        own.convolution_param.engine = messages.ConvolutionParameter.Engine.Value(engine)
    for param in own.param:  # fixed ones, too, shall have gradients
        param.lr_mult = param.lr_mult or float(own.type != "BatchNorm")
    found.layer.append(own)
    return found
