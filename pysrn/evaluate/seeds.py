"""SRN against its main net alone with the same number of iterations: test mAP over several seeds, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pysrn.evaluate.metrics import evaluate
from pysrn.evaluate.table import aligned
from pysrn.predict.predictions import load_predictions

COLUMNS = ("stage 1 score_cls", "score_cls", "score_att", "score_sr", "score", "main net alone", "score - alone")


def comparison(seeds: Sequence[int], runs: Sequence[tuple[Path, Path]], budget: int) -> str:
    """Table of test mAP (percent): one row a seed, then mean and sample standard deviation.

    `runs` are (run of SRN, run of the main net alone), both with predictions on the test split.
    """
    rows = np.array([_row(srn, alone) for srn, alone in runs])
    body = [[f"seed {seed}", *map(_percent, row)] for seed, row in zip(seeds, rows, strict=True)]
    body.append(["mean", *map(_percent, rows.mean(axis=0))])
    if len(rows) > 1:
        body.append(["standard deviation", *map(_percent, rows.std(axis=0, ddof=1))])
    return aligned(f"test mAP in percent; both trained for {budget} iterations", ["", *COLUMNS], body)


def mean_ap(path: Path) -> dict[str, float]:
    """mAP of every score in a predictions file with labels."""
    found = load_predictions(path)
    return {name: evaluate(scores, found.labels).mean_ap for name, scores in found.scores.items()}


def _row(srn: Path, alone: Path) -> list[float]:
    final = mean_ap(srn / "stage4" / "predictions_test.npz")
    first = mean_ap(srn / "stage1" / "predictions_test.npz")["score_cls"]
    baseline = mean_ap(alone / "stage1" / "predictions_test.npz")["score_cls"]
    scores = [final[name] for name in ("score_cls", "score_att", "score_sr", "score")]
    return [first, *scores, baseline, final["score"] - baseline]


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"
