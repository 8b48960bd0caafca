"""The four stages in order, as `make` would: what is missing is done first, what is done is kept.

`tools/run_stage.py` and `tools/demo.py` call `run_up_to`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from caffe.proto import caffe_pb2

import pysrn
from pysrn.console import InterruptedRun, UsageError, existing_file, message
from pysrn.data.build import build_dataset, unfinished_shapes
from pysrn.data.manifest import read_manifest
from pysrn.nets import prototxt, stages
from pysrn.nets.device import check_gpu
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import STAGE_NAMES, TRUNKS
from pysrn.train import snapshots
from pysrn.train.run_folder import BEGUN, MANIFEST, NET, SOLVER, RunFolder, read_record, source_hash, write_json
from pysrn.train.runner import Job
from pysrn.train.settings import Settings, with_real_counts
from pysrn.train.stage_process import run_child

EMBEDDED_DATA = "data/shapes"  # made where it is missing; any other folder has to be there
# The small trunk's matrix products are too small to share: two threads on two cores wait for each other beside the
# process that loads images (measured: 3.9 iterations a second instead of 5.4).
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
RELEASE_CLASSIFIER = "fc1000"  # the ImageNet classifier of the public release: the only thing stage 1 leaves


@dataclass(frozen=True)
class Step:
    """One line of the plan: a stage and what will be done with it."""

    stage: int
    action: str  # `keep`, `resume`, `run` or `redo`
    iterations: int
    first: int  # iteration to go on from
    reason: str

    def __str__(self) -> str:
        span = f"{self.iterations} iterations" if not self.first else f"iterations {self.first}-{self.iterations}"
        return f"stage {self.stage} ({STAGE_NAMES[self.stage]}): {self.action}, {span}{self.reason}"


@dataclass(frozen=True)
class Device:
    """Where and how a stage runs; changes no result but for rounding."""

    gpu: int | None = None  # None: CPU
    workers: int = 1
    snapshot_every: int = 200


def plan(run: RunFolder, settings: Settings, last: int, restart: bool = False) -> list[Step]:
    """What has to happen so that stages 1 to `last` are done; `restart` does the last one anew.

    Raises UsageError when a finished or begun stage was made with other settings.
    """
    steps: list[Step] = []
    redone = False
    for number in range(1, last + 1):
        state, total = run.state(number), settings.recipe.iterations(number)
        record, again = _begun(run, number) or state.manifest, restart and number == last
        if state.word == "not begun":
            steps.append(Step(number, "run", total, 0, ""))
        elif redone or again or (number > 1 and not run.weights(number - 1).is_file()):
            why = "asked for" if again else "an earlier stage is done anew"
            steps.append(Step(number, "redo", total, 0, f" ({why}; the old one is set aside)"))
        elif _source_changed(run, settings, number, state.word, record):
            steps.append(Step(number, "redo", total, 0, " (it started from other weights; it is set aside)"))
        elif record.get("digest") != settings_digest(settings, number):
            raise UsageError(
                f"{run.stage(number)} was {state.word} with other settings or data than those asked for",
                f"give another --run, or --restart with stage {number} to do it anew",
            )
        elif state.word == "done":
            steps.append(Step(number, "keep", total, 0, " (done)"))
        else:
            steps.append(Step(number, "resume", total, state.iteration, ""))
        redone = redone or steps[-1].action in ("run", "redo")
    return steps


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
            build_dataset("shapes", settings.data, force=True)
        settings = with_real_counts(settings)
        steps = plan(run, settings, last, restart)
        for step in steps:
            message(str(step))
        if dry_run:
            return
        if device.gpu is not None and any(step.action != "keep" for step in steps):
            check_gpu(device.gpu)
        run.write_settings(settings)
        for step in steps:
            if step.action == "redo":
                message(f"stage {step.stage}: the old one is now {run.set_aside(step.stage)}")
            if step.action != "keep":
                _run_stage(run, settings, step, device)


def status(run: RunFolder, settings: Settings) -> list[str]:
    """One line a stage: how far it is, and the mean loss of its last iterations."""
    lines = [f"{run.path}: {settings.recipe.dataset.name}, {settings.recipe.trunk}, data {settings.data}"]
    for number, name in STAGE_NAMES.items():
        state, loss = run.state(number), run.last_loss(number)
        total = settings.recipe.iterations(number)
        seconds = f", {state.manifest['seconds']:.0f} s" if state.manifest else ""
        shown = "" if loss is None or state.word == "not begun" else f", loss {loss:.4f}"
        lines.append(f"stage {number} {name:<12} {state.word:<10} {state.iteration}/{total}{shown}{seconds}")
    return lines


def settings_digest(settings: Settings, stage: int) -> str:
    """A hash of everything that decides the result of a stage, apart from its starting weights.

    The data counts by what its manifest says it was made from, not by the folder's name.
    """
    net = stages.stage_net(settings.recipe, stage, stages.DataSource("", workers=0))
    solver = stage_solver(settings.recipe, stage, "", "")
    manifest = read_manifest(Path(settings.data)) or {}
    data = {"seed": manifest.get("seed"), "train": manifest.get("splits", {}).get("train")}
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode())
    for part in (net, solver):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _run_stage(run: RunFolder, settings: Settings, step: Step, device: Device) -> None:
    number, folder, source = step.stage, run.stage(step.stage), _source(run, settings, step.stage)
    _prepare(run, settings, step, device)
    begun = {"digest": settings_digest(settings, number), "source_sha256": source_hash(source)}
    write_json(folder / BEGUN, begun)
    started = time.monotonic()
    small = TRUNKS[settings.recipe.trunk].width < TRUNKS["resnet101"].width
    title = f"stage {number} ({STAGE_NAMES[number]})"
    last = run_child(folder, title, step.iterations, step.first, ONE_THREAD if small else None)
    write_json(
        folder / MANIFEST,
        {
            "stage": number,
            "name": STAGE_NAMES[number],
            "iterations": step.iterations,
            "seconds": round(time.monotonic() - started, 1),
            "resumed_from": step.first or None,
            "source": None if source is None else str(source),
            **begun,
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


def _prepare(run: RunFolder, settings: Settings, step: Step, device: Device) -> None:
    """Write the stage's net, solver and job.json for the child process."""
    number, folder, recipe = step.stage, run.stage(step.stage), settings.recipe
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(run, settings, number)
    data = stages.DataSource(
        settings.data, first_sample=step.first * recipe.batch_size * recipe.iter_size, workers=device.workers
    )
    net = stages.stage_net(recipe, number, data)
    prototxt.check_net(net)
    prototxt.write_message(net, folder / NET)
    solver = stage_solver(recipe, number, str(folder / NET), str(snapshots.partial_prefix(folder)))
    solver.display = 0  # log.csv has every iteration
    solver.solver_mode = caffe_pb2.SolverParameter.CPU if device.gpu is None else caffe_pb2.SolverParameter.GPU
    prototxt.write_message(solver, folder / SOLVER)
    whole = stages.parameter_layers(stages.recipe_deploy_net(recipe))
    Job(
        source=None if source is None else str(source),
        may_initialise=sorted(stages.new_layers(net, number)),
        may_leave=[RELEASE_CLASSIFIER] if number == 1 else sorted(set(whole) - set(stages.parameter_layers(net))),
        carry=number > 1,
        losses=[stages.loss_name(score) for score in stages.STAGE_LOSSES[number]],
        resume_from=step.first or None,
        snapshot_every=device.snapshot_every,
        gpu=device.gpu,
    ).write(folder)


def _source(run: RunFolder, settings: Settings, stage: int) -> Path | None:
    """The weights that a stage starts from; None: from scratch."""
    if stage > 1:
        return run.weights(stage - 1)
    return None if settings.weights is None else existing_file(settings.weights, "ImageNet weights")


def _source_changed(run: RunFolder, settings: Settings, stage: int, word: str, record: dict) -> bool:
    """Whether a stage started from other weights than it would now; a finished stage 1 needs its file no more."""
    if stage == 1 and word == "done" and settings.weights is not None and not Path(settings.weights).exists():
        return False
    return record.get("source_sha256") != source_hash(_source(run, settings, stage))


def _begun(run: RunFolder, stage: int) -> dict:
    """What the stage recorded when it began; empty when the record is gone."""
    path = run.stage(stage) / BEGUN
    return read_record(path, {"digest": str}) if path.is_file() else {}
