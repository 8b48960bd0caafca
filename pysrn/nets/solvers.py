"""The solver of each stage as a SolverParameter message, from the recipe's numbers."""

from __future__ import annotations

from pysrn.nets import messages
from pysrn.recipes import PLATEAU, Recipe


def stage_solver(recipe: Recipe, stage: int, net_path: str, snapshot_prefix: str) -> messages.SolverParameter:
    """The system's kind of solver for a stage, with as many iterations as the recipe's epochs make.

    Schedule `multistep` is Caffe's own. `plateau` needs a validation loss, which Caffe's policies do not see: the rate
    is fixed here and the training process lowers it.
    """
    plan, iterations = recipe.stages[stage - 1], recipe.iterations(stage)
    steps = [round(fraction * iterations) for fraction in plan.drops]
    policy = {"lr_policy": "multistep", "gamma": plan.gamma, "stepvalue": steps}
    if plan.schedule == PLATEAU:
        policy = {"lr_policy": "fixed"}
    numbers = {
        "net": net_path,
        "base_lr": plan.base_lr,
        **policy,
        "max_iter": iterations,
        "iter_size": recipe.iter_size,
        "momentum": recipe.momentum,
        "weight_decay": recipe.weight_decay,
        "random_seed": recipe.seed + 1,  # Caffe takes 0 or more; one apart from the sample order's seed
        "display": 20,
        "snapshot_prefix": snapshot_prefix,
        "solver_mode": messages.SolverParameter.GPU,  # for plain `caffe train`; our runner chooses by itself
    }
    own = recipe.system.stage(stage).solver
    return messages.SolverParameter(**{**numbers, **(recipe.system.solver if own is None else own)})
