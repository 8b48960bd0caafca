"""The statistics and the rule that turn paired differences over seeds into a verdict (D16).

The rule stands in `RULE`, as docs/claims.md prints it; it was fixed before any row was run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GAIN, NO_LOSS, FACT = "gain", "no loss", "fact"
HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "fails", "undecided", "not run"
LEAST_GAIN, MARGIN = 0.5, 1.0  # points; assumed: a quarter and a half of the printed gain of SRN of 1.9 on MS-COCO
FEWEST = 3  # seeds that give a verdict; assumed
# Student's t, 97.5 % quantile, of 1 to 30 degrees of freedom (any table of it); the tests hold them to SciPy's.
QUANTILES = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
RULE = """\
## The rule

It was written before any row was run.

- A row compares two nets of one seed: the one that the claim favours, less the other. Points are hundredths.
- Of n seeds come the mean d and the sample standard deviation s of these differences.
- The interval is d - h to d + h with h = t s / sqrt(n). t is Student's 97.5 % quantile of n - 1 degrees of freedom.
- A row says *gain* (the favoured is better), *no loss* (it is as good) or *fact* (a number that is counted).

| row | fails | holds | else |
|---|---|---|---|
| gain | the upper end is below 0.5 | it does not fail, and the lower end is above 0 | undecided |
| no loss | the upper end is below 0, and it does not hold | the lower end is above -1 | undecided |
| fact | the number is outside the range that the row names | it is within | - |

- A net that learned nothing proves nothing. Its chance is its own measure with the test labels dealt out anew.
  A row fails where the lower end of *favoured less chance*, over the same seeds, is not above 0.
- Fewer than 3 seeds give no verdict: the row is undecided.
- A claim holds on a data set where all of its rows hold. It fails where one fails. Else it is undecided.
- 0.5 points are a quarter of the 1.9 mAP that the first paper prints as its gain on MS-COCO. 1 point is half of it.
  Both are assumed.
- The intervals are of seeds: other weights and another order of the images. They do not speak of other test images.
- Rows are not corrected for their number. Of 40 true ties one is expected to look like a gain.

What is chosen is chosen on a part of the training images that is held out. Both nets of a row get as many tries.
The test images are looked at once a finished row. A second look is refused, or counted in the row.
"""


@dataclass(frozen=True)
class Interval:
    """Mean of n values and the ends of its 95 % interval by Student's t, which are infinite for one value."""

    mean: float
    low: float
    high: float
    count: int


def t_interval(values: Sequence[float]) -> Interval:
    """The interval of the mean of independent values; of paired ones give the differences."""
    found = np.asarray(values, float)
    if len(found) < 2:
        return Interval(float(found.mean()), -math.inf, math.inf, len(found))
    quantile = QUANTILES[min(len(found) - 1, len(QUANTILES)) - 1]  # of more than 31: a little too wide
    half = quantile * float(found.std(ddof=1)) / math.sqrt(len(found))
    mean = float(found.mean())
    return Interval(mean, mean - half, mean + half, len(found))


def verdict(kind: str, differences: Sequence[float], above_chance: Sequence[float]) -> str:
    """HOLDS, FAILS or UNDECIDED for a row: differences, and what the favoured has above chance, in points, by seed."""
    found = t_interval(differences)
    if found.count < FEWEST:
        return UNDECIDED
    if not t_interval(above_chance).low > 0:
        return FAILS
    if kind == NO_LOSS:
        return HOLDS if found.low > -MARGIN else FAILS if found.high < 0 else UNDECIDED
    return FAILS if found.high < LEAST_GAIN else HOLDS if found.low > 0 else UNDECIDED


def of_fact(value: float, low: float, high: float) -> str:
    """HOLDS where a number is within its range, else FAILS."""
    return HOLDS if low <= value <= high else FAILS


def together(verdicts: Sequence[str]) -> str:
    """Of a claim, from those of its rows."""
    if not verdicts:
        return NOT_RUN
    if FAILS in verdicts:
        return FAILS
    return HOLDS if set(verdicts) == {HOLDS} else UNDECIDED
