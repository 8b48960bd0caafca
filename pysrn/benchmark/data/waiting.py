"""How much of a training step waits for data: the real stage-1 net of a recipe, its real solver and data layer, on CPU.

Two figures: the share of a step that the net's process spends in waiting for a batch; and how much longer a step takes
than with the same net fed from memory, which counts the workers' use of the cores and the copy as well.
Run as `python -m pysrn.benchmark.data.waiting JSON`, so that every net has a process (and memory) of its own.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pysrn.benchmark.nets import make_solver, set_unit_statistics
from pysrn.benchmark.timing import alternate, seconds_of
from pysrn.console import SrnError
from pysrn.nets import messages
from pysrn.nets.in_caffe import set_device
from pysrn.nets.losses import loss_layers
from pysrn.processes import python_module
from pysrn.recipes import Recipe
from pysrn.systems.registry import default_system
from pysrn.systems.stage_nets import DataSource, stage_net
from pysrn.train.fixed.settings import fed_by_input
from pysrn.train.pipeline import ONE_THREAD

FED, CONSTANT = "real data layer", "same net, constant data"


def measure_waiting(dataset: str, folder: Path, **settings) -> dict:
    """`waiting_share` in a process of its own. Raises SrnError when it fails."""
    values = json.dumps({"dataset": dataset, "folder": str(folder), **settings})
    command = python_module("pysrn.benchmark.data.waiting", values)
    recipe = default_system().recipe(dataset)
    one_thread = ONE_THREAD if recipe.system.trunks[recipe.trunk].small else {}  # as training does
    environment = {"GLOG_minloglevel": "2", **one_thread, **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SrnError(f"the training steps of {dataset} ended with exit code {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def waiting_share(
    dataset: str, folder: str, steps: int, rounds: int, batch_size: int | None = None, workers: int = 1
) -> dict:
    """Seconds a step, waited seconds a step and their ratio, and the slowdown against constant data: medians.

    Every round times `steps` steps of each, after one that is not timed. `batch_size`: other than the recipe's.
    """
    recipe = default_system().recipe(dataset)
    recipe = replace(recipe, batch_size=batch_size or recipe.batch_size)
    message = stage_net(recipe, 1, DataSource(str(folder), workers=workers))
    set_device(None)
    fed = _solver(recipe, message)
    feeder = fed.net.layers[0].feeder
    constant = _solver(recipe, fed_by_input(message, dict(zip(("data", "label"), feeder.shapes, strict=True))))
    for name, values in zip(("data", "label"), feeder.next_batch(), strict=True):
        constant.net.blobs[name].data[...] = values
    waited = []

    def fed_seconds() -> float:
        fed.step(1)
        before = feeder.waited
        seconds = seconds_of(lambda: fed.step(steps)) / steps
        waited.append((feeder.waited - before) / steps)
        return seconds

    def constant_seconds() -> float:
        constant.step(1)
        return seconds_of(lambda: constant.step(steps)) / steps

    figures = alternate({FED: fed_seconds, CONSTANT: constant_seconds}, rounds)
    loss = sum(float(fed.net.blobs[layer.top[0]].data) for layer in loss_layers(message))
    feeder.close()
    if not math.isfinite(loss):
        raise SrnError(f"the loss of the measured net is {loss}: its steps are not those of training")
    return {
        "net": f"{recipe.trunk}, {dataset}, stage 1",
        "batch_size": recipe.batch_size,
        "workers": workers,
        "threads": os.environ.get("OMP_NUM_THREADS", "one a core"),
        "step_seconds": statistics.median(figures[FED]),
        "waited_seconds": statistics.median(waited),
        "waited_share": statistics.median(w / s for w, s in zip(waited, figures[FED], strict=True)),
        "constant_step_seconds": statistics.median(figures[CONSTANT]),
        "slowdown": statistics.median(s / c for s, c in zip(figures[FED], figures[CONSTANT], strict=True)),
        "rounds": figures | {"waited": waited},
    }


def _solver(recipe: Recipe, message: messages.NetParameter):
    """The recipe's solver of stage 1 on a net, with rate 0."""
    solver = make_solver(message, recipe, 1, rate=0.0)
    set_unit_statistics(solver.net)
    return solver


if __name__ == "__main__":
    print(json.dumps(waiting_share(**json.loads(sys.argv[1]))))
