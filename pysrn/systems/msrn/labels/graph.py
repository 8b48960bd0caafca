"""The label graph from the labels of an LMDB pair, as the released code makes it of its counts (util.py).

Its quirks, each kept and named:

| quirk         | what it is                                                                       |
|---------------|----------------------------------------------------------------------------------|
| binary        | a conditional probability counts as 1 from the threshold on, below it as 0       |
| quarter       | each column is scaled to a sum of 0.25, less what `+ 1e-6` in the divisor takes  |
| identity      | added after the scaling, so every label is its own neighbour                     |
| transposed    | D A^T D: label i looks at j where P(i given j) >= threshold, not P(j given i)    |
| only the sign | a GAT asks whether an entry is above 0; scaling and normalisation change nothing |

Differs from the released code: NUS-WIDE's published `nums` are 1 plus the columns' sums, not counts of images, which
leaves two edges; ours are counts. A label without an image has no neighbours; there 0 / 0 would make them NaN.
"""

from __future__ import annotations

from pysrn.later import later

np = later("numpy")


COLUMN_SUM, IN_DIVISOR = 0.25, 1e-6  # util.py, gen_A


def cooccurrence(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N x C labels (1: has it) -> images that have both labels (C x C, diagonal 0), and images of each label (C)."""
    has = (labels == 1).astype(np.float64)
    together = has.T @ has
    images = together.diagonal().copy()
    np.fill_diagonal(together, 0)
    return together, images


def normalised(together: np.ndarray, images: np.ndarray, threshold: float) -> np.ndarray:
    """The released code's matrix A', C x C: row i is what label i looks at."""
    given = together / np.maximum(images, 1)[:, None]  # P(column given row)
    binary = (given >= threshold).astype(np.float64)
    scaled = binary * COLUMN_SUM / (binary.sum(axis=0, keepdims=True) + IN_DIVISOR)
    with_self = scaled + np.identity(len(scaled))
    root = with_self.sum(axis=1) ** -0.5
    return (with_self * root).T * root


def edges(together: np.ndarray, images: np.ndarray, threshold: float) -> np.ndarray:
    """C x C, true where label i looks at label j; the diagonal is true."""
    return normalised(together, images, threshold) > 0


def other_edges(graph: np.ndarray, seed: int | None) -> np.ndarray:
    """C x C: as many edges as `graph` has, between any two labels, drawn with the seed; None: no edges.

    The diagonal is true. Ours, to test whether the graph matters.
    """
    found, off = np.identity(len(graph), bool), ~np.identity(len(graph), dtype=bool)
    if seed is not None:
        places = np.flatnonzero(off)
        count = int((graph & off).sum())
        found.flat[np.random.default_rng(seed).choice(places, count, replace=False)] = True
    return found
