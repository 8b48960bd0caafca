"""The labels that a pair has now, where predictions hold those that it had: test labels are corrected, too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, message
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.pair_reader import KEY_NUMBER
from pysrn.predict.predictions import CURE, Predictions, check_classes, load_predictions


def load_labelled(path: Path, folder: Path | None = None) -> Predictions:
    """A predictions file with the labels of the pair in `folder`; without it with its own, which may be old: then said.

    Raises MissingError where there is no such file, pair or split, SrnError when the pair has other images or classes.
    """
    found = load_predictions(path)
    if folder is None:
        _warn_of_other_labels(found, path)
        return found
    labels = _labels_now(found, PairReader(folder, found.about.get("split", "test")), path)
    return replace(found, labels=labels, about={**found.about, "labels": str(folder)})


def changed_labels(found: Predictions, pair: PairReader) -> tuple[int, int]:
    """How many of the labels that predictions hold are others in the pair, and on how many images.

    Raises SrnError when the pair has other images or classes, or is broken.
    """
    changed = _labels_now(found, pair, pair.folder) != found.labels
    return int(changed.sum()), int(changed.any(1).sum())


def _warn_of_other_labels(found: Predictions, path: Path) -> None:
    folder = found.about.get("data")
    if found.labels is None or folder is None:
        return
    try:
        labels, images = changed_labels(found, PairReader(folder, found.about.get("split", "test")))
    except MissingError:  # the pair is gone, or lies elsewhere
        return
    except SrnError as error:
        message(f"beware: {path} is measured by the labels that it holds, not by those of the pair: {error}")
        return
    if labels:
        message(
            f"beware: {path} is measured by the labels that it holds; {labels:,} of them, on {images:,} images, "
            f"are others in {folder} now"
        )
        message(f"  mend it: --labels {shlex.quote(folder)} takes those of the pair")


def _labels_now(found: Predictions, pair: PairReader, where: Path) -> np.ndarray:
    """The pair's labels int8 N x C in the order of the predictions."""
    check_classes(found.classes, pair.classes, where)
    rows = _rows(pair.keys, found.keys)
    if rows is None:
        odd = set(map(_name, pair.keys)) ^ set(map(_name, found.keys))
        first = f"{len(odd)} are in one only, the first: {min(odd)}" if odd else "their keys do not tell which is which"
        raise SrnError(f"{where} and {pair.folder}, {pair.split}, are of different images: {first}", CURE)
    return pair.all_labels().astype(np.int8)[rows]


def _rows(there: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """The row in the pair of each key; None when the images are others.

    A table in another order gives the images other numbers, so without the same keys the names decide: unless two
    images had one name, for then `~2` says only which came second.
    """
    if set(there) != set(wanted):
        there, wanted = [_name(key) for key in there], [_name(key) for key in wanted]
        if sorted(there) != sorted(wanted) or any(re.search(r"~\d+$", name) for name in there):
            return None
    row_of = {key: row for row, key in enumerate(there)}
    return [row_of[key] for key in wanted]


def _name(key: str) -> str:
    return key[KEY_NUMBER:]
