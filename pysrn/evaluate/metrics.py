"""Multi-label metrics as the SRN authors compute them (`evaluate.m`, official repo), in pure NumPy.

Everything is a fraction between 0 and 1. The other conventions of the field stand beside the authors' under
their own names: `mAP_non_interpolated`, `mAP_11_point`, `F1-C_harmonic`, `top3_forced`, `top3_thresholded`.

Labels are 1 (yes), -1 (no) and 0. A matrix without any -1 is an ordinary one, where 0 means no. Where there
is a -1, 0 means unspecified (WIDER-Attribute, VOC's difficult objects): ignored by average precision, counted
as "no" by precision, recall and F1 (official repo, get_mAP_eccv16.m and evaluate.m).

Defined besides: equal scores keep the order of images (AP) and of classes (top 3); a class without a positive image
has no AP and is left out of mAP (the authors' script makes mAP NaN); scores that are not finite are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pysrn.console import SrnError
from pysrn.evaluate.by_image import exact_sets, map_at
from pysrn.predict.probability import sigmoid

# Thresholds of logits, of which the best on the test data is taken: MSRN's released code, util.py.
SWEPT = tuple(round(-1 + 0.1 * step, 1) for step in range(20))
EPSILON = 2.0**-52  # MATLAB's eps; official repo, precision_recall_f1.m
THRESHOLD = 0.5  # a label is predicted where its probability is strictly greater; official repo, evaluate.m
TOP = 3  # official repo issue 1: top-3 labels, after CNN-RNN
BUCKET_BITS = 16  # 65,536 buckets: more than the images of most test sets, and their counts stay in the cache
BLOCKS = ("threshold", "top3_forced", "top3_thresholded")
DECISION_METRICS = ("F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O", "F1-C_harmonic")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one score matrix.

    Attributes:
        mean_ap: mean of the VOC 2012 average precision over the classes that have a positive image.
        mean_ap_non_interpolated: the same without the precision envelope.
        mean_ap_11_point: mean of the VOC 2007 average precision.
        decisions: `BLOCKS` -> `DECISION_METRICS` -> value.
        optimistic: what `best_threshold` finds.
        exact_sets, map_at_10: see `by_image.py`.
        average_precision, average_precision_non_interpolated, average_precision_11_point: [C], NaN where a class has no
            positive image.
        precision, recall, f1: [C], of decisions by threshold.
        positives: [C] number of positive images.
        chance: [C] share of positives among the images that count: about the AP of a random ranking.
        images: N.
        zero_is_unspecified: which reading of label 0 was used.
    """

    mean_ap: float
    mean_ap_non_interpolated: float
    mean_ap_11_point: float
    decisions: dict[str, dict[str, float]]
    optimistic: dict[str, float]
    exact_sets: float
    map_at_10: float
    average_precision: np.ndarray
    average_precision_non_interpolated: np.ndarray
    average_precision_11_point: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    positives: np.ndarray
    chance: np.ndarray
    images: int
    zero_is_unspecified: bool


