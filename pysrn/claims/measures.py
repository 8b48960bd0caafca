"""Measures that every system has: of the scores of test images, alone or as a mean of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pysrn.claims.claim import Measure, Trained
from pysrn.evaluate.metrics import evaluate

DEALS = 20  # how often the labels are dealt out anew for the chance; assumed

Scored = Callable[[np.ndarray, np.ndarray], float]  # logits and labels, N x C each -> a fraction


def mean_ap(stage: int, **shares: float) -> Measure:
    """mAP of a stage's score, or of a weighted mean of several: `score_cls=0.5, score_sr=0.5`."""
    return of_scores("mAP", lambda logits, labels: evaluate(logits, labels).mean_ap, stage, shares)


def exact_sets(stage: int, **shares: float) -> Measure:
    """Share of the test images whose predicted labels are exactly theirs."""
    return of_scores("exact sets", lambda logits, labels: evaluate(logits, labels).exact_sets, stage, shares)


def of_scores(title: str, measure: Scored, stage: int, shares: Mapping[str, float]) -> Measure:
    """What `measure` makes of the scores; its chance is the mean of the same with the label rows dealt out anew."""

    def read(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
        found = trained.predictions(stage)
        return sum(share * found.scores[name] for name, share in shares.items()), found.labels

    def chance(trained: Trained) -> float:
        logits, labels = read(trained)
        random = np.random.default_rng(0)
        return float(np.mean([measure(logits, labels[random.permutation(len(labels))]) for _ in range(DEALS)]))

    named = " + ".join(name if share == 1 else f"{share:g} {name}" for name, share in shares.items())
    return Measure(f"{title} of {named}", lambda trained: measure(*read(trained)), (stage,), chance)
