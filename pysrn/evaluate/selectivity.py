"""What single neurons tell: how well the best one of many separates two kinds of images."""

from __future__ import annotations

import numpy as np


def selectivity(answers: np.ndarray, truth: np.ndarray) -> float:
    """How well one neuron of many tells images that are true from others: 0.5 by chance, 1 without an error.

    `answers` are N x K, `truth` N booleans. The neuron, and its sign, is chosen on every other image and judged on the
    rest, or the best of many would look selective by chance. The measure is the area under the ROC curve. NaN where a
    half of the images has one kind alone.
    """
    chosen, judged = slice(0, None, 2), slice(1, None, 2)
    if min(truth[half].sum() for half in (chosen, judged)) == 0 or truth[chosen].all() or truth[judged].all():
        return float("nan")
    areas = areas_under_curves(answers[chosen], truth[chosen])
    best = int(np.abs(areas - 0.5).argmax())
    found = areas_under_curves(answers[judged, best : best + 1], truth[judged])[0]
    return float(found if areas[best] >= 0.5 else 1 - found)


def areas_under_curves(answers: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[K]: how often a true image has a greater answer than another, equal ones counted as a half."""
    true, other = np.sort(answers[truth], axis=0), np.sort(answers[~truth], axis=0)
    found = np.empty(answers.shape[1])
    for neuron in range(answers.shape[1]):
        below, up_to = (np.searchsorted(other[:, neuron], true[:, neuron], side) for side in ("left", "right"))
        found[neuron] = (below + up_to).sum() / (2 * len(true) * len(other))
    return found
