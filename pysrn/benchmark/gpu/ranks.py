"""Several ranks that share one device against one process with the whole batch: losses, and the first step's gradients.

The ranks exchange their gradients as training does (`train/stage/parallel.py`). Two on one device do so by MPI, because
NCCL wants a device for each. Run as `mpiexec -n N python -m pysrn.benchmark.gpu.ranks JSON` (`check.py` does).
"""

from __future__ import annotations

import json
import sys

from pysrn.console import DONE
from pysrn.processes import send
from pysrn.train.stage.rank import as_rank

RANKS = 2


def compare(team, system: str, trunk: str, stage: int, batch_size: int, gpu: int | None, steps: int) -> dict:
    """As `losses.compare`, of ranks with a batch of `batch_size` each; the first of them is the one process before."""
    from pysrn.benchmark.gpu.losses import comparable, copy_weights, difference, rate_for, worst
    from pysrn.benchmark.nets import fill_inputs, make_solver

    team.set_device([] if gpu is None else [gpu])
    alone, first, rate = [], None, None
    if team.rank == 0:
        recipe, message = comparable(system, trunk, stage, batch_size * team.size)
        first = make_solver(message, recipe, stage, 0.0)
        fill_inputs(first.net)
        rate = rate_for(first.net)
        single = make_solver(message, recipe, stage, rate)
        copy_weights(first.net, single.net)
        fill_inputs(single.net)
        expected = _stepped(single, message, steps, alone)
        del single
    rate = team.from_first(rate)
    recipe, message = comparable(system, trunk, stage, batch_size)
    solver = make_solver(message, recipe, stage, rate)
    if team.rank == 0:
        copy_weights(first.net, solver.net)
        del first
    team.begin(solver, message)
    fill_inputs(solver.net, team.rank, team.size)
    own: list[list[float]] = []
    found = _stepped(solver, message, steps, own)
    together = [team.mean(losses) for losses in own]
    team.check_weights(solver.net)
    if team.rank:
        return {}
    losses = {"loss": difference(alone, together), "gradient": worst(expected, found)}
    return losses | {"one": alone, "ranks": together, "exchange": team.exchange}


def _stepped(solver, message, steps: int, losses: list[list[float]]) -> dict:
    """Step after step, with the losses of each; returns the gradients that the first was made with."""
    from pysrn.nets.losses import loss_layers

    gradients: dict = {}

    def keep() -> None:  # behind what averages them
        if not gradients:
            gradients.update({name: [blob.diff.copy() for blob in blobs] for name, blobs in solver.net.params.items()})

    solver.add_callback(lambda: None, keep)
    for _ in range(steps):
        solver.step(1)
        losses.append([float(solver.net.blobs[layer.top[0]].data) for layer in loss_layers(message)])
    return gradients


def main(argv: list[str]) -> int:
    """One rank; the first sends what was found as an event."""

    def work(team) -> int:
        if found := compare(team, **json.loads(argv[0])):
            send(**found)
        return DONE

    return as_rank(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
