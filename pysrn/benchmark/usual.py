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
    system: System,
    variant: str | None = None,
    trunk: str | None = None,
    batch_size: int | None = None,
    dataset: str | None = None,
) -> Recipe:
    """The recipe of a data set (the system's first); variant, trunk and batch size are others where they are named."""
    recipe = system.recipe(dataset or next(iter(system.recipes)), variant)
    recipe = system.settle(replace(recipe, trunk=trunk)) if trunk else recipe
    return replace(recipe, batch_size=batch_size or recipe.batch_size)


def own_module(system: System) -> ModuleType | None:
    """What a system knows of its benchmarks; None where it has no such module.

    `SPREAD`: layer -> the standard deviation that random weights give its output. `stage_scores(model, stage)`, where
    the model itself would compute more: a `nn.Module` that takes images to the scores of a stage's losses by name.
    `searched(weights, images)`, where the system searches: what the search of so many images reads; changes random
    weights.
    `further_losses(model)`, where it has them: what a stage minimises beside the losses of its scores.
    """
    return system.module(MODULE, "benchmarks of its own") if MODULE in system.modules else None
