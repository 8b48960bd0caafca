"""How far mAP would move with other test images: a bootstrap over the images, from one ranking of the scores.

A resample only changes how often each image counts. So every class is ranked once, and the ranked list of a resample
is read off running sums of those counts, many resamples at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pysrn.console import Progress
from pysrn.evaluate.metrics import average_precision, check, mean_defined, reads_zero_as_unspecified
from pysrn.predict.probability import sigmoid

RESAMPLES = 1000  # assumed: the ends of a 95 % interval are then steady to about 2 % of its width
LEVEL = 0.95
TOGETHER = 64  # resamples computed at once: a row of their counts is a few cache lines


@dataclass(frozen=True)
class Interval:
    """Where the middle `level` of the mAP of `resamples` resamples lies, drawn with `seed`; fractions."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int

    def to_json(self, scale: float = 1.0) -> dict:
        """Plain values, the ends times `scale`, None where they are not defined."""
        ends = {name: None if math.isnan(x) else scale * x for name, x in (("low", self.low), ("high", self.high))}
        return ends | {"level": self.level, "resamples": self.resamples, "seed": self.seed}


def mean_ap_interval(logits: np.ndarray, labels: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Interval around the mAP of N x C `logits` and `labels`; raises as `resampled_mean_ap`.

    A resample has some positives several times, which lifts the AP of rare classes: the mean over the resamples lies
    above mAP. They are moved by that distance, so the interval says where mAP on as many other images would be.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    values = resampled_mean_ap(logits, labels, resamples, seed)
    low = high = math.nan
    if np.isfinite(values).any():
        ap, _ = average_precision(sigmoid(logits), labels, reads_zero_as_unspecified(labels))
        moved = values + mean_defined(ap) - np.nanmean(values)
        low, high = np.clip(np.nanquantile(moved, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]), 0, 1)
    return Interval(float(low), float(high), LEVEL, resamples, seed)


def resampled_mean_ap(logits: np.ndarray, labels: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """[resamples] mAP (VOC 2012) over resamples of the images; the same `seed` draws the same images for any scores.

    A resample's images keep their order, which decides among equal scores. Classes without a positive in it are left
    out of its mean; NaN where none has one. Raises SrnError as `metrics.evaluate` does.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    check(logits, labels)
    zero_is_unspecified = reads_zero_as_unspecified(labels)
    rankings = [
        _ranking(score, label, zero_is_unspecified) for score, label in zip(sigmoid(logits).T, labels.T, strict=True)
    ]
    random = np.random.default_rng(seed)
    sums, defined = np.zeros(resamples), np.zeros(resamples, int)
    bar = Progress(resamples, "resampling the images", "resamples")
    for start in range(0, resamples, TOGETHER):
        part = slice(start, min(start + TOGETHER, resamples))
        counts = np.stack([draw(random, len(labels)) for _ in range(part.start, part.stop)], axis=1)
        for order, places in rankings:
            if len(places):
                ap = _average_precision(counts[order], places)
                sums[part] += np.nan_to_num(ap)
                defined[part] += ~np.isnan(ap)
        bar.update(part.stop - part.start)
    bar.close()
    return np.where(defined, sums / np.maximum(defined, 1), np.nan)


def draw(random: np.random.Generator, images: int) -> np.ndarray:
    """int32 [images]: how often each image is drawn, with replacement, in one resample of the same size."""
    return np.bincount(random.integers(0, images, images), minlength=images).astype(np.int32)


def _ranking(scores: np.ndarray, labels: np.ndarray, zero_is_unspecified: bool) -> tuple[np.ndarray, np.ndarray]:
    """Image numbers by falling score, down to the last positive, and the places of the positives among them."""
    order = np.argsort(-scores, kind="stable")
    if zero_is_unspecified:
        order = order[labels[order] != 0]
    places = np.flatnonzero(labels[order] == 1)
    return order[: places[-1] + 1 if len(places) else 0], places


def _average_precision(counts: np.ndarray, places: np.ndarray) -> np.ndarray:
    """AP of each resample (columns) from the counts of the ranked images; NaN without a positive.

    The copies of a positive stand together and precision rises along them, so the envelope over all of them is that
    at the last one.
    """
    drawn = counts[places]
    hits = np.cumsum(drawn, axis=0)
    images = np.cumsum(np.add.reduceat(counts, np.append(0, places[:-1] + 1), axis=0), axis=0)
    precision = hits / np.maximum(images, 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    positives = np.where(hits[-1] > 0, hits[-1], np.nan)
    return (drawn * envelope).sum(axis=0) / positives
