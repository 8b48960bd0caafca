"""Trained weights: where a run keeps them, which run they are of, and which net they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.nets.folding import Weights
from pysrn.recipes import EMBEDDED
from pysrn.systems.registry import default_system, recognise
from pysrn.systems.stage_nets import check_of_recipe
from pysrn.systems.system import Architecture, System
from pysrn.train.fixed.feature_room import FEATURES
from pysrn.train.run_folder import RUNS, RunFolder
from pysrn.train.settings import Settings
from pysrn.train.stage.files import WEIGHTS


def find_weights(path: str | Path, stage: int | None = None) -> Path:
    """The caffemodel meant by `path`: a file, a stage's folder, or a run's folder (its last stage, or `stage`).

    Raises MissingError saying which stages are there, UsageError for a stage number that does not apply.
    """
    path = Path(path)
    if path.is_file():
        if stage is not None:
            raise UsageError(f"{path} is a file: a stage can be chosen in a run's folder only")
        return path
    if not path.is_dir():
        cure = RunFolder(path).command(stage or default_system().last_stage)
        raise MissingError(f"weights not found: neither a file nor a folder {path}", cure)
    if stage is None and (path / WEIGHTS).is_file():
        return path / WEIGHTS
    run, system = RunFolder(path), system_of(path)
    stage = system.stage(stage or system.last_stage).number
    if not run.weights(stage).is_file():
        done = [str(one.number) for one in system.stages if run.weights(one.number).is_file()]
        there = f"finished stages: {', '.join(done)}" if done else "no finished stage is there"
        raise MissingError(f"no file {run.weights(stage)}; {there}", run.command(stage))
    return run.weights(stage)


def default_run(runs: Path = RUNS) -> Path:
    """The run meant when none is named: the one in `runs` that was finished last, else runs/shapes."""
    default_system()  # what is wrong with all systems is no single run's fault, and is raised
    finished = []
    for path in runs.glob("*"):
        try:
            weights = RunFolder(path).weights(system_of(path).last_stage)
        except SrnError:  # a damaged or foreign run.json: who names the run hears of it
            continue
        if weights.is_file():
            finished.append((weights.stat().st_mtime_ns, path))
    return max(finished)[1] if finished else runs / EMBEDDED


def system_of(path: str | Path) -> System:
    """The system of the run that a path is of or in; the default one where it is of none."""
    settings = settings_of(path)
    return default_system() if settings is None else settings.recipe.system


def baseline_weights(weights: Path) -> Path:
    """Weights of the baseline alone, of the run that the caffemodel `weights` is of; else `weights`."""
    run = RunFolder(weights.parent.parent)
    settings = run.read_settings()
    first = settings and run.weights(settings.recipe.system.baseline.stage)
    return first if first and first.is_file() else weights


def features_of(weights: Path) -> Path:
    """The folder for trunk features of the run that the caffemodel `weights` is of; UsageError where it is of none."""
    run = RunFolder(weights.absolute().parent.parent)
    if run.read_settings() is None:
        raise UsageError(f"{weights} is of no run that could keep its features", "give --cache-folder FOLDER")
    return run.path / FEATURES


def settings_of(path: str | Path) -> Settings | None:
    """The settings of the run that a caffemodel, a stage's or a run's folder belongs to, or None."""
    path = Path(path).absolute()
    for folder in (path, *path.parents[:2]):
        if folder.is_dir() and (settings := RunFolder(folder).read_settings()) is not None:
            return settings
    return None


def architecture_of(weights: Weights, source: str | Path) -> Architecture:
    """The net that weights belong to: of the system of their run, else of the first that knows them.

    SrnError where they are of none, or of another net than their run.
    """
    settings = settings_of(source)
    found = recognise(weights, source, settings and settings.recipe.system)
    if settings:
        check_of_recipe(weights, found, settings.recipe, str(source))
    return found


def check_own_classes(classes: Sequence[str], weights: Path, where: str | Path) -> None:
    """Raise SrnError where labels are others than those of the run that weights belong to, though as many."""
    settings = settings_of(weights)
    if settings and tuple(classes) != (own := settings.recipe.dataset.classes):
        number = next((i for i, pair in enumerate(zip(classes, own, strict=False)) if pair[0] != pair[1]), len(own))
        raise SrnError(
            f"{where} has other labels than {weights} was trained on: number {number} is {classes[number]}, "
            f"not {own[number]}",
            "give the data set that these weights were trained on (--data)",
        )