def evaluate(
    logits: np.ndarray, labels: np.ndarray, zero_is_unspecified: bool | None = None, what: str = "scores"
) -> Evaluation:
    """All metrics of N x C `logits` against N x C `labels` in {1, 0, -1}.

    `zero_is_unspecified` None: decided by the labels (see the module's text). `what` names the scores.

    Raises:
        SrnError: shapes differ, no image, a score that is not finite, a label outside {1, 0, -1}.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    check(logits, labels, what)
    if zero_is_unspecified is None:
        zero_is_unspecified = reads_zero_as_unspecified(labels)
    probabilities = sigmoid(logits)
    ap, ap_non_interpolated, ap_11_point = _average_precisions(probabilities, labels, zero_is_unspecified)
    truth = labels == 1
    above = probabilities > THRESHOLD
    top = top_k(logits, TOP)
    decisions = dict(zip(BLOCKS, (above, top, top & above), strict=True))
    precision, recall, f1 = precision_recall_f1(truth, above)
    return Evaluation(
        mean_ap=mean_defined(ap),
        mean_ap_non_interpolated=mean_defined(ap_non_interpolated),
        mean_ap_11_point=mean_defined(ap_11_point),
        decisions={name: decision_metrics(truth, predicted) for name, predicted in decisions.items()},
        optimistic=best_threshold(logits, truth),
        exact_sets=exact_sets(truth, above),
        map_at_10=map_at(logits, truth),
        average_precision=ap,
        average_precision_non_interpolated=ap_non_interpolated,
        average_precision_11_point=ap_11_point,
        precision=precision,
        recall=recall,
        f1=f1,
        positives=truth.sum(axis=0),
        chance=truth.sum(axis=0) / np.maximum((labels != 0).sum(axis=0) if zero_is_unspecified else len(labels), 1),
        images=len(labels),
        zero_is_unspecified=zero_is_unspecified,
    )


def check(logits: np.ndarray, labels: np.ndarray, what: str = "scores") -> None:
    """Raise SrnError unless `logits` and `labels` are non-empty N x C matrices that can be evaluated."""
    if logits.ndim != 2 or logits.shape != labels.shape:
        raise SrnError(f"{what} are {_shape(logits)} (images x classes), labels are {_shape(labels)}")
    if not logits.size:
        raise SrnError(f"nothing to evaluate: {what} are {_shape(logits)} (images x classes)")
    bad = np.argwhere(~np.isfinite(logits))
    if len(bad):
        row, column = bad[0]
        raise SrnError(f"{what}: {len(bad)} of {logits.size} are not finite, the first of image {row}, class {column}")
    if not ((labels == 1) | (labels == 0) | (labels == -1)).all():
        raise SrnError("labels must be 1, 0 or -1")


def reads_zero_as_unspecified(labels: np.ndarray) -> bool:
    """Whether a label matrix says "no" by -1, so that 0 means unspecified."""
    return bool((labels == -1).any())


def average_precision(
    scores: np.ndarray, labels: np.ndarray, zero_is_unspecified: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision of every class, [C] each: VOC 2012 (all points under the envelope), non-interpolated.

    Equal scores keep the order of the images, as MATLAB's `sort` does. NaN for a class without a positive. Scores
    between 0 and 1 are the fast case. Recall rises by 1 / positives at each positive and nowhere else, so both areas
    are means over the positives, and only their ranks count.
    """
    return _average_precisions(scores, labels, zero_is_unspecified)[:2]


