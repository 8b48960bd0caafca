"""Beam search over label paths, for many images at once: exact by the paper's rule.

In each step the best `width` partial paths are kept. A path that ends goes to the candidates. The search of an image
is over when no partial path is as probable as the worst of `width` candidates: it cannot enter them any more, for a
longer path is never more probable (paper, Sec. 3.4, by STU's transcription). No label comes twice (STU).
assumed: the probability of a path is the product of the softmax over all words, nothing is renormalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# (numbers of the images of R rows, their last words, the rows' memory) -> log-probabilities R x K, memory. The memory
# is a list of arrays with R rows each; None: none yet.
Memory = list[np.ndarray]
Step = Callable[[np.ndarray, np.ndarray, Memory | None], tuple[np.ndarray, Memory]]


@dataclass(frozen=True)
class Path:
    """A path that has ended: its labels in their order, and the logarithm of each step's probability, END's last."""

    labels: tuple[int, ...]
    steps: tuple[float, ...]

    @cached_property
    def log_probability(self) -> float:
        """Of the whole path."""
        return float(np.sum(self.steps))


def search(step: Step, images: int, classes: int, width: int, shortest: int = 0) -> list[list[Path]]:
    """For each image the best `width` paths (or all there are), the most probable first.

    `shortest`: labels that a path has at least, or all labels where there are fewer. The first word, and END, is number
    `classes`.
    """
    found: list[list[Path]] = [[] for _ in range(images)]
    image = np.arange(images)  # of each row: a partial path
    word, memory, total = np.full(images, classes), None, np.zeros(images)
    labels, steps = np.zeros((images, 0), np.int64), np.zeros((images, 0))
    for length in range(classes + 1):
        logs, memory = step(image, word, memory)
        logs = logs.astype(np.float64)
        if length >= min(shortest, classes):
            _end(found, image, labels, steps, logs[:, classes], width)
        logs = logs[:, :classes]
        np.put_along_axis(logs, labels, -np.inf, 1)
        reached = total[:, None] + logs
        rows, chosen = _best(image, reached, width)
        going_on = reached[rows, chosen] > _least(found, width)[image[rows]]  # an equal one comes too late
        rows, chosen = rows[going_on], chosen[going_on]
        if not len(rows):
            break
        total, image, word = reached[rows, chosen], image[rows], chosen
        steps = np.column_stack([steps[rows], logs[rows, chosen]])
        labels = np.column_stack([labels[rows], chosen])
        memory = [part[rows] for part in memory]
    return found


def _least(found: list[list[Path]], width: int) -> np.ndarray:
    """What a path has to be more probable than, to be among each image's best."""
    return np.array([paths[-1].log_probability if len(paths) == width else -np.inf for paths in found])


def _end(
    found: list[list[Path]], image: np.ndarray, labels: np.ndarray, steps: np.ndarray, end: np.ndarray, width: int
) -> None:
    """Let every partial path end, and keep each image's best; of equal ones the first."""
    steps = np.column_stack([steps, end])
    (entering,) = np.nonzero(np.isfinite(end) & (steps.sum(1) > _least(found, width)[image]))
    for row in entering:
        found[image[row]].append(Path(tuple(labels[row].tolist()), tuple(steps[row].tolist())))
    for number in set(image[entering].tolist()):
        found[number] = sorted(found[number], key=lambda path: -path.log_probability)[:width]


def _best(image: np.ndarray, reached: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of the `width` best continuations of each image; of equal ones the first, none is impossible."""
    possible = np.isfinite(reached)
    if reached.shape[1] > width:  # none but the best of its own row is among the best of its image
        possible &= reached >= np.partition(reached, -width, 1)[:, -width, None]
    rows, chosen = np.nonzero(possible)
    values = reached[rows, chosen]
    order = np.lexsort((np.arange(len(values)), -values, image[rows]))
    own = image[rows][order]
    begins = np.searchsorted(own, own)  # where the image of each begins
    kept = order[np.arange(len(own)) - begins < width]
    return rows[kept], chosen[kept]


def greedy(step: Step, images: int, classes: int, shortest: int = 0) -> np.ndarray:
    """N x C: the greatest probability that each label has in any step of the path that always takes the best word."""
    seen = np.zeros((images, classes))
    image, word, memory = np.arange(images), np.full(images, classes), None
    taken = np.zeros((images, classes), bool)
    for length in range(classes + 1):
        logs, memory = step(image, word, memory)
        seen[image] = np.maximum(seen[image], np.exp(logs[:, :classes]))
        allowed = logs.astype(np.float64)
        allowed[:, :classes][taken[image]] = -np.inf
        if length < min(shortest, classes):
            allowed[:, classes] = -np.inf
        word = allowed.argmax(1)
        going_on = word < classes
        if not going_on.any():
            break
        image, word, memory = image[going_on], word[going_on], [part[going_on] for part in memory]
        taken[image, word] = True
    return seen


def visits(paths: list[list[Path]], classes: int) -> np.ndarray:
    """N x C: how probable it is that a path comes by each label, among the paths that were found."""
    found = np.zeros((len(paths), classes))
    for row, candidates in enumerate(paths):
        logs = np.array([path.log_probability for path in candidates])
        for path, weight in zip(candidates, np.exp(logs - logs.max()), strict=True):
            found[row, list(path.labels)] += weight
        found[row] /= np.exp(logs - logs.max()).sum()
    return found
