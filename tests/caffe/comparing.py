"""Whether a child computed what stock Caffe does: outputs within 1e-5, gradients within BLAS's own rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from tests.caffe.running import GRADIENT, OUTPUT

OUTPUT_TOLERANCE = 1e-5  # of the greatest value above 1
# Relative L2 of gradients that a change of the order of a sum may make where no BLAS is involved, or where its kernels
# happen to sum alike: some dozens of units of float32's last place.
GRADIENT_ROUNDING = 5e-6

# A rectifier or a pooling whose input falls on the other side by rounding moves a net's gradient at once, by about as
# much as everything else together; the largest of some draws of stock Caffe is compared with one of another's.
LUCK = 1.5

Numbers = Mapping[str, np.ndarray]


def output_difference(expected: Numbers, found: Numbers) -> dict[str, float]:
    """Largest difference of every output, relative to its greatest value above 1; infinite where it is none."""
    worst = {}
    for name, values in expected.items():
        if name.startswith(OUTPUT):
            values, other = values.astype(np.float64), found[name].astype(np.float64)
            difference = np.abs(other - values).max(initial=0) / max(1.0, np.abs(values).max(initial=0))
            worst[name] = float(difference) if np.isfinite(difference) else np.inf
    return worst


def gradient_difference(expected: Numbers, found: Numbers) -> float:
    """Relative L2 over all gradients of a case, each part (a blob of a layer) weighing the same.

    Weighing the same, because the trunk's gradients are larger than those of the heads by orders of magnitude and would
    hide them. A part without any gradient must have none here, too.
    """
    squares = []
    for name, values in expected.items():
        if name.startswith(GRADIENT) and not _is_rounding(name, expected):
            values = values.astype(np.float64)
            size, difference = np.linalg.norm(values), np.linalg.norm(found[name].astype(np.float64) - values)
            squares.append((difference / size) ** 2 if size else np.inf if difference else 0.0)
    worst = np.sqrt(np.mean(squares)) if squares else 0.0
    return float(worst) if np.isfinite(worst) else np.inf


def allowed_gradient_difference(stocks: Sequence[Numbers]) -> float:
    """The largest difference that stock Caffe shows against itself with other BLAS kernels: `stocks`, all pairs."""
    return max([GRADIENT_ROUNDING, *(gradient_difference(one, other) for one, other in combinations(stocks, 2))])


def _is_rounding(name: str, expected: Numbers) -> bool:
    """Whether a part's gradient is zero but for rounding: the softmax behind it makes that of att_conv3's bias so."""
    return "att_conv3.1" in name
