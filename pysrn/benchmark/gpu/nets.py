"""Caffe nets for the checks on a GPU: training nets fed from memory, and nets of one layer cut out of them.

`layers.py` and `steps.py` build their nets with it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pysrn.benchmark.nets import fed_by_input, set_unit_statistics, whole_net
from pysrn.benchmark.usual import usual_recipe
from pysrn.nets import messages
from pysrn.nets.layers import add_layer
from pysrn.recipes import Recipe
from pysrn.systems.system import System


def recipe_of(system: System, trunk: str, batch_size: int, variant: str | None = None) -> Recipe:
    """The system's usual recipe with another trunk and batch; the images are random."""
    return replace(usual_recipe(system, variant, trunk), batch_size=batch_size)


def training_net(recipe: Recipe, stage: int, grouped_engine: str | None = None) -> messages.NetParameter:
    """A stage's net, its data layer replaced by inputs.

    `grouped_engine` (CAFFE, CUDNN) overrides the default of its grouped convolution.
    """
    message = whole_net(recipe, stage)
    shapes = ((3, recipe.input.size, recipe.input.size), (len(recipe.dataset.classes),))
    inputs = {name: (recipe.batch_size, *shape) for name, shape in zip(message.layer[0].top, shapes, strict=True)}
    found = fed_by_input(message, inputs)
    grouped = grouped_convolution(found)
    if grouped and grouped_engine:
        _set_engine(grouped, grouped_engine)
    return found


def grouped_convolution(message: messages.NetParameter) -> messages.LayerParameter | None:
    """The convolution of most groups, which libraries differ in; None where all have one."""
    grouped = [layer for layer in message.layer if layer.convolution_param.group > 1]
    return max(grouped, key=lambda layer: layer.convolution_param.group, default=None)


def fill_inputs(net, seed: int = 0) -> None:
    """Random images and labels, and statistics that keep the features finite."""
    random = np.random.default_rng(seed)
    images, labels = net.blobs["data"], net.blobs["label"]
    images.data[...] = random.normal(0, 60, images.data.shape)
    labels.data[...] = random.random(labels.data.shape) < 0.05
    set_unit_statistics(net)


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
        _set_engine(own, engine)
    for param in own.param:  # fixed ones, too, shall have gradients
        param.lr_mult = param.lr_mult or float(own.type != "BatchNorm")
    found.layer.append(own)
    return found


def _set_engine(layer: messages.LayerParameter, engine: str) -> None:
    parameters = layer.convolution_param
    parameters.engine = parameters.Engine.Value(engine)
