"""Logits as probabilities."""

from __future__ import annotations

import numpy as np


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64, in the authors' form, which keeps very small ones apart."""
    with np.errstate(over="ignore"):  # exp(-x) = inf below x = -709: probability 0
        return 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
