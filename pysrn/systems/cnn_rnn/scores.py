"""What a search says of each label, as logits that everybody else can read: above 0 is yes.

No source says how the paper ranked labels for its AP. So each way has a name of its own.

| score          | yes                     | order                                                                 |
|----------------|-------------------------|-----------------------------------------------------------------------|
| `score_first`  | more probable than END in the first step | by the first step alone (the net's own output)       |
| `score_greedy` | above 1/2               | greatest probability over the greedy path                             |
| `score_visits` | above 1/2               | expected visits: the part of the found paths' probability with the label |
| `score`        | on the best path        | the path's labels in their order, then the others by expected visits  |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pysrn.systems.cnn_rnn.beam_search import Path, Step, greedy, search, visits

NAMES = ("score_greedy", "score_visits", "score")
LEAST = 1e-7  # a probability nearer to 0 or 1 counts as this near: logits stay finite


def scores_of(
    step: Step, images: int, classes: int, width: int, shortest: int
) -> tuple[dict[str, np.ndarray], list[list[Path]]]:
    """Name -> float32 N x C logits, and the paths that were found, the best first."""
    paths = search(step, images, classes, width, shortest)
    visited = visits(paths, classes)
    found = {
        "score_greedy": _logits(greedy(step, images, classes, shortest)),
        "score_visits": _logits(visited),
        "score": best_path_score(paths, visited),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}, paths


def best_path_score(paths: Sequence[Sequence[Path]], visited: np.ndarray) -> np.ndarray:
    """N x C: above 0 for the labels of each image's best path, the first highest; the others below, by visits."""
    classes = visited.shape[1]
    found = visited - 1 - 2 * LEAST  # below 0, even where each path comes by
    for row, candidates in enumerate(paths):
        labels = list(candidates[0].labels)
        found[row, labels] = 1 - np.arange(len(labels)) / (classes + 1)
    return found


def _logits(probabilities: np.ndarray) -> np.ndarray:
    inside = np.clip(probabilities, LEAST, 1 - LEAST)
    return np.log(inside) - np.log1p(-inside)
