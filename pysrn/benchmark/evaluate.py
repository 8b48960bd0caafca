"""Speed of the metrics: average precision against scikit-learn's class by class, and whole evaluations.

`tools/benchmark.py evaluate` prints what this returns. Labels and scores are drawn, as many and as rare as on MS-COCO;
the scores are such that most positives stand among the first, as a trained net's do.
"""

from __future__ import annotations

import statistics

import numpy as np

from pysrn.benchmark.timing import alternate, seconds_of, summary, summary_lines
from pysrn.console import SrnError
from pysrn.evaluate.bootstrap import TOGETHER, resampled_mean_ap
from pysrn.evaluate.metrics import average_precision, evaluate
from pysrn.predict.probability import sigmoid

OURS, PEER = "pysrn", "scikit-learn, a class at a time"
SEED = 0
POSITIVE_SHARE = 0.036  # 2.9 of 80 labels an image: MS-COCO's test split


def drawn(images: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 logits and int8 labels (1 and 0), N x C, of a stored seed."""
    random = np.random.default_rng(SEED)
    truth = (random.random((images, labels)) < POSITIVE_SHARE).astype(np.int8)
    return (random.normal(-3, 1, truth.shape) + 3 * truth).astype(np.float32), truth


def measure(images: int, labels: int, rounds: int) -> dict:
    """Rates of average precision (`average_precision`: ours, the peer, ratios), seconds of the rest.

    Raises SrnError when both do not find the same average precision.
    """
    from sklearn.metrics import average_precision_score

    logits, truth = drawn(images, labels)
    probabilities = sigmoid(logits)
    held = np.flatnonzero(truth.any(axis=0))

    def ours() -> np.ndarray:
        return average_precision(probabilities, truth, False)[1][held]

    def peer() -> np.ndarray:
        return np.array([average_precision_score(truth[:, c], probabilities[:, c]) for c in held])

    difference = float(np.abs(ours() - peer()).max(initial=0))
    if difference > 1e-3:  # equal float32 scores, which the peer counts as one rank, move it by less
        raise SrnError(f"the two average precisions differ by {difference}")
    figures = alternate({OURS: lambda: 1 / seconds_of(ours), PEER: lambda: 1 / seconds_of(peer)}, rounds)
    whole = [seconds_of(lambda: evaluate(logits, truth)) for _ in range(rounds)]
    return {
        "images": images,
        "labels": labels,
        "average_precision": summary(figures, OURS),
        "largest_difference": difference,
        "evaluate_seconds": {"median": statistics.median(whole), "most": max(whole), "rounds": whole},
        "resamples_per_second": TOGETHER / seconds_of(lambda: resampled_mean_ap(logits, truth, TOGETHER)),
    }


def report_lines(found: dict) -> list[str]:
    """The lines that say what was measured."""
    ap, whole = found["average_precision"], found["evaluate_seconds"]
    rate = found["resamples_per_second"]
    return [
        f"average precision of {found['images']} x {found['labels']}, matrices/s",
        *summary_lines(ap, digits=2, ratio_digits=1),
        f"all metrics: {whole['median']:.3f} s, at most {whole['most']:.3f} s",
        f"bootstrap: {rate:.0f} resamples/s, 1000 in {1000 / rate:.0f} s",
    ]
