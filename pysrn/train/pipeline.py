"""The stages of a run in order, as `make` would: what is missing is done first, what is done is kept.

`tools/run_stage.py` and `tools/demo.py` call `run_up_to`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pysrn
from pysrn.console import InterruptedRun, UsageError, message
from pysrn.data.build import build_dataset, unfinished_shapes
from pysrn.data.pair.encoding import Encoding
from pysrn.nets.caffemodel import sha256_of
from pysrn.nets.in_caffe import check_gpu, engine_in_use
from pysrn.precision import FP32, precision_in_use
from pysrn.recipes import EMBEDDED
from pysrn.systems.deploy_files import write_deploy
from pysrn.train.fixed.feature_room import announce
from pysrn.train.fixed.split_net import WHOLE_NET, check_fixed_trunk
from pysrn.train.launch import Machine
from pysrn.train.plan import Step, plan
from pysrn.train.prepared import PreparedStage, prepare, stages_of
from pysrn.train.run_folder import RunFolder, read_record, source_hash
from pysrn.train.settings import Settings, with_real_counts
from pysrn.train.stage import stage_log, validation
from pysrn.train.stage.files import BEGUN, MANIFEST
from pysrn.train.stage.first_weights import check_first_weights
from pysrn.train.stage.rank_net import check_batch
from pysrn.train.stage_process import run_child
from pysrn.whole_files import write_json

EMBEDDED_DATA = f"data/{EMBEDDED}"  # made where it is missing; any other folder has to be there
# The small trunk's matrix products are too small to share: two threads on two cores wait for each other beside the
# process that loads images (measured: 3.9 iterations a second instead of 5.4).
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def run_up_to(
    run: RunFolder, settings: Settings, last: int, machine: Machine, restart: bool = False, dry_run: bool = False
) -> None:
    """Print the plan for stages 1 to `last`, then (unless `dry_run`) carry it out, one child process a stage."""
    recipe = settings.recipe
    if last not in recipe.stage_numbers:
        there = ", ".join(f"{number} {recipe.system.stage(number).name}" for number in recipe.stage_numbers)
        absent = any(stage.number == last for stage in recipe.system.stages)
        cure = f"it has {there}" + ("; --left-out says which are trained" if absent else "")
        raise UsageError(f"{recipe.system.title} on {recipe.dataset.name} has no stage {last}", cure)
    with nullcontext() if dry_run else run.locked():
        if settings.data == EMBEDDED_DATA and unfinished_shapes(settings.data):
            message(f"data: make the embedded data set in {settings.data}")
            if dry_run:
                for stage in stages_of(run, settings, last):
                    message(str(Step(stage, "run")))
                return
            _check_start(run, machine)  # before the time that the data take
            stored = Encoding(size=settings.recipe.input.stored_size)
            build_dataset(EMBEDDED, settings.data, encoding=stored, force=True)
        settings = with_real_counts(settings)
        recipe, system = settings.recipe, settings.recipe.system
        validation.check_parts(recipe)
        check_fixed_trunk(recipe)
        system.constants(recipe, Path(settings.data))  # what is wrong with it shows before work
        if not dry_run:
            run.wait_for_children()
        steps = plan(run, settings, last, restart)
        for step in steps:
            beware = [] if step.action == "keep" else system.warnings(recipe, step.stage.number)
            for warning in (*step.warnings, *beware):
                message(f"warning: {warning}")
            message(str(step))
        to_do = [step for step in steps if step.action != "keep"]
        fixed = [step for step in to_do if recipe.trunk_is_fixed(step.stage.number)]
        for step in fixed:
            _check_form(step, machine)
        if machine.caching and fixed:
            source = fixed[0].stage.source if fixed[0] is to_do[0] else None
            place = machine.caching.place(run.path)
            announce(place, recipe, [step.stage.number for step in fixed], machine.caching.precision, source)
        if dry_run:
            return
        if machine.tensorboard:
            stage_log.check_event_files()
        if settings.weights is not None and steps[0].action in ("run", "redo"):
            check_first_weights(recipe, settings.weights)
        if to_do:
            check_batch(recipe.batch_size, machine.launch.ranks)
            _check_start(run, machine)
        run.write_settings(settings)
        for step in to_do:
            number = step.stage.number
            if step.action == "redo":
                message(f"stage {number}: the old one is now {run.set_aside(number)}")
            if step.action == "resume" and (aside := run.set_weights_aside(number)):
                message(f"stage {number}: the weights that are not its own are now {aside}")
            _run_stage(step.stage, step.first, machine)


def _check_start(run: RunFolder, machine: Machine) -> None:
    """Raise what a stage would fail with: no launcher of ranks, no GPU of that number, no such part of the engine."""
    engine_in_use()
    machine.launch.command(run.path)
    for gpu in machine.gpus:
        check_gpu(gpu)


def _run_stage(stage: PreparedStage, first: int, machine: Machine) -> None:
    folder, number, source = stage.folder, stage.number, stage.source
    prepare(stage, first, machine)
    ranks = _ranks(stage, first, machine.launch.ranks)
    begun = {"digest": stage.digest, "source_sha256": source_hash(source), "ranks": ranks}
    begun["precision"] = _precision(stage, first)
    if stage.recipe.trunk_is_fixed(number):
        begun["features"] = _features(stage, first, machine)
    write_json(folder / BEGUN, begun)
    message(stage.line(machine.launch.ranks))
    started = time.monotonic()
    environment = ONE_THREAD if stage.recipe.system.trunks[stage.recipe.trunk].small else None
    last = run_child(folder, stage.title, stage.iterations, first, environment, machine.launch)
    write_deploy(stage.recipe, number, stage.run.weights(number))
    write_json(
        folder / MANIFEST,
        {
            "stage": number,
            "name": stage.stage.name,
            "iterations": last["done"],
            "best_validation": last["best"],
            "weights_of": last["kept"],
            "seconds": round(time.monotonic() - started, 1),
            "resumed_from": first or None,
            "source": None if source is None else str(source),
            **begun,
            "weights_sha256": sha256_of(stage.run.weights(number)),
            "fixed": last["fixed"],
            "carried": last["carried"],
            "versions": {
                "pysrn": pysrn.__version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("numpy", "protobuf", "lmdb", "opencv-python")},
            },
        },
    )
    if last["fixed"]:
        message(f"  fixed       {len(last['fixed']):4d}  layers, bit-identical to the start of the stage")
    message(f"stage {number} done: {stage.run.weights(number)}")
    if last["interrupted"]:
        raise InterruptedRun(f"interrupted; stage {number} is done", "run the same command again")


def _history(
    stage: PreparedStage, first: int, what: str, now: Any, warning: Callable[[Any], str], before: Sequence[Any] = ()
) -> list:
    """What a stage has been trained with, one after the other; says the warning where it goes on with another.

    `before`: what a stage was begun with that does not say it.
    """
    earlier = read_record(stage.folder / BEGUN, {}).get(what, list(before)) if first else []
    if earlier and earlier[-1] == now:
        return earlier
    if earlier and (words := warning(earlier[-1])):
        message(f"warning: stage {stage.number} was begun with {words}")
    return [*earlier, now]


def _ranks(stage: PreparedStage, first: int, ranks: int) -> list[int]:
    """With how many ranks a stage has been trained."""

    def warning(before: int) -> str:
        other = "the same images, but other rounding, and BN that follows the batch sees other parts of it"
        return f"--ranks {before} and goes on with {ranks}: {other}"

    return _history(stage, first, "ranks", ranks, warning)


def _precision(stage: PreparedStage, first: int) -> list[str]:
    """What its convolutions have multiplied."""
    now = precision_in_use()
    if now != FP32:
        message(f"  convolutions multiply {now}, summed up in fp32 (--precision)")

    def warning(before: str) -> str:
        return f"--precision {before} and goes on with {now}"

    return _history(stage, first, "precision", now, warning, [FP32])


def _features(stage: PreparedStage, first: int, machine: Machine) -> list[str]:
    """What gave a stage its features."""
    now = machine.caching.precision if machine.caching else "whole net" if machine.whole_net else "computed"

    def warning(before: str) -> str:
        rounded = "fp16" in (before, now)
        return f"features {before} and goes on with {now}: those of fp16 are rounded" if rounded else ""

    return _history(stage, first, "features", now, warning)


def _check_form(step: Step, machine: Machine) -> None:
    """Raise UsageError when a begun stage would go on in another form: its snapshots hold another net."""
    stage = step.stage
    begun_whole = not (stage.folder / WHOLE_NET).is_file()
    if step.action == "resume" and begun_whole != machine.whole_net:
        with_or_without = "with" if begun_whole else "without"
        raise UsageError(
            f"{stage.folder} was begun {with_or_without} --whole-net",
            f"give the same command {with_or_without} it, or --restart with stage {stage.number} to do it anew",
        )
