"""Feeding: our worker processes against PyTorch's DataLoader with as many, on the same records.

Every batch ends in one and the same float32 array, as it does in a net's top. Before a round is timed the batches that
were made ahead while others ran are used up.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pysrn.benchmark.timing import alternate, summary
from pysrn.benchmark.usual import usual_recipe
from pysrn.console import MissingError, ToleranceError
from pysrn.data.feed.prefetch import Feeder
from pysrn.data.feed.settings import FeedSettings
from pysrn.systems.registry import default_system
from pysrn.systems.stage_nets import DataSource, feed_of

if TYPE_CHECKING:
    from pysrn.benchmark.data.peers import LoaderFeed

OURS = "pysrn"
SAME_PIXELS, OTHER_PIXELS = "DataLoader, OpenCV", "DataLoader, Pillow (other pixels)"
_SETTLE = 0.5  # seconds in which the workers of the contestant before fill their queues and fall asleep
_AHEAD = 2  # batches a worker makes ahead: PyTorch's prefetch_factor and our ring's slots


def compare_feeding(folder: Path, split: str, batch_size: int, workers: int, batches: int, rounds: int) -> dict:
    """Images/s of our feed and of both peers on the pair in `folder`.

    Raises MissingError without PyTorch, ToleranceError when the OpenCV peer's pixels are not ours: then there is
    nothing to compare.
    """
    recipe = usual_recipe(default_system(), batch_size=batch_size)
    settings = feed_of(recipe, DataSource(str(folder), split, workers=workers))
    check_same_pixels(settings)
    with ExitStack() as stack:
        feeds = {name: stack.enter_context(closing(feed)) for name, feed in open_feeds(settings).items()}
        target = np.empty((batch_size, 3, settings.crop_size, settings.crop_size), np.float32)
        contestants = {name: _rate_of(feed, target, batches, workers) for name, feed in feeds.items()}
        figures = alternate(contestants, rounds)
    return summary(figures, OURS) | {"batch_size": batch_size, "workers": workers, "batches_a_round": batches}


def open_feeds(settings: FeedSettings) -> dict[str, Feeder | LoaderFeed]:
    """Our feed and the two peers."""
    try:
        from pysrn.benchmark.data.peers import LoaderFeed, OpenCVPhotos, PillowPhotos
    except ModuleNotFoundError as error:
        what = f"the peers of feeding need the Python package {error.name}"
        raise MissingError(what, "pip install -e .[torch]") from None
    return {
        SAME_PIXELS: LoaderFeed(OpenCVPhotos(settings)),
        OTHER_PIXELS: LoaderFeed(PillowPhotos(settings)),
        OURS: Feeder(settings),
    }


def check_same_pixels(settings: FeedSettings, batches: int = 3) -> None:
    """Raise ToleranceError unless the OpenCV peer feeds our pixels and labels, bit for bit."""
    feeds = open_feeds(settings)
    try:
        for number in range(batches):
            ours, peers = feeds[OURS].next_batch(), feeds[SAME_PIXELS].next_batch()
            if not all(np.array_equal(mine, other) for mine, other in zip(ours, peers, strict=True)):
                raise ToleranceError(f"batch {number} of {SAME_PIXELS} differs from ours: the comparison is void")
    finally:
        for feed in feeds.values():
            feed.close()


def _rate_of(feed: Feeder | LoaderFeed, target: np.ndarray, batches: int, workers: int):
    """A function that feeds `batches` batches into `target` and returns images/s."""

    def rate() -> float:
        time.sleep(_SETTLE)
        for _ in range(_AHEAD * workers):
            target[...] = feed.next_batch()[0]
        started = time.perf_counter()
        for _ in range(batches):
            target[...] = feed.next_batch()[0]
        return batches * len(target) / (time.perf_counter() - started)

    return rate
