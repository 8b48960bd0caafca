"""Tables over several seeds: a system against its baseline alone, and systems that begin with the same first stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pysrn.evaluate.current_labels import load_labelled
from pysrn.evaluate.metrics import Evaluation, evaluate
from pysrn.evaluate.table import aligned
from pysrn.systems.system import System
from pysrn.train.run_folder import RunFolder

MEASURES: dict[str, Callable[[Evaluation], float]] = {
    "mAP": lambda found: found.mean_ap,
    "F1-C": lambda found: found.decisions["threshold"]["F1-C"],
    "F1-O": lambda found: found.decisions["threshold"]["F1-O"],
    "exact sets": lambda found: found.exact_sets,
}


def columns(system: System) -> list[str]:
    """Titles of the table's columns."""
    baseline, result = system.baseline, system.result
    first = f"stage {baseline.stage} {baseline.score}"
    return [first, *system.final_scores, f"{baseline.title} alone", f"{result} - alone"]


def comparison(system: System, seeds: Sequence[int], runs: Sequence[tuple[Path, Path]], budget: int) -> str:
    """Table of test mAP (percent): one row a seed, then mean and sample standard deviation.

    `runs` are (run of the system, run of the baseline alone), both with predictions on the test split.
    """
    rows = np.array([_row(system, whole, alone) for whole, alone in runs])
    title = f"test mAP in percent; both trained for {budget} iterations"
    return aligned(title, ["", *columns(system)], _body(seeds, rows))


def side_by_side(chosen: Sequence[System], seeds: Sequence[int], runs: Sequence[Sequence[Path]]) -> str:
    """Tables of test figures (percent) of systems beside the first stage that they share, a table a measure.

    A row a seed, then mean, sample standard deviation, and with how many seeds the system is above the first stage.
    `runs`: for each seed a run of each system, with predictions on the test split; of the first stage the first
    system's are read. A system whose result only orders has a column of its probable score, too.
    """
    baseline = chosen[0].baseline
    shown = [(system, name) for system in chosen for name in (system.probable, system.result) if name]
    titles = [f"stage {baseline.stage} {baseline.score}", *(f"{system.title} {name}" for system, name in shown)]
    found = [_evaluations(chosen, of_seed, shown) for of_seed in runs]
    lines = []
    for measure, of in MEASURES.items():
        rows = np.array([[of(one) for one in row] for row in found])
        body = _body(seeds, rows)
        wins = (rows[:, 1:] > rows[:, :1]).sum(axis=0)
        body.append([f"above stage {baseline.stage}", "", *(f"{count} of {len(rows)}" for count in wins)])
        lines += [aligned(f"test {measure} in percent", ["", *titles], body), ""]
    meanings = {(system, score.name): score.meaning for system in chosen for score in system.scores}
    lines += [
        f"{system.title} {name}: {meanings[system, name]}; all its figures are of this score" for system, name in shown
    ]
    return "\n".join(lines)


def mean_ap(path: Path) -> dict[str, float]:
    """mAP of every score in a predictions file with labels."""
    (found,) = load_labelled([path])
    return {name: evaluate(scores, found.labels).mean_ap for name, scores in found.scores.items()}


def _body(seeds: Sequence[int], rows: np.ndarray) -> list[list[str]]:
    """A row a seed, mean and sample standard deviation."""
    body = [[f"seed {seed}", *map(_percent, row)] for seed, row in zip(seeds, rows, strict=True)]
    body.append(["mean", *map(_percent, rows.mean(axis=0))])
    if len(rows) > 1:
        body.append(["standard deviation", *map(_percent, rows.std(axis=0, ddof=1))])
    return body


def _evaluations(
    chosen: Sequence[System], runs: Sequence[Path], shown: Sequence[tuple[System, str]]
) -> list[Evaluation]:
    """Of one seed: the shared first stage, then what is shown of the systems."""
    baseline = chosen[0].baseline
    paths = [_predictions(runs[0], baseline.stage)]
    paths += [_predictions(run, system.last_stage) for system, run in zip(chosen, runs, strict=True)]
    first, *rest = load_labelled(paths)
    finals = dict(zip(chosen, rest, strict=True))
    scores = [(first, baseline.score), *((finals[system], name) for system, name in shown)]
    return [evaluate(found.scores[name], found.labels) for found, name in scores]


def _predictions(run: Path, stage: int) -> Path:
    return RunFolder(run).stage(stage) / "predictions_test.npz"


def _row(system: System, whole: Path, alone: Path) -> list[float]:
    def of_stage(run: Path, stage: int) -> dict[str, float]:
        return mean_ap(_predictions(run, stage))

    baseline = system.baseline
    final = of_stage(whole, system.last_stage)
    first, budgeted = (of_stage(run, baseline.stage)[baseline.score] for run in (whole, alone))
    scores = [final[name] for name in system.final_scores]
    return [first, *scores, budgeted, final[system.result] - budgeted]


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"
