"""A system against its baseline alone with the same number of iterations: test mAP over several seeds, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pysrn.evaluate.current_labels import load_labelled
from pysrn.evaluate.metrics import evaluate
from pysrn.evaluate.table import aligned
from pysrn.systems.system import System
from pysrn.train.run_folder import RunFolder


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
    body = [[f"seed {seed}", *map(_percent, row)] for seed, row in zip(seeds, rows, strict=True)]
    body.append(["mean", *map(_percent, rows.mean(axis=0))])
    if len(rows) > 1:
        body.append(["standard deviation", *map(_percent, rows.std(axis=0, ddof=1))])
    return aligned(f"test mAP in percent; both trained for {budget} iterations", ["", *columns(system)], body)


def mean_ap(path: Path) -> dict[str, float]:
    """mAP of every score in a predictions file with labels."""
    (found,) = load_labelled([path])
    return {name: evaluate(scores, found.labels).mean_ap for name, scores in found.scores.items()}


def _row(system: System, whole: Path, alone: Path) -> list[float]:
    def of_stage(run: Path, stage: int) -> dict[str, float]:
        return mean_ap(RunFolder(run).stage(stage) / "predictions_test.npz")

    baseline = system.baseline
    final = of_stage(whole, system.last_stage)
    first, budgeted = (of_stage(run, baseline.stage)[baseline.score] for run in (whole, alone))
    scores = [final[name] for name in system.final_scores]
    return [first, *scores, budgeted, final[system.result] - budgeted]


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"
