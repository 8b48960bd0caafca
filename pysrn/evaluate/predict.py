"""Running the deploy net over a split of an LMDB pair: every score of every image, in key order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pysrn.console import Progress, SrnError
from pysrn.data.augment import whole_image, write_view
from pysrn.data.lmdb_pair import PairReader
from pysrn.evaluate.deploy import DeployNet
from pysrn.evaluate.predictions import Predictions
from pysrn.evaluate.trained import settings_of
from pysrn.nets.caffemodel import sha256_of
from pysrn.recipes import CROP_SIZE, MEAN_BGR

BATCH_SIZE = 16
LARGEST_BATCH = 1024  # Caffe's blobs hold less than 2^31 numbers: 2,674 of ResNet's 64 x 112 x 112
DEFAULT_DATA = "data/shapes"  # the embedded data set


def predict(net: DeployNet, pair: PairReader, batch_size: int = BATCH_SIZE) -> Predictions:
    """Logits of all images of a split, with their labels.

    Raises SrnError when the net has another number of labels than the pair, an image is broken, or an output
    is not finite.
    """
    check_labels(net, pair)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in net.scores}
    bar = Progress(len(pair), f"predicting {pair.split}", "images")
    for indices in batches(len(pair), batch_size):
        for name, values in net.forward(whole_views(pair, indices)).items():
            parts[name].append(values)
        bar.update(len(indices))
    bar.close()
    scores = {name: np.concatenate(values) for name, values in parts.items()}
    about = {
        "weights": str(net.path),
        "weights_sha256": sha256_of(net.path),
        "data": str(pair.folder),
        "split": pair.split,
    }
    found = Predictions(tuple(pair.keys), tuple(pair.classes), scores, pair.all_labels().astype(np.int8), about)
    found.check(f"{net.path} on {pair.folder}, {pair.split}")
    return found


def whole_views(pair: PairReader, indices: Sequence[int]) -> np.ndarray:
    """What the net sees in testing: whole images, BGR minus mean, float32 N x 3 x 224 x 224."""
    views = np.empty((len(indices), 3, CROP_SIZE, CROP_SIZE), np.float32)
    mean = np.array(MEAN_BGR, np.float32).reshape(3, 1, 1)
    for view, index in zip(views, indices, strict=True):
        image = pair.image(index)
        write_view(image, whole_image(image.shape[0]), mean, view)
    return views


def batches(count: int, size: int) -> Iterator[range]:
    """0 ... count - 1 in ranges of at most `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def check_labels(net: DeployNet, pair: PairReader) -> None:
    """Raise SrnError unless the net has as many labels as the pair."""
    if net.architecture.classes != len(pair.classes):
        raise SrnError(
            f"{net.path} predicts {net.architecture.classes} labels, {pair.folder} has {len(pair.classes)}",
            "give the data set that these weights were trained on (--data)",
        )


def data_folder(weights: str | Path, given: str | Path | None) -> Path:
    """The LMDB pair to use: the one `given`, else the one that the run was trained on, else shapes."""
    if given is not None:
        return Path(given)
    settings = settings_of(weights)
    return Path(DEFAULT_DATA if settings is None else settings.data)
