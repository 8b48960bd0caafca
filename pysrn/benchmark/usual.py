"""Which recipe a benchmark takes of a system, and what the system itself tells of its benchmarks.

Imports little: `gpu/torch_steps.py` runs in a Python of the user's, which may have PyTorch and not much else.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from pysrn.recipes import Recipe
from pysrn.systems.system import System

MODULE = "benchmark"  # in `System.modules`


def usual_recipe(
    system: System, variant: str | None = None, trunk: str | None = None, dataset: str | None = None
) -> Recipe:
    """The recipe of a data set (the system's first), in a variant and with a trunk other than its own where named."""
    recipe = system.recipe(dataset or next(iter(system.recipes)), variant)
    return system.settle(replace(recipe, trunk=trunk)) if trunk else recipe


def own_module(system: System) -> ModuleType | None:
    """What a system knows of its benchmarks; None where it has no such module.

    `SPREAD`: layer -> the standard deviation that random weights give its output. `stage_scores(model, stage)`, where
    the model itself would compute more: a `nn.Module` that takes images to the scores of a stage's losses by name.
    `further_losses(model)`, where it has them: what a stage minimises beside the losses of its scores.
    """
    return system.module(MODULE, "benchmarks of its own") if MODULE in system.modules else None
