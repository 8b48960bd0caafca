"""What the benchmarks have in common: the recipe that fits given weights, nets fed from memory, solvers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pysrn.benchmark.usual import usual_recipe
from pysrn.console import UsageError
from pysrn.later import later
from pysrn.nets import in_caffe, messages
from pysrn.nets.fixed import LABEL
from pysrn.nets.folding import Weights
from pysrn.nets.layers import add_input
from pysrn.nets.losses import loss_layers
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import OWN, Recipe
from pysrn.systems.stage_nets import DataSource, stage_net
from pysrn.train.fixed.settings import fed_by_input

np = later("numpy")

RATE = 1e-9  # of the solver: most weights change in every step, and the losses stay however many steps are timed
KNOWN_LOSS = "SigmoidCrossEntropyLoss"  # what PyTorch's side has


def recipe_of(weights: Weights, source: str | Path, dataset: str | None = None) -> Recipe:
    """The recipe of a data set with the trunk, the heads and the number of labels of the weights."""
    from pysrn.predict.trained import architecture_of  # reads images, which a lean bundle cannot

    found = architecture_of(weights, source)
    labels = tuple(f"label {number}" for number in range(found.classes))
    usual = usual_recipe(found.system, dataset=dataset)
    return replace(usual, dataset=replace(OWN, labels=labels), trunk=found.trunk, heads=found.heads)


def whole_net(recipe: Recipe, stage: int) -> messages.NetParameter:
    """A stage's net as it is trained; its data layer (the first) is not meant to be run."""
    return stage_net(recipe, stage, DataSource("", workers=0))


def losses_of(net: messages.NetParameter) -> tuple[tuple[str, str], ...]:
    """Names of a training net's losses, each with the score that it is of.

    Raises UsageError for a loss that PyTorch's side does not know.
    """
    found = loss_layers(net)
    for layer in found:
        if layer.type != KNOWN_LOSS or layer.bottom[1] != LABEL:
            raise UsageError(f"{net.name}: nobody to compare with: {layer.name} is a {layer.type} on {layer.bottom[1]}")
    return tuple((layer.top[0], layer.bottom[0]) for layer in found)


def make_solver(message: messages.NetParameter, recipe: Recipe, stage: int, rate: float):
    """Caffe's solver of a stage on a net, with another rate.

    With a rate of 0 a step costs the same, and random weights stay finite.
    """
    description = stage_solver(recipe, stage, "", "")
    description.ClearField("net")
    description.net_param.CopyFrom(message)
    description.base_lr, description.display, description.snapshot_after_train = rate, 0, False
    return in_caffe.make_solver(description)


def set_unit_statistics(net) -> None:
    """Means of 0 and variances of 1 in every BatchNorm of a pycaffe net.

    With the zeros that Caffe begins with features blow up, and times of NaN mislead.
    """
    for layer in net.layers:
        if layer.type == "BatchNorm":
            mean, variance, factor = layer.blobs
            mean.data[...], variance.data[...], factor.data[...] = 0, 1, 1


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


def fill_inputs(net, rank: int = 0, ranks: int = 1) -> None:
    """Random images and labels, and statistics that keep the features finite.

    With several ranks a rank's part of a batch that is `ranks` times as large.
    """
    random = np.random.default_rng(0)
    images, labels = net.blobs["data"], net.blobs["label"]
    own = slice(rank * images.shape[0], (rank + 1) * images.shape[0])
    whole = (ranks * images.shape[0], *images.shape[1:]), (ranks * labels.shape[0], *labels.shape[1:])
    images.data[...] = random.normal(0, 60, whole[0])[own]
    labels.data[...] = random.random(whole[1])[own] < 0.05
    set_unit_statistics(net)


def one_layer_net(
    layer: messages.LayerParameter, shapes: list[tuple[int, ...]], engine: str | None = None
) -> messages.NetParameter:
    """Inputs of the given shapes and the layer, not in place, with gradients for all that it reads."""
    found = messages.NetParameter(name=layer.name, force_backward=True)
    own = messages.copy_of(layer)
    own.top[:] = [f"top{number}" for number in range(len(layer.top))]
    own.bottom[:] = [f"bottom{number}" for number in range(len(layer.bottom))]
    for name, shape in zip(own.bottom, shapes, strict=True):
        add_input(found, name, shape)
    if engine:
        _set_engine(own, engine)
    for param in own.param:  # fixed ones, too, shall have gradients
        param.lr_mult = param.lr_mult or float(own.type != "BatchNorm")
    found.layer.append(own)
    return found


def _set_engine(layer: messages.LayerParameter, engine: str) -> None:
    parameters = layer.convolution_param
    parameters.engine = parameters.Engine.Value(engine)
