"""Caffe's side of the speed benchmarks: the project's own nets with its own solver, fed with one batch from memory.

Which of the speed patches work is decided by CAFFE_ENGINE in the environment of the process (`contender.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import caffe
import numpy as np

from pysrn.benchmark.job import INFER, Job
from pysrn.benchmark.nets import RATE, fed_by_input, make_solver, recipe_of, whole_net
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.in_caffe import set_device
from pysrn.nets.losses import loss_layers
from pysrn.predict.deploy import DeployNet
from pysrn.report.setup_report import describe_blas, describe_caffe

BLOBS = ("weight", "bias")


def make_worker(job: Job) -> Inference | Training:
    """The contestant of a job."""
    set_device(None)
    return Inference(job) if job.work == INFER else Training(job)


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

    def __init__(self, job: Job) -> None:
        images = job.arrays()["data"]
        self._deploy = DeployNet(Path(job.weights), len(images), folded=job.folded)
        self._deploy.net.blobs["data"].data[...] = images

    def once(self) -> None:
        """A forward pass."""
        self._deploy.net.forward()

    def check(self) -> dict[str, np.ndarray]:
        """Scores and maps."""
        self.once()
        names = [name for name in (*self._deploy.scores, *self._deploy.maps) if name in self._deploy.net.blobs]
        return {name: self._deploy.net.blobs[name].data.copy() for name in names}

    def describe(self) -> dict:
        """See `describe`."""
        return describe()


class Training:
    """Steps of a stage's whole net. The small rate keeps the losses where they are; the weights change all the same."""

    def __init__(self, job: Job) -> None:
        weights = read_weights(job.weights)
        recipe, inputs = recipe_of(weights, job.weights, job.dataset), job.arrays()
        shapes = {name: array.shape for name, array in inputs.items()}
        self.message = fed_by_input(whole_net(recipe, job.stage), shapes)
        self.solver = make_solver(self.message, recipe, job.stage, RATE)
        fill(self.solver.net, weights, inputs)

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

    def describe(self) -> dict:
        """See `describe`."""
        return describe()


def fill(net: caffe.Net, weights: Mapping[str, list[np.ndarray]], inputs: Mapping[str, np.ndarray]) -> None:
    """Fill a net's weights, and those of the inputs that it has."""
    for name, blobs in net.params.items():
        for blob, values in zip(blobs, weights[name], strict=True):
            blob.data[...] = values.reshape(blob.data.shape)
    for name in set(inputs) & set(net.blobs):
        net.blobs[name].data[...] = inputs[name]
