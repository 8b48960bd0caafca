"""What the papers on sets and rankings of labels measure, image by image; fractions between 0 and 1."""

from __future__ import annotations

import numpy as np

DEPTH = 10  # of MAP@10, CNN-RNN's third measure; its definition is assumed, no source prints it


def exact_sets(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the images whose predicted labels are exactly theirs; N x C booleans."""
    return float((truth == predicted).all(axis=1).mean())


def map_at(logits: np.ndarray, truth: np.ndarray, depth: int = DEPTH) -> float:
    """Mean over the images of the average precision of their first `depth` labels; NaN where no image has a label.

    Of an image with R labels: the sum of the precisions at the ranks of its labels up to `depth`, over the lesser of R
    and `depth`. Equal scores keep the order of the classes. Images without a label are left out.
    """
    order = np.argsort(-logits, axis=1, kind="stable")[:, :depth]
    hits = np.take_along_axis(truth, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    count = truth.sum(axis=1)
    there = count > 0
    if not there.any():
        return float("nan")
    return float(((precision * hits).sum(axis=1)[there] / np.minimum(count[there], depth)).mean())
