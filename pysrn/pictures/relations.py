"""Which labels go together: shares of images, from the labels themselves or from a net's decisions.

Labels that depend on each other are what the spatial regulariser is for; the report shows whether it found them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST = 5  # images of both labels, for a relation that is shown; assumed


@dataclass(frozen=True)
class Relation:
    """Two labels: of the images with `given`, the share that has `also`; `share` of all images has it."""

    given: int
    also: int
    conditional: float
    share: float
    images: int


def conditional(yes: np.ndarray) -> np.ndarray:
    """C x C: of the images that have the label of the row, the share that has the column's; NaN for no image.

    `yes`: N x C boolean.
    """
    together = yes.T.astype(np.float64) @ yes.astype(np.float64)
    images = np.diag(together)[:, None]
    return np.divide(together, images, out=np.full_like(together, np.nan), where=images > 0)


def strongest(yes: np.ndarray, count: int) -> list[Relation]:
    """The `count` pairs whose share rises the most in percentage points, with `FEWEST` images of both or more.

    `yes`: N x C boolean. Each pair is there in one direction, the one with the higher rise.
    """
    found, share = conditional(yes), yes.mean(axis=0)
    together = np.rint(np.nan_to_num(found) * yes.sum(axis=0)[:, None]).astype(int)
    rise = np.where(together >= FEWEST, np.nan_to_num(found) - share, -np.inf)
    np.fill_diagonal(rise, -np.inf)
    mirrored = (rise < rise.T) | ((rise == rise.T) & np.tri(len(rise), k=-1, dtype=bool))
    rise[mirrored] = -np.inf
    order = np.argsort(-rise, axis=None, kind="stable")[:count]
    places = [np.unravel_index(place, rise.shape) for place in order if rise.flat[place] > 0]
    return [
        Relation(int(i), int(j), float(found[i, j]), float(share[j]), int(together[i, j]))
        for i, j in places
    ]  # fmt: skip
