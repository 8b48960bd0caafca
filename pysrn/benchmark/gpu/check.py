"""What a GPU is checked for: layers and first steps against the CPU, speed, PyTorch beside it, all stages.

`tools/gpu_check.py` is the command line. Every measurement is a process of its own with a time limit; one that fails is
reported and does not stop the others. With `gpu` None the same is done on the CPU, to try the check itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from pysrn.benchmark.gpu.kernels import KERNELS, table
from pysrn.benchmark.gpu.ranks import RANKS
from pysrn.benchmark.gpu.runner import Plan, Result, Runner
from pysrn.benchmark.gpu.steps import GROUPED, PROFILE, STEP
from pysrn.benchmark.nets import grouped_convolution, losses_of, whole_net
from pysrn.benchmark.usual import usual_recipe
from pysrn.console import UsageError
from pysrn.nets import messages
from pysrn.systems.registry import system_named, systems
from pysrn.systems.system import System

TOLERANCE = 1e-3  # assumed: sums of thousands of float32 products in another order, relative to the largest value
ENGINES = ("CUDNN", "CAFFE")  # one call for all groups; one matrix product for each group and image


def check(plan: Plan, work: Path) -> Iterator[tuple[str, Result]]:
    """Yield every measurement's name and result, as soon as it is there."""
    runner, gpu, system = Runner(plan, work), {"gpu": plan.gpu}, system_named(plan.system)
    net = gpu | {"system": plan.system, "trunk": plan.trunk}
    timed = net | {"rounds": plan.rounds}
    last = whole_net(plan.recipe(), system.last_stage)
    first_batch = plan.batch_sizes[0]
    if "layers" in plan.parts:
        yield "layers", runner.measure("layers", net | {"batch_size": plan.layer_batch})
    if "losses" in plan.parts:
        yield from _losses(runner, plan, [system])
    if "ranks" in plan.parts:
        where = "one device" if plan.gpu is not None else "the CPU"
        name = f"{plan.compared_steps} steps of {RANKS} ranks on {where} against one process, stage {system.last_stage}"
        request = net | {"stage": system.last_stage, "batch_size": plan.layer_batch, "steps": plan.compared_steps}
        yield name, runner.ranks(request)
    if "steps" in plan.parts:
        for stage in plan.stages[:-1]:
            yield from _steps(runner, timed, stage, first_batch, False)
        for batch in plan.batch_sizes:
            for tf32 in _precisions(plan):
                yield from _steps(runner, timed, system.last_stage, batch, tf32)
    if GROUPED in plan.parts and (layer := grouped_convolution(last)):
        yield from _grouped(runner, timed | {"stage": system.last_stage, "batch_size": first_batch}, layer.name)
    if KERNELS in plan.parts:
        request = timed | {"stage": system.last_stage, "batch_size": first_batch}
        for engine, called in plan.engines.items():
            name = f"kernels, stage {system.last_stage}, batch {first_batch}{called}"
            yield name, runner.measure("kernels", request, {"CAFFE_ENGINE": engine})
    if "torch" in plan.parts:
        yield from _torch(runner, timed, last, False)
    if "losses" in plan.parts:
        yield from _losses(runner, plan, [other for other in systems().values() if other.name != plan.system])
    if "compiled" in plan.parts:
        yield from _torch(runner, timed, last, True)
    if PROFILE in plan.parts:
        request = timed | {"what": PROFILE, "stage": system.last_stage, "batch_size": first_batch}
        name = f"profile, stage {system.last_stage}, batch {first_batch}"
        yield name, runner.measure("steps", request | {"grouped_engine": None})
    if "stages" in plan.parts:
        for stage in system.stages:
            yield f"training, stage {stage.number}, {plan.iterations} iterations", runner.train(stage.number)


def _losses(runner: Runner, plan: Plan, measured: Iterable[System]) -> Iterator[tuple[str, Result]]:
    """The first steps of some systems: of the plan's own its stages, of another all."""
    for system in measured:
        own = system.name == plan.system
        trunk = plan.trunk if plan.trunk in system.trunks else usual_recipe(system).trunk
        for stage in plan.stages if own else [stage.number for stage in system.stages]:
            request = {"system": system.name, "trunk": trunk, "stage": stage, "gpu": plan.gpu}
            request |= {"batch_size": plan.layer_batch, "steps": plan.compared_steps}
            engines = plan.engines | (plan.measured if own and stage == system.last_stage else {})
            for engine, called in engines.items():
                title = f"{plan.compared_steps} steps against the CPU's, {system.title}, stage {stage}{called}"
                yield title, runner.measure("losses", request, {"CAFFE_ENGINE": engine})


def _steps(runner: Runner, timed: Result, stage: int, batch: int, tf32: bool) -> Iterator[tuple[str, Result]]:
    """A stage's step, with every setting of the engine."""
    request = timed | {"what": STEP, "stage": stage, "batch_size": batch, "grouped_engine": None}
    plan = runner.plan
    usual = (system_named(plan.system).last_stage, plan.batch_sizes[0])
    for engine, called in (plan.engines | (plan.measured if (stage, batch) == usual else {})).items():
        name = f"step, stage {stage}, batch {batch}, {_precision(tf32)}{called}"
        yield name, runner.measure("steps", request, {"CAFFE_TF32": str(int(tf32)), "CAFFE_ENGINE": engine})


def _torch(runner: Runner, timed: Result, net: messages.NetParameter, compiled: bool) -> Iterator[tuple[str, Result]]:
    """PyTorch's step on the net of the last stage; compiled ones, which take a minute each, at one batch size."""
    plan, what = runner.plan, "PyTorch's step, compiled" if compiled else "PyTorch's step"
    try:
        scores = [score for _, score in losses_of(net)]
    except UsageError as error:
        yield what, {"missing": str(error)}
        return
    for batch in plan.batch_sizes[:1] if compiled else plan.batch_sizes:
        for tf32 in _precisions(plan):
            request = timed | {"batch_size": batch, "tf32": tf32, "scores": scores, "compiled": compiled}
            name = f"{what}, batch {batch}, {_precision(tf32)}"
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
    if "gradient" in result:
        by = f" (exchanged by {result['exchange']})" if "exchange" in result else ""
        text = f"{name}: losses differ by {result['loss']:.1e}, gradients by {result['gradient']:.1e} at most, relative"
        return text + by
    if KERNELS in result:
        return table(name, result)
    if PROFILE in result:
        shares = [f"{kind} {1000 * seconds:.1f} ms" for kind, seconds in result[PROFILE].items()]
        return f"{name}, layer by layer: {', '.join(shares)}"
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
    if "gradient" in result:
        return not (result["gradient"] <= TOLERANCE and result["loss"] <= TOLERANCE)  # nan is neither
    return "failed" in result


def worst(layer: Result) -> float:
    """The largest of a layer's differences; nan where one is."""
    values = layer["differences"].values()
    return math.nan if any(map(math.isnan, values)) else max(values)


def _precisions(plan: Plan) -> tuple[bool, ...]:
    return (False,) if plan.gpu is None else (False, True)


def _precision(tf32: bool) -> str:
    return "TF32" if tf32 else "float32"
