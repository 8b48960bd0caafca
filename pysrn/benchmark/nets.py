"""What the benchmarks of training have in common: the recipe that fits given weights, nets fed from memory, solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pysrn.benchmark.usual import usual_recipe
from pysrn.console import UsageError
from pysrn.nets import in_caffe, messages
from pysrn.nets.fixed import LABEL
from pysrn.nets.folding import Weights
from pysrn.nets.layers import add_layer
from pysrn.nets.losses import loss_layers
from pysrn.nets.solvers import stage_solver
from pysrn.predict.trained import architecture_of
from pysrn.recipes import OWN, Recipe
from pysrn.systems.stage_nets import DataSource, stage_net

RATE = 1e-9  # of the solver: most weights change in every step, and the losses stay however many steps are timed
KNOWN_LOSS = "SigmoidCrossEntropyLoss"  # what PyTorch's side has


def recipe_of(weights: Weights, source: str | Path, dataset: str | None = None) -> Recipe:
    """The recipe of a data set with the trunk, the heads and the number of labels of the weights."""
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


def fed_by_input(message: messages.NetParameter, shapes: Mapping[str, Sequence[int]]) -> messages.NetParameter:
    """The net with Input layers of these shapes in place of its data layer (the first): fill them once."""
    found = messages.NetParameter(name=f"{message.name}_from_memory")
    for name, shape in shapes.items():
        add_layer(found, name, "Input", [], input_param={"shape": [{"dim": list(shape)}]})
    found.layer.extend(message.layer[1:])
    return found


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
