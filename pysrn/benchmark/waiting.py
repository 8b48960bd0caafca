"""How much of a training step waits for data: the real stage-1 net of a recipe, its real solver and data layer, on CPU.

Two figures: the share of a step that the net's process spends in waiting for a batch; and how much longer a step takes
than with the same net fed from memory, which counts the workers' use of the cores and the copy as well.
Run as `python -m pysrn.benchmark.waiting JSON`, so that every net has a process (and memory) of its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from pysrn.benchmark.nets import fed_by_input, set_unit_statistics
from pysrn.benchmark.timing import alternate
from pysrn.console import SrnError
from pysrn.recipes import RECIPES

FED, CONSTANT = "real data layer", "same net, constant data"


def measure_waiting(recipe: str, folder: Path, work: Path, **settings) -> dict:
    """`waiting_share` in a process of its own. Raises SrnError when it fails."""
    values = json.dumps({"recipe": recipe, "folder": str(folder), "work": str(work), **settings})
    command = [sys.executable, "-m", "pysrn.benchmark.waiting", values]
    one_thread = {"OMP_NUM_THREADS": "1"} if RECIPES[recipe].trunk == "resnet14" else {}  # as train/pipeline.py does
    environment = {"GLOG_minloglevel": "2", **one_thread, **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SrnError(f"the training steps of {recipe} ended with exit code {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def waiting_share(
    recipe: str, folder: str, work: str, steps: int, rounds: int, batch_size: int | None = None, workers: int = 1
) -> dict:
    """Seconds a step, waited seconds a step and their ratio, and the slowdown against constant data: medians.

    Every round times `steps` steps of each, after one that is not timed. `batch_size`: other than the recipe's.
    """
    from pysrn.systems.srn.nets import DataSource, stage_net

    plan = RECIPES[recipe]
    plan = dataclasses.replace(plan, batch_size=batch_size or plan.batch_size)
    message = stage_net(plan, 1, DataSource(str(folder), workers=workers))
    fed = _solver(plan, message, Path(work), "fed")
    feeder = fed.net.layers[0].feeder
    constant = _solver(
        plan, fed_by_input(message, dict(zip(("data", "label"), feeder.shapes, strict=True))), Path(work), "constant"
    )
    for name, values in zip(("data", "label"), feeder.next_batch(), strict=True):
        constant.net.blobs[name].data[...] = values
    waited = []

    def fed_seconds() -> float:
        fed.step(1)
        before = feeder.waited
        seconds = _seconds_of(fed, steps)
        waited.append((feeder.waited - before) / steps)
        return seconds

    def constant_seconds() -> float:
        constant.step(1)
        return _seconds_of(constant, steps)

    figures = alternate({FED: fed_seconds, CONSTANT: constant_seconds}, rounds)
    loss = float(fed.net.blobs["loss_cls"].data)
    feeder.close()
    if not math.isfinite(loss):
        raise SrnError(f"the loss of the measured net is {loss}: its steps are not those of training")
    return {
        "net": f"{plan.trunk}, {recipe}, stage 1",
        "batch_size": plan.batch_size,
        "workers": workers,
        "threads": os.environ.get("OMP_NUM_THREADS", "one a core"),
        "step_seconds": statistics.median(figures[FED]),
        "waited_seconds": statistics.median(waited),
        "waited_share": statistics.median(w / s for w, s in zip(waited, figures[FED], strict=True)),
        "constant_step_seconds": statistics.median(figures[CONSTANT]),
        "slowdown": statistics.median(s / c for s, c in zip(figures[FED], figures[CONSTANT], strict=True)),
        "rounds": figures | {"waited": waited},
    }


def _solver(plan, message, work: Path, name: str):
    """The recipe's solver of stage 1 on a net. Rate 0: a step costs the same and random weights stay finite."""
    import caffe

    from pysrn.nets.prototxt import write_message
    from pysrn.nets.solvers import stage_solver

    caffe.set_mode_cpu()
    net, path = work / f"{name}.prototxt", work / f"{name}_solver.prototxt"
    write_message(message, net)
    description = stage_solver(plan, 1, str(net), str(work / name))
    description.base_lr, description.display, description.snapshot_after_train = 0.0, 0, False
    write_message(description, path)
    solver = caffe.get_solver(str(path))
    set_unit_statistics(solver.net)
    return solver


def _seconds_of(solver, steps: int) -> float:
    started = time.perf_counter()
    solver.step(steps)
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    print(json.dumps(waiting_share(**json.loads(sys.argv[1]))))
