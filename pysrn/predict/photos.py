"""Predicting a user's own image files: their pixels, their scores, and pictures of the attention.

The pixels take the way of the data sets (`data/pixels.py`): decoded, warped to the stored square, then to the net's
input. An LMDB pair may hold them as JPEG, which a photo here does not become once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from pysrn.console import SrnError, UsageError, message, progress
from pysrn.data.in_threads import in_order, thread_count
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.pixels import BadImage, decode_content, warp
from pysrn.data.readers.annotation_checks import key_names
from pysrn.data.readers.label_text import printable
from pysrn.nets.caffemodel import sha256_of
from pysrn.precision import about_precision
from pysrn.predict.deploy import DeployNet
from pysrn.predict.parts import RECORDS
from pysrn.predict.photo_files import Member, content_of
from pysrn.predict.predictions import Predictions
from pysrn.predict.probability import sigmoid
from pysrn.predict.splits import view_of
from pysrn.predict.trained import check_own_classes, settings_of
from pysrn.recipes import Input

_NAMED = 6  # files that cannot be read are named one by one, so many of them
SHOWN_SIDE = 448  # pixels of the longer side in a picture


@dataclass(frozen=True, eq=False)
class Photo:
    """A readable image file: what the net eats of it (float32 3 x S x S), and what a picture shows, where asked for
    (uint8 H x W x 3, BGR).
    """

    number: int  # its place among those that were to be read
    path: Path | Member
    view: np.ndarray
    shown: np.ndarray | None


def read_photos(paths: Sequence[Path | Member], eaten: Input, ahead: int = 1, shown: bool = False) -> Iterator[Photo]:
    """Decode the files, in threads, at most `ahead` of them before they are asked for.

    Those that cannot be used are left out and said on stderr: the first ones, and their number.
    """
    reasons: Counter[str] = Counter()

    def read(numbered: tuple[int, Path | Member]) -> Photo | str:
        try:
            image = decode_content(content_of(numbered[1]), max(eaten.stored_size, SHOWN_SIDE))
        except BadImage as error:
            return str(error)  # the error itself holds on to the file's content
        view = view_of(warp(image, eaten.stored_size, eaten.stored_size), eaten)
        return Photo(*numbered, view, _small(image) if shown else None)

    for path, photo in zip(paths, in_order(read, enumerate(paths), min(ahead, thread_count(None)), ahead), strict=True):
        if isinstance(photo, Photo):
            yield photo
            continue
        reasons[photo] += 1
        if reasons.total() <= _NAMED:
            message(f"not read: {printable(str(path), 300)}: {photo}")
    if reasons.total() > _NAMED:
        grouped = "; ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common(_NAMED))
        message(f"not read: {reasons.total():,} of {len(paths):,} files ({grouped})")


def predict_photos(
    net: DeployNet,
    paths: Sequence[Path | Member],
    classes: Sequence[str],
    scores: Sequence[str],
    batch_size: int,
    part: range | None = None,
) -> tuple[Predictions, list[Path | Member]]:
    """Logits of the readable files, in order, and these files; of a `part` of them alone where one is given.

    Keys are as in an LMDB pair (`%08d_<name>`), numbered by `paths`; `about["files"]` lists the files, one a line,
    `about["found"]` what a search found in each, where there is one.
    Raises SrnError when none can be read.
    """
    numbers, places, parts, words = [], [], [], []
    span = range(len(paths)) if part is None else part
    several = progress(
        _gathered(read_photos(paths[span.start : span.stop], net.architecture.input, batch_size), batch_size),
        -(-len(span) // batch_size),
        "predicting",
        "batches",
    )
    for photos in several:
        parts.append(net.forward([photo.view for photo in photos], scores))
        if net.searching:
            words += [net.searching.words_of(row, classes) for row in range(len(photos))]
        places += [photo.path for photo in photos]
        numbers += [span.start + photo.number for photo in photos]
    if not places:
        raise SrnError(f"none of {len(span)} files could be read as an image")
    names = key_names(PurePath(path.name) for path in paths)
    keys = tuple(printable(f"{number:08d}_{names[number]}", 500) for number in numbers)
    about = {
        "weights": str(net.path),
        "weights_sha256": sha256_of(net.path),
        "files": "\n".join(printable(str(path), 5000) for path in places),
        **({"found": "\n".join(words)} if words else {}),
        **about_precision(),
        **({RECORDS: [part.start, part.stop, len(paths)]} if part else {}),
    }
    joined = {name: np.concatenate([part[name] for part in parts]) for name in scores}
    found = Predictions(keys, tuple(classes), joined, None, about)
    found.check(f"{net.path} on {len(places)} photos")
    return found, places


def ranked(
    logits: np.ndarray, classes: Sequence[str], count: int, probable: np.ndarray | None = None
) -> list[tuple[str, float]]:
    """The `count` labels of the highest logits with their probabilities, highest first (the first of equals first).

    `probable`: the logits that give the probabilities, where the others only order.
    """
    order = np.argsort(-logits, kind="stable")[:count]
    probabilities = sigmoid(logits if probable is None else probable)
    return [(classes[label], float(probabilities[label])) for label in order]


def label_names(net: DeployNet, weights: Path, data: str | Path | None) -> tuple[str, ...]:
    """The net's labels: those of the LMDB pair `data`, else of the run that the weights belong to.

    Raises UsageError where neither is there, SrnError where their number is not the net's.
    """
    settings = None if data is not None else settings_of(weights)
    if data is None and settings is None:
        raise UsageError(f"{weights} is of no run: its labels have no names", "--data FOLDER: the LMDB pair's labels")
    classes = tuple(PairReader(data, "train").classes if settings is None else settings.recipe.dataset.classes)
    if len(classes) != net.architecture.classes:
        raise SrnError(
            f"{net.path} predicts {net.architecture.classes} labels, {data or 'its run'} has {len(classes)}",
            "give the data set that these weights were trained on (--data)",
        )
    if data is not None:
        check_own_classes(classes, weights, data)
    return classes


def _small(image: np.ndarray) -> np.ndarray:
    """An image with no side above SHOWN_SIDE."""
    height, width = image.shape[:2]
    ratio = min(1.0, SHOWN_SIDE / max(height, width))
    return warp(image, max(1, round(width * ratio)), max(1, round(height * ratio)))


def _gathered(photos: Iterator[Photo], size: int) -> Iterator[list[Photo]]:
    """Lists of `size` photos, the last one shorter."""
    several: list[Photo] = []
    for photo in photos:
        several.append(photo)
        if len(several) == size:
            yield several
            several = []
    if several:
        yield several
