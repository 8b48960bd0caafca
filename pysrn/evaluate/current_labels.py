"""The labels that a pair has now, where predictions hold those that it had: test labels are corrected, too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, message
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.pair_reader import KEY_NUMBER
from pysrn.predict import predictions
from pysrn.predict.predictions import CURE, Predictions, check_classes, load_predictions


def load_labelled(paths: Sequence[Path], folder: Path | None = None) -> list[Predictions]:
    """Predictions files with the labels of the pair in `folder`; by default with their own, saying where these are old.

    Raises MissingError where there is no such file, pair or split, SrnError when the pair has other images or classes.
    """
    labelled = cache(_labelled)  # the stages of a run come from one pair
    return [_load(path, folder, labelled) for path in paths]


def check_together(paths: Sequence[Path], loaded: Sequence[Predictions], classes: Sequence[str], done: str) -> None:
    """Raise SrnError unless all are of the same images and of these classes, MissingError without labels.

    `done`: what cannot be done without them.
    """
    for path, found in zip(paths, loaded, strict=True):
        check_classes(found.classes, classes, path)
        predictions.check_same_images(found, loaded[0], path, paths[0])
        predictions.warn_of_other_weights(found, path)
        if found.labels is None:
            raise MissingError(f"{path} holds no labels, so nothing can be {done}", "tools/predict.py adds them")


def changed_labels(found: Predictions, pair: PairReader, labels: np.ndarray | None = None) -> tuple[int, int]:
    """How many of the labels that predictions hold are others in the pair, and on how many images.

    `labels`: all of the pair's, where they are read already.
    Raises SrnError when the pair has other images or classes, or is broken.
    """
    labels = pair.all_labels() if labels is None else labels
    changed = labels[_rows(found, pair, pair.folder)] != found.labels
    return int(changed.sum()), int(changed.any(1).sum())


def _labelled(folder: str, split: str) -> tuple[PairReader, np.ndarray]:
    pair = PairReader(folder, split)
    return pair, pair.all_labels().astype(np.int8)


def _load(
    path: Path, folder: Path | None, labelled: Callable[[str, str], tuple[PairReader, np.ndarray]]
) -> Predictions:
    found = load_predictions(path)
    split = found.about.get("split", "test")
    if folder is not None:
        pair, labels = labelled(str(folder), split)
        return replace(found, labels=labels[_rows(found, pair, path)], about={**found.about, "labels": str(folder)})
    if found.labels is None or "data" not in found.about:
        return found
    try:
        pair, labels = labelled(found.about["data"], split)
        number, images = changed_labels(found, pair, labels)
    except MissingError:  # the pair is gone, or lies elsewhere
        return found
    except SrnError as error:
        message(f"beware: {path} is measured by the labels that it holds, not by those of the pair: {error}")
        return found
    if number:
        message(
            f"beware: {path} is measured by the labels that it holds; {number:,} of them, on {images:,} images, "
            f"are others in {pair.folder} now"
        )
        message(f"  mend it: --labels {shlex.quote(str(pair.folder))} takes those of the pair")
    return found


def _rows(found: Predictions, pair: PairReader, where: Path) -> list[int]:
    """The pair's row for each image of the predictions.

    A table in another order gives the images other numbers, so without the same keys the names decide: unless two
    images had one name, for then `~2` says only which came second.
    """
    check_classes(found.classes, pair.classes, where)
    there, wanted = list(pair.keys), list(found.keys)
    if set(there) != set(wanted):
        there, wanted = ([key[KEY_NUMBER:] for key in keys] for keys in (there, wanted))
        odd = set(there) ^ set(wanted)
        if odd or any(re.search(r"~\d+$", name) for name in there):
            first = f"{len(odd)} are in one only, the first: {min(odd)}" if odd else "names do not tell which is which"
            raise SrnError(f"{where} and {pair.folder}, {pair.split}, are of different images: {first}", CURE)
    row_of = {key: row for row, key in enumerate(there)}
    return [row_of[key] for key in wanted]
