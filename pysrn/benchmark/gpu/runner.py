"""Starts the measurements of a GPU check, each in a process of its own, and keeps to the time of its plan."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pysrn.benchmark.gpu.kernels import KERNELS
from pysrn.benchmark.gpu.ranks import RANKS
from pysrn.benchmark.gpu.steps import GROUPED, PROFILE
from pysrn.benchmark.usual import usual_recipe
from pysrn.console import MissingError
from pysrn.processes import environment as child_environment
from pysrn.processes import events_in
from pysrn.recipes import EMBEDDED, Recipe
from pysrn.systems.registry import system_named
from pysrn.systems.system import System
from pysrn.train.launch import Launch

# What matters most first.
PARTS = ("layers", "losses", "ranks", "steps", GROUPED, KERNELS, "torch", "compiled", PROFILE, "stages")
# Of this machine: no error of what is checked.
LACKING = re.compile("No module named '(torch|google)|Python package cv2 is not|out of memory|mpi4py cannot be used")
RATE = 0.001  # assumed: low enough for ResNet-101 from random weights in so few iterations
RUN = "gpu_check"
REPOSITORY = Path(__file__).resolve().parents[3]
Result = dict


@dataclass(frozen=True)
class Plan:
    """What is measured and how long: a trunk, batches, training iterations of a stage, timed steps, seconds at most.

    What is left out is filled in: the default system, its usual trunk, all of its stages.
    """

    gpu: int | None
    trunk: str | None = None
    batch_sizes: tuple[int, ...] = (32, 8, 96)  # the first is the usual one
    iterations: int = 50
    compared_steps: int = 10
    rounds: int = 10
    parts: tuple[str, ...] = PARTS
    torch_python: str = sys.executable
    limit: float = 470.0  # of all together: below eight minutes
    layer_batch: int = 2
    stages: tuple[int, ...] = ()  # whose steps are timed and compared
    system: str | None = None

    def __post_init__(self) -> None:
        system = system_named(self.system)
        stages = tuple(stage.number for stage in system.stages)
        for name, usual in {"system": system.name, "trunk": usual_recipe(system).trunk, "stages": stages}.items():
            object.__setattr__(self, name, getattr(self, name) or usual)

    @property
    def measured(self) -> dict[str, str]:
        """The same of what takes long to be tried: for a few measurements alone."""
        return {} if self.gpu is None else {"all,device,measured": ", one pass a chain, measured algorithms"}

    @property
    def engines(self) -> dict[str, str]:
        """Settings of CAFFE_ENGINE that are compared, and what they are called."""
        return {"": ""} if self.gpu is None else {"": "", "all,device": ", one pass a chain"}

    def recipe(self) -> Recipe:
        """The recipe whose nets are measured."""
        return usual_recipe(system_named(self.system), trunk=self.trunk)


def small(system: System) -> Result:
    """Fields of a plan that tries the check itself: a small trunk, few steps, a fixed trunk and the last stage."""
    trunk = next((name for name, spec in system.trunks.items() if spec.small), None)
    fixed = [stage.number for stage in system.stages if stage.fixed_trunk]
    stages = (*fixed[:1], system.last_stage)
    return {"trunk": trunk, "batch_sizes": (2,), "iterations": 2, "rounds": 2, "stages": stages, "compared_steps": 2}


class Runner:
    """Starts the measurements of a plan and keeps to its time."""

    def __init__(self, plan: Plan, work: Path) -> None:
        self.plan, self.work = plan, work
        self._end = time.monotonic() + plan.limit

    def measure(self, module: str, request: Result, environment: Result | None = None, python: str = "") -> Result:
        """What a module of this package prints for a request; {"failed": why} or {"missing": why} when it does not."""
        command = [python or sys.executable, "-m", f"pysrn.benchmark.gpu.{module}", json.dumps(request)]
        found = self._answer(command, environment or {}, lambda text: json.loads(text.splitlines()[-1]))
        return _lacking(found)

    def ranks(self, request: Result) -> Result:
        """What several ranks on one device find of a request, as `ranks.compare`; or as `measure`."""
        try:
            command = Launch(RANKS).started("pysrn.benchmark.gpu.ranks", json.dumps(request))
        except MissingError as error:
            return {"missing": str(error)}
        return _lacking(self._answer(command, {}, _found_by_ranks))

    def train(self, stage: int) -> Result:
        """Train the stages up to `stage` with tools/run_stage.py on the embedded data set; losses and seconds."""
        plan = self.plan
        whole = [str(one.number) for one in system_named(plan.system).stages if not one.fixed_trunk]
        command = [sys.executable, str(REPOSITORY / "tools/run_stage.py"), str(stage), "--system", plan.system]
        command += ["--dataset", EMBEDDED, "--run", RUN]
        command += ["--from-scratch"] if stage == 1 else []
        command += ["--trunk", plan.trunk, "--train-bn", ",".join(whole), "--base-lr", str(RATE)]
        command += ["--iterations", str(plan.iterations), "--batch-size", str(plan.batch_sizes[0])]
        command += ["--workers", str(os.cpu_count() or 1)]
        command += [] if plan.gpu is None else ["--gpu", str(plan.gpu)]
        started = time.monotonic()
        found = _lacking(self._answer(command, {}, lambda text: {"weights": text.splitlines()[-1]}))
        return found | (self._losses(stage) if "weights" in found else {}) | {"seconds": time.monotonic() - started}

    def _losses(self, stage: int) -> Result:
        with open(self.work / f"runs/{RUN}/stage{stage}/log.csv", newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        third = max(1, len(losses) // 3)
        first, last = (sum(part) / third for part in (losses[:third], losses[-third:]))
        found = {"iterations": len(losses), "loss_first_third": first, "loss_last_third": last}
        return found if all(map(math.isfinite, losses)) else found | {"failed": "a loss is not finite"}

    def _answer(self, command: list[str], environment: Result, read) -> Result:
        left = self._end - time.monotonic()
        if left <= 0:
            return {"failed": "not run: the time is over"}
        variables = {"GLOG_minloglevel": "2"} | child_environment(**{"CAFFE_TF32": "0"} | environment)
        try:
            done = subprocess.run(
                command, cwd=self.work, capture_output=True, errors="replace", env=variables, timeout=left, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": "stopped: the time is over"}
        except OSError as error:
            return {"failed": f"{command[0]}: {error.strerror}"}
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            fatal = [line for line in words if line.startswith(("F", "error:"))]
            return {"failed": f"exit code {done.returncode}: {(fatal or words)[-1][:300]}"}
        return read(done.stdout)


def _found_by_ranks(text: str) -> Result:
    """The event of the first rank that says what was found, among those that say that ranks live."""
    events = [event for line in text.splitlines() for event in events_in(line) if isinstance(event, dict)]
    found = [event for event in events if "gradient" in event]
    return found[-1] if found else {"failed": "the ranks said nothing"}


def _lacking(found: Result) -> Result:
    """The result; where this machine lacks something, that is no failure."""
    return {"missing": found["failed"]} if LACKING.search(found.get("failed", "")) else found
