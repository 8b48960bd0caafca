"""What the benchmarks of training have in common: the recipe that fits given weights, and a net fed from memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pysrn.predict.trained import Weights, architecture_of
from pysrn.recipes import OWN_DATASET, RECIPES, Recipe

if TYPE_CHECKING:  # PyTorch's contestants share the rate and must not load Caffe
    from pysrn.nets import messages

RATE = 1e-9  # of the solver: most weights change in every step, and the losses stay however many steps are timed


def recipe_of(weights: Weights, source: str | Path) -> Recipe:
    """The recipe of the paper's data sets with the trunk, the heads and the number of labels of the weights."""
    found = architecture_of(weights, source)
    plan = RECIPES[OWN_DATASET]
    labels = tuple(f"label {number}" for number in range(found.classes))
    return replace(
        plan,
        dataset=replace(plan.dataset, labels=labels),
        trunk=found.trunk,
        heads=found.heads,
        variant=found.heads.variant,
    )


def fed_by_input(message: messages.NetParameter, shapes: Mapping[str, Sequence[int]]) -> messages.NetParameter:
    """The net with Input layers of these shapes in place of its data layer (the first): fill them once."""
    from pysrn.nets.layers import add_layer

    found = type(message)(name=f"{message.name}_from_memory")
    for name, shape in shapes.items():
        add_layer(found, name, "Input", [], input_param={"shape": [{"dim": list(shape)}]})
    found.layer.extend(message.layer[1:])
    return found


def set_unit_statistics(net) -> None:
    """Means of 0 and variances of 1 in every BatchNorm of a pycaffe net.

    With the zeros that Caffe begins with features blow up, and times of NaN mislead.
    """
    for layer in net.layers:
        if layer.type == "BatchNorm":
            mean, variance, factor = layer.blobs
            mean.data[...], variance.data[...], factor.data[...] = 0, 1, 1
