"""What a GPU is checked for: layers against the CPU, the four stages, speed of steps, conv4, PyTorch beside it.

`tools/gpu_check.py` is the command line. Every measurement is a process of its own with a time limit; one that fails is
reported and does not stop the others. With `gpu` None the same is done on the CPU, to try the check itself.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pysrn.recipes import STAGE_NAMES

PARTS = ("layers", "stages", "steps", "conv4", "torch")
TOLERANCE = 1e-3  # assumed: sums of thousands of float32 products in another order, relative to the largest value
ENGINES = ("CUDNN", "CAFFE")  # conv4 in one call for all groups; one matrix product for each group and image
LACKING = re.compile("No module named 'torch'|out of memory")  # of this machine: no error of what is checked
RATE = 0.001  # assumed: low enough for ResNet-101 from random weights in so few iterations
REPOSITORY = Path(__file__).resolve().parents[2]
Result = dict


@dataclass(frozen=True)
class Plan:
    """What is measured and how long: a trunk, batches, training iterations of a stage, timed steps, seconds at most."""

    gpu: int | None
    trunk: str = "resnet101"
    batch_sizes: tuple[int, ...] = (32, 96)
    iterations: int = 50
    rounds: int = 10
    parts: tuple[str, ...] = PARTS
    torch_python: str = sys.executable
    limit: float = 570.0  # of all together: below ten minutes
    layer_batch: int = 2
    stages: tuple[int, ...] = tuple(STAGE_NAMES)


SMALL = {"trunk": "resnet14", "batch_sizes": (2,), "iterations": 2, "rounds": 2, "stages": (2, 4)}


class Runner:
    """Starts the measurements of a plan and keeps to its time."""

    def __init__(self, plan: Plan, work: Path) -> None:
        self.plan, self.work = plan, work
        self._end = time.monotonic() + plan.limit

    def measure(self, module: str, request: Result, environment: Result | None = None, python: str = "") -> Result:
        """What a module of this package prints for a request; {"failed": why} or {"missing": why} when it does not."""
        command = [python or sys.executable, "-m", f"pysrn.benchmark.{module}", json.dumps(request)]
        found = self._answer(command, environment or {}, lambda text: json.loads(text.splitlines()[-1]))
        return {"missing": found["failed"]} if LACKING.search(found.get("failed", "")) else found

    def train(self, stage: int) -> Result:
        """Train the stages up to `stage` with tools/run_stage.py on the embedded data set; losses and seconds."""
        plan = self.plan
        command = [sys.executable, str(REPOSITORY / "tools/run_stage.py"), str(stage), "--dataset", "shapes"]
        command += ["--from-scratch"] if stage == 1 else []
        command += ["--trunk", plan.trunk, "--train-bn", "1,4", "--base-lr", str(RATE)]
        command += ["--iterations", str(plan.iterations), "--batch-size", str(plan.batch_sizes[0])]
        command += ["--workers", str(os.cpu_count() or 1)]
        command += [] if plan.gpu is None else ["--gpu", str(plan.gpu)]
        started = time.monotonic()
        found = self._answer(command, {}, lambda text: {"weights": text.splitlines()[-1]})
        return found | ({} if "failed" in found else self._losses(stage)) | {"seconds": time.monotonic() - started}

    def _losses(self, stage: int) -> Result:
        with open(self.work / f"runs/shapes/stage{stage}/log.csv", newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        third = max(1, len(losses) // 3)
        first, last = (sum(part) / third for part in (losses[:third], losses[-third:]))
        found = {"iterations": len(losses), "loss_first_third": first, "loss_last_third": last}
        return found if all(map(math.isfinite, losses)) else found | {"failed": "a loss is not finite"}

    def _answer(self, command: list[str], environment: Result, read) -> Result:
        left = self._end - time.monotonic()
        if left <= 0:
            return {"failed": "not run: the time is over"}
        variables = {"GLOG_minloglevel": "2", **os.environ, "CAFFE_TF32": "0", **environment}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        try:
            done = subprocess.run(
                command,
                cwd=self.work,
                capture_output=True,
                text=True,
                errors="replace",
                env=variables,
                timeout=left,
                check=False,
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


def check(plan: Plan, work: Path) -> Iterator[tuple[str, Result]]:
    """Yield every measurement's name and result, as soon as it is there."""
    runner, gpu = Runner(plan, work), {"gpu": plan.gpu}
    timed = gpu | {"trunk": plan.trunk, "rounds": plan.rounds}
    if "layers" in plan.parts:
        yield "layers", runner.measure("gpu_layers", gpu | {"trunk": plan.trunk, "batch_size": plan.layer_batch})
    if "stages" in plan.parts:
        for stage in STAGE_NAMES:
            yield f"training, stage {stage}, {plan.iterations} iterations", runner.train(stage)
    if "steps" in plan.parts:
        for stage in plan.stages:
            for batch in plan.batch_sizes:
                request = timed | {"what": "step", "stage": stage, "batch_size": batch, "conv4_engine": None}
                for tf32 in _precisions(plan) if stage == 4 else (False,):
                    name = f"step, stage {stage}, batch {batch}, {_precision(tf32)}"
                    yield name, runner.measure("gpu_steps", request, {"CAFFE_TF32": str(int(tf32))})
    if "conv4" in plan.parts:
        for engine in ENGINES if plan.gpu is not None else ENGINES[1:]:
            request = timed | {"batch_size": plan.batch_sizes[0], "conv4_engine": engine}
            alone = runner.measure("gpu_steps", request | {"what": "conv4"})
            yield f"conv4 alone, engine {engine}, batch {plan.batch_sizes[0]}", alone
            whole = runner.measure("gpu_steps", request | {"what": "step", "stage": 4})
            timed_both = "seconds" in alone and "seconds" in whole
            share = {"conv4_share": alone["seconds"] / whole["seconds"]} if timed_both else {}
            yield f"step with conv4's engine {engine}, stage 4, batch {plan.batch_sizes[0]}", whole | share
    if "torch" in plan.parts:
        for batch in plan.batch_sizes:
            for tf32 in _precisions(plan):
                name = f"PyTorch's step, stage 4, batch {batch}, {_precision(tf32)}"
                request = timed | {"batch_size": batch, "tf32": tf32}
                yield name, runner.measure("gpu_torch_steps", request, python=plan.torch_python)


