"""The four stages in order, as `make` would: what is missing is done first, what is done is kept.

`tools/run_stage.py` and `tools/demo.py` call `run_up_to`.
"""

from __future__ import annotations

import platform
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import pysrn
from pysrn.console import InterruptedRun, UsageError, message
from pysrn.data.build import build_dataset, unfinished_shapes
from pysrn.nets.caffemodel import sha256_of
from pysrn.nets.in_caffe import check_gpu, engine_in_use
from pysrn.recipes import STAGE_NAMES, TRUNKS
from pysrn.train.fixed.feature_room import STAGES_IN_PARTS, announce
from pysrn.train.plan import Step, plan, settings_digest
from pysrn.train.preparation import Device, prepare, source_weights, stage_line
from pysrn.train.run_folder import BEGUN, MANIFEST, WHOLE_NET, RunFolder, read_record, source_hash, write_json
from pysrn.train.settings import Settings, with_real_counts
from pysrn.train.stage import event_file, validation
from pysrn.train.stage.first_weights import check_first_weights
from pysrn.train.stage.rank_net import check_batch
from pysrn.train.stage_process import run_child

EMBEDDED_DATA = "data/shapes"  # made where it is missing; any other folder has to be there
# The small trunk's matrix products are too small to share: two threads on two cores wait for each other beside the
# process that loads images (measured: 3.9 iterations a second instead of 5.4).
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def run_up_to(
    run: RunFolder, settings: Settings, last: int, device: Device, restart: bool = False, dry_run: bool = False
) -> None:
    """Print the plan for stages 1 to `last`, then (unless `dry_run`) carry it out, one child process a stage."""
    with nullcontext() if dry_run else run.locked():
        if settings.data == EMBEDDED_DATA and unfinished_shapes(settings.data):
            message(f"data: make the embedded data set in {settings.data}")
            if dry_run:
                for stage in range(1, last + 1):
                    message(str(Step(stage, "run", settings.recipe.iterations(stage), 0, "")))
                return
            _check_start(run, device)  # before the time that the data take
            build_dataset("shapes", settings.data, force=True)
        settings = with_real_counts(settings)
        validation.check_parts(settings.recipe)
        if not dry_run:
            run.wait_for_children()
        steps = plan(run, settings, last, restart)
        for step in steps:
            for warning in step.warnings:
                message(f"warning: {warning}")
            message(str(step))
        for step in steps:
            if step.action == "resume" and step.stage in STAGES_IN_PARTS:
                _check_form(run, step.stage, device)
        caching = [step.stage for step in steps if step.action != "keep" and step.stage in STAGES_IN_PARTS]
        if device.caching and caching:
            kept = all(step.action == "keep" for step in steps if step.stage < caching[0])
            source = source_weights(run, settings, caching[0]) if kept else None
            announce(run, settings.recipe, caching, device.caching, source)
        if dry_run:
            return
        if device.tensorboard:
            event_file.check_installed()
        if settings.weights is not None and steps[0].action in ("run", "redo"):
            check_first_weights(settings)
        if any(step.action != "keep" for step in steps):
            check_batch(settings.recipe.batch_size, device.launch.ranks)
            _check_start(run, device)
        run.write_settings(settings)
        for step in steps:
            if step.action == "redo":
                message(f"stage {step.stage}: the old one is now {run.set_aside(step.stage)}")
            if step.action == "resume" and (aside := run.set_weights_aside(step.stage)):
                message(f"stage {step.stage}: the weights that are not its own are now {aside}")
            if step.action != "keep":
                _run_stage(run, settings, step, device)


def _check_start(run: RunFolder, device: Device) -> None:
    """Raise what a stage would fail with: no launcher of ranks, no GPU of that number, no such part of the engine."""
    engine_in_use()
    device.launch.command(run.path)
    for gpu in device.gpus:
        check_gpu(gpu)


def _run_stage(run: RunFolder, settings: Settings, step: Step, device: Device) -> None:
    number, folder, source = step.stage, run.stage(step.stage), source_weights(run, settings, step.stage)
    prepare(run, settings, number, step.first, device)
    begun = {
        "digest": settings_digest(settings, number),
        "source_sha256": source_hash(source),
        "ranks": _ranks(folder, number, step.first, device.launch.ranks),
    }
    if number in STAGES_IN_PARTS:
        begun["features"] = _features(folder, number, step.first, device)
    write_json(folder / BEGUN, begun)
    message(stage_line(settings.recipe, number, device.launch.ranks))
    started = time.monotonic()
    small = TRUNKS[settings.recipe.trunk].width < TRUNKS["resnet101"].width
    title = f"stage {number} ({STAGE_NAMES[number]})"
    last = run_child(folder, title, step.iterations, step.first, ONE_THREAD if small else None, device.launch)
    write_json(
        folder / MANIFEST,
        {
            "stage": number,
            "name": STAGE_NAMES[number],
            "iterations": last["done"],
            "best_validation": last["best"],
            "seconds": round(time.monotonic() - started, 1),
            "resumed_from": step.first or None,
            "source": None if source is None else str(source),
            **begun,
            "weights_sha256": sha256_of(run.weights(number)),
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
    message(f"stage {number} done: {run.weights(number)}")
    if last["interrupted"]:
        raise InterruptedRun(f"interrupted; stage {number} is done", "run the same command again")


def _ranks(folder: Path, number: int, first: int, ranks: int) -> list[int]:
    """With how many ranks a stage has been trained, one number after the other; warns when it goes on with others."""
    path = folder / BEGUN
    earlier = read_record(path, {}).get("ranks", []) if first and path.is_file() else []
    if not earlier or earlier[-1] == ranks:
        return earlier or [ranks]
    message(
        f"warning: stage {number} was begun with --ranks {earlier[-1]} and goes on with {ranks}: the same images, "
        "but other rounding, and BN that follows the batch sees other parts of it"
    )
    return [*earlier, ranks]


def _check_form(run: RunFolder, number: int, device: Device) -> None:
    """Raise UsageError when a begun stage would go on in another form: its snapshots hold another net."""
    begun_whole = not (run.stage(number) / WHOLE_NET).is_file()
    if begun_whole != device.whole_net:
        with_or_without = "with" if begun_whole else "without"
        raise UsageError(
            f"{run.stage(number)} was begun {with_or_without} --whole-net",
            f"give the same command {with_or_without} it, or --restart with stage {number} to do it anew",
        )


def _features(folder: Path, number: int, first: int, device: Device) -> list[str]:
    """What gave a stage its features, one after the other; warns when it goes on with another precision."""
    path = folder / BEGUN
    earlier = read_record(path, {}).get("features", []) if first and path.is_file() else []
    now = device.caching.precision if device.caching else "whole net" if device.whole_net else "computed"
    if not earlier or earlier[-1] == now:
        return earlier or [now]
    if "fp16" in (earlier[-1], now):
        message(
            f"warning: stage {number} was begun with features {earlier[-1]} and goes on with {now}: "
            "those of fp16 are rounded"
        )
    return [*earlier, now]
