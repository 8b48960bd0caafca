"""Caffe's side of the speed benchmarks: the project's own nets with its own solver, fed with one batch from memory.

Which of the speed patches work is decided by CAFFE_ENGINE in the environment of the process (`contender.py`).
A step over a fixed trunk has the net split as in training (`train/fixed/split_net.py`): the fixed part runs folded
beside the net that learns, or its features come from a cache on the disk, as in every epoch but the first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import caffe
import numpy as np

from pysrn.benchmark.contender import INFER, Job
from pysrn.benchmark.limit import PASSES, Pass, passes
from pysrn.benchmark.nets import RATE, make_solver, recipe_of, whole_net
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.fixed import LABEL
from pysrn.nets.folding import fill
from pysrn.nets.in_caffe import set_device
from pysrn.nets.losses import loss_layers
from pysrn.predict.deploy import DeployNet
from pysrn.recipes import Recipe
from pysrn.report.setup_report import describe_blas, describe_caffe
from pysrn.train.fixed.feature_cache import FeatureCache
from pysrn.train.fixed.fixed_part import FixedNet, fixed_in_use
from pysrn.train.fixed.settings import CachedSettings, fed_by_input
from pysrn.train.fixed.split_net import SplitNet

BLOBS = ("weight", "bias")
BATCHES = 8  # in the cache: no step reads what the step before it read
PRECISION = "fp32"  # of the cache
Arrays = Mapping[str, np.ndarray]


def make_worker(job: Job) -> Inference | Training:
    """The contestant of a job."""
    set_device(None)
    if job.work == INFER:
        return Inference(job)
    return TrainingSplit(job) if job.folded else Training(job)


def describe() -> dict:
    """Caffe's build, the parts of the engine that are in use (None: a Caffe without the patches), and its BLAS."""
    found = describe_caffe(caffe, [])
    parts = caffe.engine_parts() if hasattr(caffe, "engine_parts") else None
    blas = describe_blas(caffe._caffe.__file__, True, [])
    return {
        "caffe": found["version"],
        "build": found.get("build", {}),
        "engine_parts": parts if parts is None else list(parts),
        "blas": {name: blas[name] for name in ("config", "kernel", "parallel", "threads") if name in blas},
    }


class Inference:
    """Scores and maps of a batch from the deploy net."""

    deploy_net = DeployNet

    def __init__(self, job: Job) -> None:
        images = job.arrays()["data"]
        self._deploy = self.deploy_net(Path(job.weights), len(images), folded=job.folded)
        self._deploy.net.blobs["data"].data[...] = images
        self.facts = {PASSES: [asdict(one) for one in passes(self._deploy.net)]}

    def once(self) -> None:
        """A forward pass."""
        self._deploy.net.forward()

    def check(self) -> dict[str, np.ndarray]:
        """Scores and maps."""
        self.once()
        names = [name for name in (*self._deploy.scores, *self._deploy.maps) if name in self._deploy.net.blobs]
        return {name: self._deploy.net.blobs[name].data.copy() for name in names}


class Training:
    """Steps of a stage's whole net. The small rate keeps the losses where they are; the weights change all the same."""

    def __init__(self, job: Job) -> None:
        weights, inputs = read_weights(job.weights), job.arrays()
        recipe = recipe_of(weights, job.weights, job.dataset)
        net, inputs = self._prepared(whole_net(recipe, job.stage), recipe, job, inputs)
        self.message = fed_by_input(net, {name: array.shape for name, array in inputs.items()})
        self.solver = make_solver(self.message, recipe, job.stage, RATE)
        fill(self.solver.net, weights)
        for name in inputs.keys() & set(self.solver.net.blobs):
            self.solver.net.blobs[name].data[...] = inputs[name]
        self.facts = {PASSES: [asdict(one) for one in self._passes()]}

    def _prepared(
        self, whole: messages.NetParameter, recipe: Recipe, job: Job, inputs: Arrays
    ) -> tuple[messages.NetParameter, Arrays]:
        """What is trained of the whole net, and what it is fed with."""
        return whole, inputs

    def _passes(self) -> list[Pass]:
        """What a step has to compute."""
        return passes(self.solver.net, self.message)

    def once(self) -> None:
        """Forward, backward, update."""
        self.solver.step(1)

    def check(self) -> dict[str, np.ndarray]:
        """Losses, and the gradients of what learns."""
        net = self.solver.net
        net.clear_param_diffs()
        net.forward()
        net.backward()
        losses = [layer.top[0] for layer in loss_layers(self.message)]
        found = {name: net.blobs[name].data.copy() for name in losses}
        for layer in self.message.layer:
            if any(param.lr_mult for param in layer.param):
                for kind, blob in zip(BLOBS, net.params[layer.name], strict=False):
                    found[f"{layer.name}/{kind}"] = blob.diff.copy()
        return found


class TrainingSplit(Training):
    """Steps of the learning part, fed by the fixed part, or by cached features (`Job.cached`)."""

    def _prepared(self, whole, recipe, job, inputs):
        self._folder = tempfile.TemporaryDirectory()
        self._cache, self._step = None, 0
        # The cache makes room for as many samples as a stage has.
        stages = tuple(replace(stage, iterations=BATCHES, views=None) for stage in recipe.stages)
        recipe = replace(recipe, batch_size=len(inputs["data"]), iter_size=1, stages=stages)
        folder = Path(self._folder.name)
        parts = SplitNet(folder, recipe, job.stage, Path(job.weights), whole)
        net = parts.prepare(whole, PRECISION if job.cached else None, folder, on_gpu=False)
        if job.cached:
            self._top = net.layer[0].top[0]
            told = CachedSettings.from_json(net.layer[0].python_param.param_str)
            inputs = {self._top: self._fill_cache(told, inputs["data"]), LABEL: inputs[LABEL]}
        return net, inputs

    def _passes(self) -> list[Pass]:
        """The learning part's, and forward those of the fixed part that runs beside it."""
        beside = [one for fixed in fixed_in_use() for one in passes(fixed.net)]
        return beside + super()._passes()

    def once(self) -> None:
        """A step; with cached features, reading a batch of them before it."""
        self._read()
        super().once()

    def check(self) -> dict[str, np.ndarray]:
        """As the whole net's, on the first batch."""
        self._step = 0
        self._read()
        return super().check()

    def _read(self) -> None:
        if self._cache is not None:
            features = self.solver.net.blobs[self._top].data
            first = self._step % BATCHES * len(features)
            self._step += 1
            self._cache.fetch(range(first, first + len(features)), features, self._missing)

    def _missing(self) -> np.ndarray:
        raise AssertionError("the cache was filled before")

    def _fill_cache(self, told: CachedSettings, images: np.ndarray) -> np.ndarray:
        """Row n holds the features of the batch's image n, then of the images shifted; returns the last ones."""
        net, self._cache = FixedNet(Path(told.trunk), told.weights), FeatureCache(Path(told.cache))
        features = np.empty((len(images), *self._cache.shape), np.float32)
        for number in range(BATCHES):
            rows = range(number * len(images), (number + 1) * len(images))
            shifted = np.roll(images, number, axis=3)
            self._cache.fetch(rows, features, lambda shifted=shifted: net.forward(shifted)[net.output])
        return features