def _average_precisions(
    scores: np.ndarray, labels: np.ndarray, zero_is_unspecified: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same and, third, that of VOC 2007 (Everingham et al. 2010, Eq. 1 and 2).

    That is the mean of the envelope at the recalls 0, 0.1, ... 1. A recall k / 10 is reached with the first positive
    that makes it, compared in whole numbers: with floating-point numbers 3 of 10 may fall short of 3 times 0.1.
    """
    envelope, plain, eleven = np.full((3, labels.shape[1]), np.nan)
    columns = zip(np.ascontiguousarray(scores.T, np.float64), np.ascontiguousarray(labels.T), strict=True)
    for number, (score, label) in enumerate(columns):
        if zero_is_unspecified:
            score, label = score[label != 0], label[label != 0]
        if (positive := label == 1).any():
            ranks = _ranks_of(_descending_keys(score), positive)
            precision = np.arange(1, len(ranks) + 1) / ranks
            highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or above
            envelope[number], plain[number] = highest[::-1].mean(), precision.mean()
            reached = -(-np.arange(11) * len(ranks) // 10)  # positives that make k tenths
            eleven[number] = highest[np.maximum(reached, 1) - 1].mean()
    return envelope, plain, eleven


def _descending_keys(scores: np.ndarray) -> np.ndarray:
    """int64 keys that rise where the float64 scores fall: their bits, ordered by magnitude (IEEE 754), with a sign."""
    bits = (scores + 0.0).view(np.int64)  # -0.0 becomes 0.0
    if bits.min() < 0:
        bits ^= (bits >> 63) & np.int64(2**63 - 1)
    return ~bits


def _ranks_of(keys: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Ranks (from 1, rising) of the `positive` among all keys in rising, stable order.

    Sorting everything would take several times as long: keys are counted in buckets, and exact order is found only in
    those buckets that hold a positive.
    """
    low = keys.min()
    shift = max(0, (int(keys.max()) - int(low)).bit_length() - BUCKET_BITS)
    bucket = ((keys - low).view(np.uint64) >> np.uint64(shift)).view(np.int64)  # the difference may need all 64 bits
    counts = np.bincount(bucket, minlength=2**BUCKET_BITS)
    exact = np.zeros(2**BUCKET_BITS, bool)
    exact[bucket[positive]] = True
    near = np.flatnonzero(exact[bucket])
    near = near[np.argsort(keys[near], kind="stable")]
    holding = np.flatnonzero(exact)
    sizes = counts[holding]
    passed = np.cumsum(counts)[holding] - np.cumsum(sizes)  # keys of other buckets that come before
    ranks = np.repeat(passed, sizes) + np.arange(1, len(near) + 1)
    return ranks[positive[near]]


def precision_recall_f1(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, F1 of every column of two N x C boolean matrices, with the authors' `eps` rule.

    `eps` is added to the three counts, hence a class without positives and predictions scores 1, and one with
    positives but no prediction has precision 1 and recall (nearly) 0.
    Differs from the official repo: it adds `eps` to the recall too, which would make a perfect one exceed 1.
    """
    hits = (truth & predicted).sum(axis=0) + EPSILON
    precision = hits / (predicted.sum(axis=0) + EPSILON)
    recall = hits / (truth.sum(axis=0) + EPSILON)
    return precision, recall, 2 * precision * recall / (precision + recall)


def decision_metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """`DECISION_METRICS` of two N x C boolean matrices.

    F1-C is the mean of the classes' F1 (official repo, evaluate.m); F1-C_harmonic is the harmonic mean of P-C
    and R-C, as in CNN-RNN and ML-GCN. The -O metrics count all image-label pairs together.
    """
    per_class = precision_recall_f1(truth, predicted)
    precision_c, recall_c, f1_c = (float(values.mean()) for values in per_class)
    overall = precision_recall_f1(truth.reshape(-1, 1), predicted.reshape(-1, 1))
    precision_o, recall_o, f1_o = (float(values[0]) for values in overall)
    harmonic = 2 * precision_c * recall_c / (precision_c + recall_c)
    values = (f1_c, precision_c, recall_c, f1_o, precision_o, recall_o, harmonic)
    return dict(zip(DECISION_METRICS, values, strict=True))


def best_threshold(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """P, R and F1 at the one of the SWEPT logits with the greatest F1-C + F1-O, and it: `threshold`.

    As MSRN's released code has it (util.py): chosen on the data that it is measured on, so an upper bound and no
    result; F1-C is harmonic; what is never predicted counts as predicted once. A class without a positive has recall 0.
    """
    classes, steps = logits.shape[1], len(SWEPT) + 1
    reached = np.searchsorted(SWEPT, logits, side="right") + steps * np.arange(classes)  # so many thresholds
    said, hits = (
        np.bincount(reached[where], minlength=classes * steps).reshape(classes, steps)[:, :0:-1].cumsum(1)[:, ::-1].T
        for where in (np.ones(truth.shape, bool), truth)
    )
    said, there = np.maximum(said, 1), truth.sum(axis=0)
    precision, recall = (hits / said).mean(axis=1), (hits / np.maximum(there, 1)).mean(axis=1)
    overall = hits.sum(axis=1) / said.sum(axis=1), hits.sum(axis=1) / max(there.sum(), 1)
    f1_c, f1_o = (2 * p * r / np.maximum(p + r, EPSILON) for p, r in ((precision, recall), overall))
    best = int((f1_c + f1_o).argmax())
    values = (f1_c, precision, recall, f1_o, *overall)
    return {name: float(x[best]) for name, x in zip(DECISION_METRICS[:6], values, strict=True)} | {
        "threshold": SWEPT[best]
    }


def top_k(logits: np.ndarray, count: int) -> np.ndarray:
    """N x C boolean: the `count` highest scores of each row; among equal ones the lower class number wins."""
    chosen = np.zeros(logits.shape, bool)
    left = np.array(logits, np.result_type(logits, np.float32))  # a copy that can hold -inf
    rows = np.arange(len(left))
    for _ in range(min(count, left.shape[1])):
        highest = left.argmax(axis=1)  # the first of equal ones
        chosen[rows, highest] = True
        left[rows, highest] = -np.inf
    return chosen


def mean_defined(values: np.ndarray) -> float:
    """Mean of the defined values; NaN when there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _shape(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape)) or "a single number"
