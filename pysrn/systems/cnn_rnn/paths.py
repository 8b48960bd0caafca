"""The labels of an image as a path: which comes first, how long a path may be, and what a net is told of it.

A net of C labels knows K = C + 1 words: number C is the end of a path, and as an input its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pysrn.console import SrnError, UsageError, existing_file
from pysrn.data.readers.label_text import printable, text_lines
from pysrn.later import later
from pysrn.recipes import Recipe
from pysrn.systems.cnn_rnn.heads import FREQUENT, RANDOM, RARE, WIDEST_BEAM

np = later("numpy")

if TYPE_CHECKING:  # reads images
    from pysrn.data.pair.pair_reader import PairReader

IGNORED = -1  # a target behind the end of a path
CURE = f"give {FREQUENT}, {RARE}, {RANDOM}, or a file with one label a line, in UTF-8"
MOST_STEPS = 200  # assumed: every step of a path is so many layers, or so much memory


def fit(recipe: Recipe, pair: PairReader) -> Recipe:
    """The recipe with the order of the labels and the number of steps, as the training images have them.

    Raises SrnError or UsageError for a list that is not of the labels, and for paths that are too long.
    """
    heads, classes = recipe.heads, len(pair.classes)
    if heads.beam_width > WIDEST_BEAM:
        raise UsageError(f"--beam-width {heads.beam_width} is more than {WIDEST_BEAM}", "give a narrower one")
    if heads.shortest_path > classes:
        raise UsageError(f"--shortest-path {heads.shortest_path}: there are {classes} labels", "give so many at most")
    labels = np.stack([pair.labels(index) > 0 for index in range(*recipe.training_records)])
    order = order_of(heads.label_order, pair.classes, labels.sum(0), recipe.seed)
    most = heads.longest_path or int(labels.sum(1).max())
    if not 1 <= most < MOST_STEPS:
        raise UsageError(f"a path of {most} labels: from 1 to {MOST_STEPS - 1} can be", "give --longest-path N")
    return replace(recipe, heads=replace(heads, path_order=order, path_steps=most + 1))


def order_of(wanted: str, classes: Sequence[str], counts: np.ndarray, seed: int = 0) -> tuple[int, ...]:
    """Numbers of the labels, the first first: the most frequent, the rarest, any (by `seed`), or as lines of a file."""
    if wanted == RANDOM:
        return tuple(int(number) for number in np.random.default_rng(seed).permutation(len(counts)))
    if wanted in (FREQUENT, RARE):
        sign = 1 if wanted == RARE else -1
        return tuple(int(number) for number in np.argsort(sign * counts, kind="stable"))
    return _listed(existing_file(wanted, "order of the labels", CURE), classes)


def _listed(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    try:
        lines = text_lines(path)
    except SrnError as error:
        raise SrnError(str(error), error.cure or CURE) from None
    except OSError as error:
        raise SrnError(f"{path}: no order of labels can be read: {error.strerror}", CURE) from None
    number_of, found = {name: number for number, name in enumerate(classes)}, {}
    for line, name in enumerate(lines, 1):
        if not (name := name.strip()):
            continue
        if name not in number_of:
            raise SrnError(
                f"{path}:{line}: {printable(name)} is no label of the data set", "write one of its labels a line"
            )
        if name in found:
            raise SrnError(
                f"{path}:{line}: {printable(name)} stands in line {found[name]}, too", "write each label once"
            )
        found[name] = line
    if missing := [name for name in classes if name not in found]:
        first = printable(missing[0])
        raise SrnError(f"{path}: {len(missing)} labels are not in it, the first: {first}", "write all labels")
    return tuple(number_of[name] for name in found)


def paths_of(labels: np.ndarray, order: Sequence[int], steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the recurrent net is fed and asked for: inputs, memory kept (0 or 1), targets; float32, steps x N each.

    `labels` is N x C, true where an image has one; an image without any is END at once. Of a path of more labels than
    there are steps the last ones are left out, and its end with them.
    """
    count, classes = labels.shape
    ordered = labels[:, list(order)] > 0
    length = ordered.sum(1)
    places = np.argsort(~ordered, axis=1, kind="stable")[:, :steps]  # those that are there in front
    path = np.full((count, steps), classes, np.int64)
    path[:, : places.shape[1]] = np.asarray(order)[places]
    at = np.arange(steps)
    path[at >= length[:, None]] = classes
    targets = np.where(at <= length[:, None], path, IGNORED)
    inputs = np.concatenate([np.full((count, 1), classes), path[:, :-1]], 1)
    kept = np.ones((count, steps))
    kept[:, 0] = 0  # or the memory of the last batch leaks in
    return tuple(np.ascontiguousarray(values.T, np.float32) for values in (inputs, kept, targets))
