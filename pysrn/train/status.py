"""How far a run is, for `tools/run_stage.py --status`: from its folder alone, while it runs or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from pysrn.console import MissingError
from pysrn.train.run_folder import RUN_FILE, RunFolder
from pysrn.train.settings import Settings
from pysrn.train.stage.stage_log import COLUMNS, LOG, VALIDATION_LOG, read_columns

LAST = 20  # iterations whose mean loss is shown


def runs_in(folder: Path) -> list[RunFolder]:
    """The runs of a folder, by name; MissingError where there is none."""
    found = [RunFolder(path.parent) for path in sorted(folder.glob(f"*/{RUN_FILE}"))]
    if not found:
        raise MissingError(f"there is no run in {folder}", "tools/run_stage.py 1 begins one")
    return found


def status(runs: Sequence[RunFolder]) -> list[str]:
    """The lines of each run; MissingError where one is not there."""
    lines = []
    for run in runs:
        settings = run.read_settings()
        if settings is None:
            raise MissingError(f"there is no run in {run.path}", f"{run.command(1)} begins one")
        lines += _status(run, settings)
    return lines


def _status(run: RunFolder, settings: Settings) -> list[str]:
    """One line a stage: how far it is, the mean loss of its last iterations, rate, time left, best validation loss."""
    recipe = settings.recipe
    facts = [recipe.dataset.name, recipe.trunk, recipe.system.words_of(recipe), f"data {settings.data}"]
    lines = [f"{run.path}: {recipe.system.title}, {', '.join(filter(None, facts))}"]
    for number in recipe.stage_numbers:
        name, folder = recipe.system.stage(number).name, run.stage(number)
        state, total = run.state(number), recipe.iterations(number)
        word, iteration, parts = state.word, state.iteration, []
        if rows := read_columns(folder / LOG, COLUMNS)[-LAST:]:
            iterations, losses, rates, seconds = zip(*rows, strict=True)
            parts.append(f"loss {fmean(losses):.4f}, lr {rates[-1]:g}")
            if state.word != "done":
                word, iteration = "begun", int(iterations[-1])
                parts.append(f"{_duration((total - iteration) * median(seconds))} left at most")
                parts.append(f"saved up to {state.iteration}")
            if validated := read_columns(folder / VALIDATION_LOG, ("loss", "iteration")):
                best, where = min(validated)
                parts.append(f"best validation loss {best:.4f} in iteration {int(where)}")
        if state.word == "done":
            parts.append(f"{state.manifest['seconds']:.0f} s")
        lines.append(f"stage {number} {name:<12} {word:<10} {', '.join([f'{iteration}/{total}', *parts])}")
    return lines


def _duration(seconds: float) -> str:
    """`42 s`, `12 min` or `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
