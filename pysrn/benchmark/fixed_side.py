"""Caffe's side of `benchmark.py fixed`: a step over a fixed trunk, the net split as in training (`nets/fixed.py`).

The fixed part runs folded beside the net that learns; or its features come from a cache on the disk
(`train/fixed/feature_cache.py`), as in every epoch but the first.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from pysrn.benchmark.caffe_side import Training, fill
from pysrn.benchmark.job import Job
from pysrn.benchmark.nets import RATE, make_solver, recipe_of, whole_net
from pysrn.nets import messages, prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.fixed import LABEL, input_and_output, split
from pysrn.nets.in_caffe import set_device
from pysrn.nets.layers import add_layer
from pysrn.systems.stage_nets import DataSource, feed_of
from pysrn.train.fixed.feature_cache import FeatureCache, identity
from pysrn.train.fixed.fixed_part import FixedNet
from pysrn.train.fixed.settings import FixedSettings, add_fixed_part

BATCHES = 8  # in the cache: no step reads what the step before it read
PRECISION = "fp32"


def make_worker(job: Job) -> TrainingSplit:
    """The contestant of a job."""
    set_device(None)
    return TrainingSplit(job)


class TrainingSplit(Training):
    """Steps of the learning part, fed by the fixed part, or by cached features (`Job.cached`)."""

    def __init__(self, job: Job) -> None:
        weights, inputs = read_weights(job.weights), job.arrays()
        recipe = recipe_of(weights, job.weights, job.dataset)
        trunk = recipe.system.trunks[recipe.trunk]
        parts = split(whole_net(recipe, job.stage), trunk.features, recipe.input.size)
        self._folder = tempfile.TemporaryDirectory()
        folder, fixed = Path(self._folder.name), list(parts.fixed)
        paths = [folder / f"fixed{number}.prototxt" for number in range(len(fixed))]
        for net, path in zip(fixed, paths, strict=True):
            prototxt.write_message(net, path)
        self._cache, self._step = None, 0
        if job.cached:
            below, path = fixed.pop(0), paths.pop(0)
            feed = feed_of(replace(recipe, batch_size=len(inputs["data"])), DataSource(str(folder)))
            about = identity(below, weights, feed, PRECISION)
            features = self._fill_cache(path, about, inputs["data"], job)
            inputs = {input_and_output(below)[1]: features, LABEL: inputs[LABEL]}
        self.message = messages.NetParameter(name="split")
        for name, array in inputs.items():
            add_layer(self.message, name, "Input", [], input_param={"shape": [{"dim": list(array.shape)}]})
        if fixed:
            first, last = self.message.layer[0].top[0], input_and_output(fixed[-1])[1]
            add_fixed_part(self.message, first, last, FixedSettings(tuple(map(str, paths)), job.weights))
        self.message.layer.extend(parts.learning.layer)
        self.solver = make_solver(self.message, recipe, job.stage, RATE)
        fill(self.solver.net, weights, inputs)
        self._features = self.solver.net.blobs[self.message.layer[0].top[0]]

    def once(self) -> None:
        """A step; with cached features, reading a batch of them before it."""
        if self._cache is not None:
            self._read()
        super().once()

    def check(self) -> dict[str, np.ndarray]:
        """As the whole net's, on the first batch."""
        self._step = 0
        if self._cache is not None:
            self._read()
        return super().check()

    def _read(self) -> None:
        count = len(self._features.data)
        first = self._step % BATCHES * count
        self._step += 1
        self._cache.fetch(range(first, first + count), self._features.data, self._missing)

    def _missing(self) -> np.ndarray:
        raise AssertionError("the cache was filled before")

    def _fill_cache(self, path: Path, about: dict, images: np.ndarray, job: Job) -> np.ndarray:
        """Make the cache: row n holds the features of the batch's image n, then of the images shifted; returns X."""
        net = FixedNet(path, job.weights)
        shape = net.output_shape(*images.shape)
        self._cache = FeatureCache.make(path.parent, about, shape[1:])
        self._cache.reserve(BATCHES * len(images))
        features = np.empty(shape, np.float32)
        for number in range(BATCHES):
            rows = range(number * len(images), (number + 1) * len(images))
            shifted = np.roll(images, number, axis=3)
            self._cache.fetch(rows, features, lambda shifted=shifted: net.forward(shifted)[net.output])
        return features
