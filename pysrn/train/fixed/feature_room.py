"""How much room the cached features of a fixed trunk need, said and compared with the disk before anything starts."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pysrn.console import UsageError, message
from pysrn.data.feed.settings import FeedSettings
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.fixed import split
from pysrn.recipes import Recipe
from pysrn.systems.stage_nets import DataSource, feed_of, stage_net
from pysrn.train.fixed.feature_cache import LARGER_DISK, MANIFEST, row_bytes, size_text, weights_fingerprint

FEATURES = "features"  # folder in a run: trunk features of all stages


@dataclass(frozen=True)
class Caching:
    """How trunk features are cached: a precision of `feature_cache.PRECISIONS`, and where (None: in the run)."""

    precision: str
    folder: Path | None = None

    def place(self, run: Path) -> Path:
        """The folder of the caches; `run` is the run's."""
        return self.folder or run / FEATURES


def rows_of(recipe: Recipe, stage: int, feed: FeedSettings) -> int:
    """Rows that the cache of a stage's feed has at most: one for each record and view."""
    if not feed.train:
        return recipe.validation_images
    samples = recipe.iterations(stage) * recipe.batch_size * recipe.iter_size
    return samples if feed.views is None else min(samples, feed.views * recipe.training_records[1])


def announce(place: Path, recipe: Recipe, stages: Sequence[int], precision: str, source: Path | None = None) -> None:
    """Say what the caches of `stages`, which share them, will need; UsageError when the disk cannot hold it.

    `source`: the weights with the trunk, whose caches count as there; None: an earlier stage has yet to make them.
    """
    features = recipe.system.trunks[recipe.trunk].features
    size, images = row_bytes(features.shape, precision), recipe.training_records[1]
    most = 0
    for stage in stages:
        feed = feed_of(recipe, DataSource(""), recipe.stages[stage - 1].views)
        rows = rows_of(recipe, stage, feed)
        most = max(most, rows)
        epochs = math.ceil(rows / images)
        kind = (
            f"{epochs} views" if feed.views else f"{epochs} views, one an epoch (--views K: K of them, again and again)"
        )
        message(
            f"stage {stage} features: {size_text(size)} an image ({precision}), {images} images in {kind}, "
            f"{recipe.validation_images} for validation: {size_text(size * (rows + recipe.validation_images))}"
        )
    need = size * (most + recipe.validation_images)
    if place.exists() and not place.is_dir():
        raise UsageError(f"--cache-folder must name a folder: {place} is a file")
    there = 0
    if source is not None:
        net = stage_net(recipe, stages[0], DataSource("", workers=0))
        trunk = split(net, features, recipe.input.size).fixed[0]
        there = room_taken(place, precision, weights_fingerprint(trunk, read_weights(source)))
    existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    text = f"{size_text(need)} in {place}, where {size_text(there)} are and {size_text(free)} are free"
    if need > free + there:
        raise UsageError(f"the features need {text}", LARGER_DISK)
    message(f"features: {text}")


def room_taken(place: Path, precision: str, weights: str) -> int:
    """Bytes on the disk of the caches below `place` that are of these weights (a fingerprint) and this precision."""
    taken = 0
    for path in place.glob(f"*/{MANIFEST}"):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))["identity"]
            if (about["precision"], about["weights"]) == (precision, weights):
                taken += sum(file.stat().st_blocks * 512 for file in path.parent.glob("*.bin"))
        except (OSError, ValueError, KeyError, TypeError):  # damaged: named by the stage that would read it
            continue
    return taken
