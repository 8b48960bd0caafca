"""Batches by number: reads the samples of a batch from the LMDB pair, writes their views into given arrays.

Used in the process of the net (`workers: 0`) and in the worker processes (`worker.py`) alike, so both give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pysrn.console import SrnError, UsageError
from pysrn.data.feed.augment import CornerCrop, whole_image, write_view
from pysrn.data.feed.sampler import SampleOrder
from pysrn.data.feed.settings import FeedSettings
from pysrn.data.pair.lmdb_file import pair_paths
from pysrn.data.pair.pair_reader import PairReader


class BatchMaker:
    """Makes batch number b, counted from `first_sample`, whenever it is asked for.

    Raises as PairReader, and UsageError when `records` goes beyond the split.
    """

    def __init__(self, settings: FeedSettings) -> None:
        self.settings = settings
        self.reader = PairReader(settings.folder, settings.split)
        begin, end = settings.records or (0, len(self.reader))
        if end > len(self.reader):
            raise UsageError(f"data layer: records {begin} to {end}: {settings.split} has {len(self.reader)} records")
        self._order = SampleOrder(end - begin, settings.seed, shuffle=settings.train, begin=begin)
        self._mean = np.array(settings.mean, np.float32).reshape(3, 1, 1)
        self._whole = whole_image(settings.image_size)
        self._crop = CornerCrop.of(settings)

    @property
    def shapes(self) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """Shapes of `data` and `label`."""
        size, batch = self.settings.crop_size, self.settings.batch_size
        return (batch, 3, size, size), (batch, len(self.reader.classes))

    def write(self, batch: int, data: np.ndarray, label: np.ndarray) -> None:
        """Write batch number `batch` into float32 arrays of the shapes `shapes`.

        Labels become 1 where they are 1 and 0 elsewhere: unspecified counts as negative (papers on
        WIDER-Attribute).
        """
        self.write_samples(self.numbers(batch), data, label)

    def numbers(self, batch: int) -> range:
        """Global numbers of the samples of batch number `batch`."""
        part = batch * self.settings.ranks + self.settings.rank  # the ranks' parts of all global batches, in order
        first = self.settings.first_sample + part * self.settings.batch_size
        return range(first, first + self.settings.batch_size)

    def first_alike(self, number: int) -> int:
        """Number of the first sample that shows the same record in the same view as sample `number`."""
        epoch, index = self._order.locate(number)
        view = self._view_number(epoch)
        return number if view == epoch else self._order.number_of(view, index)

    def write_samples(self, numbers: Sequence[int], data: np.ndarray, label: np.ndarray) -> None:
        """Write the numbered samples into the rows of float32 arrays, as `write` does."""
        for row, number in enumerate(numbers):
            epoch, index = self._order.locate(number)
            image = self.reader.image(index)
            size = self.settings.image_size
            if image.shape != (size, size, 3):
                path = pair_paths(self.reader.folder, self.reader.split)[0]
                key, shape = self.reader.keys[index], " x ".join(map(str, image.shape))
                raise SrnError(f"{path}: broken record {key}: {shape} is not {size} x {size} x 3")
            view = self._whole
            if self.settings.train:
                view = self._crop.draw(self.settings.seed, self._view_number(epoch), index)
            write_view(image, view, self._mean, data[row], self.settings.scale)
            label[row] = self.labels(number)

    def labels(self, number: int) -> np.ndarray:
        """Label vector of sample `number`, true where it is 1."""
        return self.reader.labels(self._order.locate(number)[1]) > 0

    def _view_number(self, epoch: int) -> int:
        """Which of a record's views it has in an epoch."""
        if not self.settings.train:
            return 0
        return epoch if self.settings.views is None else epoch % self.settings.views
