"""Do two ways to say how near labels are to each other agree? Spearman's rank correlation over the pairs of labels."""

from __future__ import annotations

import numpy as np


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho of two lists of equal length; equal values share the mean of their ranks, NaN for a constant."""
    ranks = [_ranks(np.asarray(values, float)) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    size = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / size) if size else float("nan")


def of_pairs(nearness: np.ndarray) -> np.ndarray:
    """[C (C - 1) / 2]: the numbers of a symmetric C x C matrix, each pair once, without the diagonal."""
    return nearness[np.triu_indices(len(nearness), 1)]


def cosines(rows: np.ndarray) -> np.ndarray:
    """C x C: cosine of the angle between each two rows; a row of zeros is at right angles to all."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    directions = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return directions @ directions.T


def together(labels: np.ndarray) -> np.ndarray:
    """C x C: of the images that have one of two labels, the share that has both (N x C, 1: has it)."""
    has = (labels == 1).astype(float)
    both = has.T @ has
    either = both.diagonal()[:, None] + both.diagonal() - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 0; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[which]
