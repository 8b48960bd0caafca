"""What a GPU is checked for: layers against the CPU, all stages, steps, the grouped convolution, PyTorch beside it.

`tools/gpu_check.py` is the command line. Every measurement is a process of its own with a time limit; one that fails is
reported and does not stop the others. With `gpu` None the same is done on the CPU, to try the check itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from pysrn.benchmark.gpu.runner import Plan, Result, Runner
from pysrn.benchmark.gpu.steps import GROUPED, STEP
from pysrn.benchmark.nets import grouped_convolution, losses_of, whole_net
from pysrn.console import UsageError
from pysrn.systems.registry import system_named

TOLERANCE = 1e-3  # assumed: sums of thousands of float32 products in another order, relative to the largest value
ENGINES = ("CUDNN", "CAFFE")  # one call for all groups; one matrix product for each group and image


def check(plan: Plan, work: Path) -> Iterator[tuple[str, Result]]:
    """Yield every measurement's name and result, as soon as it is there."""
    runner, gpu, system = Runner(plan, work), {"gpu": plan.gpu}, system_named(plan.system)
    net = gpu | {"system": plan.system, "trunk": plan.trunk}
    timed = net | {"rounds": plan.rounds}
    if "layers" in plan.parts:
        yield "layers", runner.measure("layers", net | {"batch_size": plan.layer_batch})
    if "stages" in plan.parts:
        for stage in system.stages:
            yield f"training, stage {stage.number}, {plan.iterations} iterations", runner.train(stage.number)
    if "steps" in plan.parts:
        for stage in plan.stages:
            for batch in plan.batch_sizes:
                request = timed | {"what": STEP, "stage": stage, "batch_size": batch, "grouped_engine": None}
                for tf32 in _precisions(plan) if stage == system.last_stage else (False,):
                    name = f"step, stage {stage}, batch {batch}, {_precision(tf32)}"
                    yield name, runner.measure("steps", request, {"CAFFE_TF32": str(int(tf32))})
    last = whole_net(plan.recipe(), system.last_stage)
    if GROUPED in plan.parts and (layer := grouped_convolution(last)):
        yield from _grouped(runner, timed | {"stage": system.last_stage, "batch_size": plan.batch_sizes[0]}, layer.name)
    if "torch" in plan.parts:
        try:
            scores = [score for _, score in losses_of(last)]
        except UsageError as error:
            yield "PyTorch's step", {"missing": str(error)}
            return
        for batch in plan.batch_sizes:
            for tf32 in _precisions(plan):
                name = f"PyTorch's step, stage {system.last_stage}, batch {batch}, {_precision(tf32)}"
                request = timed | {"batch_size": batch, "tf32": tf32, "scores": scores}
                yield name, runner.measure("torch_steps", request, python=plan.torch_python)


def _grouped(runner: Runner, request: Result, layer: str) -> Iterator[tuple[str, Result]]:
    """The grouped convolution alone, and its share of a step, with each engine."""
    where = f"stage {request['stage']}, batch {request['batch_size']}"
    for engine in ENGINES if runner.plan.gpu is not None else ENGINES[1:]:
        asked = request | {"grouped_engine": engine}
        alone = runner.measure("steps", asked | {"what": GROUPED})
        yield f"{layer} alone, engine {engine}, batch {request['batch_size']}", alone
        whole = runner.measure("steps", asked | {"what": STEP})
        timed_both = "seconds" in alone and "seconds" in whole
        share = {"grouped_share": alone["seconds"] / whole["seconds"]} if timed_both else {}
        yield f"step with {layer}'s engine {engine}, {where}", whole | share


def line(name: str, result: Result) -> str:
    """A measurement in one line, or, for the layers, one line a kind of layer."""
    if name == "layers" and "failed" not in result:
        lines = [f"{name}: largest difference from the CPU, relative"]
        for layer, found in result.items():
            parts = ", ".join(f"{part} {value:.1e}" for part, value in found["differences"].items())
            lines.append(f"  {found['type']:<24} {layer:<24} {worst(found):.1e}  ({parts})")
        return "\n".join(lines)
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
    return text + (f", of it the layer {result['grouped_share']:.1%}" if "grouped_share" in result else "")


def wrong(name: str, result: Result) -> bool:
    """Whether a result is an error: a failure, or a layer that differs by more than TOLERANCE."""
    if name == "layers" and "failed" not in result:
        return any(not worst(entry) <= TOLERANCE for entry in result.values())
    return "failed" in result


def worst(layer: Result) -> float:
    """The largest of a layer's differences; nan where one is."""
    values = layer["differences"].values()
    return math.nan if any(map(math.isnan, values)) else max(values)


def _precisions(plan: Plan) -> tuple[bool, ...]:
    return (False,) if plan.gpu is None else (False, True)


def _precision(tf32: bool) -> str:
    return "TF32" if tf32 else "float32"
