"""The data layer of a stage whose trunk features are cached: X and labels instead of images and labels.

In the net that is trained: `type: "Python"`, tops X and `label`, layer `CachedFeaturesLayer` of this module, with
`settings.CachedSettings` as its `param_str`. What the cache does not have yet is computed when it
is asked for, with the batch that an uncached stage would have, and kept.
"""

from __future__ import annotations

from pathlib import Path

import caffe
import numpy as np

from pysrn.data.feed.batches import BatchMaker
from pysrn.processes import send
from pysrn.train.fixed.feature_cache import FeatureCache
from pysrn.train.fixed.fixed_part import FixedNet
from pysrn.train.fixed.settings import CachedSettings


class CachedFeaturesLayer(caffe.Layer):
    """Tops: X (float32, as the trunk makes it) and `label` N x C (1 = has it, else 0)."""

    def setup(self, bottom, top) -> None:
        """Open the data and the cache; the trunk is built when it is needed first."""
        self.settings = CachedSettings.from_json(self.param_str)
        self.maker = BatchMaker(self.settings.feed)
        self.cache = FeatureCache(Path(self.settings.cache))
        self.batch, self.trunk = 0, None
        shape, labels = self.maker.shapes
        top[0].reshape(shape[0], *self.cache.shape)
        top[1].reshape(*labels)

    def reshape(self, bottom, top) -> None:
        """The shapes never change."""

    def forward(self, bottom, top) -> None:
        """Hand out the next batch."""
        numbers = self.maker.numbers(self.batch)
        self.batch += 1
        for row, number in enumerate(numbers):
            top[1].data[row] = self.maker.labels(number)
        rows = [self.maker.first_alike(number) for number in numbers]
        damaged = self.cache.fetch(rows, top[0].data, lambda: self.compute(numbers))
        if damaged:
            rows = ", ".join(map(str, damaged))
            send(report=[f"warning: {self.cache.folder}: damaged rows are computed anew: {rows}"])

    def compute(self, numbers: range) -> np.ndarray:
        """X of the numbered samples."""
        if self.trunk is None:
            self.trunk = FixedNet.shared(Path(self.settings.trunk), self.settings.weights)
        images, labels = (np.empty(shape, np.float32) for shape in self.maker.shapes)
        self.maker.write_samples(numbers, images, labels)
        return self.trunk.forward(images)[self.trunk.output]

    def backward(self, top, propagate_down, bottom) -> None:
        """Nothing flows back into data."""
