"""Caffe's side of `benchmark.py frozen`: a step of stage 2 or 3 as training makes it, in parts (`nets/frozen.py`).

The fixed part runs folded beside the net that learns; or its features come from a cache on the disk
(`train/feature_cache.py`), as in every epoch but the first.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from pysrn.benchmark.caffe_side import Training, fill, inputs_of, make_solver
from pysrn.benchmark.contender import Job
from pysrn.benchmark.nets import RATE, recipe_of
from pysrn.data.feed.batches import FeedSettings
from pysrn.nets import messages, prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.frozen import input_and_output, split
from pysrn.nets.layers import add_layer
from pysrn.recipes import TRUNKS
from pysrn.systems.srn import nets as stages
from pysrn.train.fixed.feature_cache import FeatureCache, identity
from pysrn.train.fixed.fixed_part import FixedNet

BATCHES = 8  # in the cache: no step reads what the step before it read
PRECISION = "fp32"


class TrainingInParts(Training):
    """Steps of the learning part, fed by the fixed part, or by cached features (`Job.cached`)."""

    def __init__(self, job: Job) -> None:
        weights, inputs = read_weights(job.weights), inputs_of(job)
        recipe = recipe_of(weights, job.weights)
        parts = split(stages.stage_net(recipe, job.stage, stages.DataSource("", workers=0)), TRUNKS[recipe.trunk])
        self._folder = tempfile.TemporaryDirectory()
        folder, fixed = Path(self._folder.name), list(parts.fixed)
        paths = [folder / f"fixed{number}.prototxt" for number in range(len(fixed))]
        for net, path in zip(fixed, paths, strict=True):
            prototxt.write_message(net, path)
        self._cache, self._step = None, 0
        if job.cached:
            trunk, path = fixed.pop(0), paths.pop(0)
            features = input_and_output(trunk)[1]
            inputs = {features: self._fill_cache(trunk, path, inputs["data"], job, weights), "label": inputs["label"]}
        self.message = messages.NetParameter(name="in_parts")
        for name, array in inputs.items():
            add_layer(self.message, name, "Input", [], input_param={"shape": [{"dim": list(array.shape)}]})
        if fixed:
            where = {"nets": list(map(str, paths)), "weights": job.weights}
            layer = {
                "module": "pysrn.train.fixed.fixed_part",
                "layer": "FixedPartLayer",
                "param_str": json.dumps(where),
            }
            first, last = self.message.layer[0].top[0], input_and_output(fixed[-1])[1]
            add_layer(self.message, "fixed_part", "Python", first, last, python_param=layer)
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

    def _fill_cache(self, trunk, path: Path, images: np.ndarray, job: Job, weights) -> np.ndarray:
        """Make the cache: row n holds the features of the batch's image n, then of the images shifted; returns X."""
        net = FixedNet(path, job.weights)
        shape = net.output_shape(*images.shape)
        feed = FeedSettings(str(path.parent), "train", len(images))
        self._cache = FeatureCache.make(path.parent, identity(trunk, weights, feed, PRECISION), shape[1:])
        self._cache.reserve(BATCHES * len(images))
        features = np.empty(shape, np.float32)
        for number in range(BATCHES):
            rows = range(number * len(images), (number + 1) * len(images))
            shifted = np.roll(images, number, axis=3)
            self._cache.fetch(rows, features, lambda shifted=shifted: net.forward(shifted)[net.output])
        return features