def line(name: str, result: Result) -> str:
    """A measurement in one line, or, for the layers, one line a kind of layer."""
    if name == "layers" and "failed" not in result:
        return "\n".join([f"{name}: largest difference from the CPU, relative", *map(_layer_line, result.items())])
    for key in ("failed", "missing"):
        if key in result:
            return f"{name}: {key}: {result[key]}"
    if "loss_last_third" in result:
        losses = f"loss {result['loss_first_third']:.3f} -> {result['loss_last_third']:.3f}"
        return f"{name}: {losses} (means of the first and last third), {result['seconds']:.0f} s in all"
    text = f"{name}: {1000 * result['seconds']:.1f} ms"
    if "images_per_second" in result:
        text += f", {result['images_per_second']:.1f} img/s"
    if result.get("memory_mb"):
        text += f", {result['memory_mb']} MB on the device"
    return text + (f", conv4 is {result['conv4_share']:.1%} of it" if "conv4_share" in result else "")


def wrong(name: str, result: Result) -> bool:
    """Whether a result is an error: a failure, or a layer that differs by more than TOLERANCE."""
    if name == "layers" and "failed" not in result:
        return any(not worst(entry) <= TOLERANCE for entry in result.values())
    return "failed" in result


def worst(layer: Result) -> float:
    """The largest of a layer's differences; nan where one is."""
    values = layer["differences"].values()
    return math.nan if any(map(math.isnan, values)) else max(values)


def _layer_line(entry: tuple[str, Result]) -> str:
    name, found = entry
    parts = ", ".join(f"{part} {value:.1e}" for part, value in found["differences"].items())
    return f"  {found['type']:<24} {name:<24} {worst(found):.1e}  ({parts})"


def _precisions(plan: Plan) -> tuple[bool, ...]:
    return (False,) if plan.gpu is None else (False, True)


def _precision(tf32: bool) -> str:
    return "TF32" if tf32 else "float32"
