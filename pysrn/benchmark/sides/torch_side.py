"""PyTorch's side of the speed benchmarks: the same net with the same weights, written as one who wants speed would.

Evaluation mode with stored statistics, as the stages train (D7); SGD in PyTorch's fused form with the decay and rates
that the solver has; no gradients for what is fixed; batch normalisation folded where nothing learns; oneDNN. Must not
import Caffe: its OpenMP and BLAS would be loaded beside PyTorch's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from pysrn.benchmark.contender import INFER, Job
from pysrn.benchmark.nets import RATE, recipe_of, whole_net
from pysrn.benchmark.sides.torch_stage import StageLosses, caffe_layer, fold
from pysrn.convert import torch_weights
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import BIAS_RATE
from pysrn.precision import BF16
from pysrn.predict.trained import architecture_of


def make_worker(job: Job) -> Inference | Training:
    """The contestant of a job."""
    torch.set_num_threads(job.threads)
    return Inference(job) if job.work == INFER else Training(job)


def _autocast(job: Job) -> AbstractContextManager:
    """Where PyTorch may compute in the job's precision."""
    return torch.autocast("cpu", torch.bfloat16, enabled=job.precision == BF16)


class Inference:
    """Scores and maps of a batch."""

    def __init__(self, job: Job) -> None:
        self._autocast = _autocast(job)
        self._model, self._images, _ = _loaded(job)
        self._model.requires_grad_(False)
        if job.folded:
            fold(self._model)
        self._run = self._model
        if job.compiled:
            torch._inductor.config.freezing = True
            self._run = torch.compile(self._model, dynamic=False)

    @torch.no_grad()
    def once(self) -> None:
        """A forward pass."""
        with self._autocast:
            self._run(self._images)

    @torch.no_grad()
    def check(self) -> dict[str, np.ndarray]:
        """Scores and maps."""
        with self._autocast:
            found = self._run(self._images)._asdict()
        return {name: value.float().numpy() for name, value in found.items()}


class Training:
    """Steps of a stage."""

    def __init__(self, job: Job) -> None:
        self._autocast = _autocast(job)
        self._model, self._images, self._labels = _loaded(job)
        recipe = recipe_of(read_weights(job.weights), job.weights, job.dataset)
        net = whole_net(recipe, job.stage)
        learning = {layer.name for layer in net.layer if any(param.lr_mult for param in layer.param)}
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(caffe_layer(self._model, name) in learning)
        if job.folded:
            fold(self._model)
        stage = StageLosses(self._model, recipe.system, job.stage, net, job.losses)
        self._losses = job.losses
        self._run = torch.compile(stage, dynamic=False) if job.compiled else stage
        self._optimizer = torch.optim.SGD(
            _groups(self._model, recipe.weight_decay), lr=RATE, momentum=recipe.momentum, fused=True
        )

    def once(self) -> None:
        """Forward, backward, update."""
        self._gradients()
        self._optimizer.step()

    def check(self) -> dict[str, np.ndarray]:
        """Losses, and the gradients of what learns."""
        losses = self._gradients()
        found = {name: loss.detach().float().numpy() for (name, _), loss in zip(self._losses, losses, strict=False)}
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None:
                kind = name.rpartition(".")[2]
                found[f"{caffe_layer(self._model, name)}/{kind}"] = parameter.grad.numpy()
        return found

    def _gradients(self) -> list[Tensor]:
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast:
            losses = self._run(self._images, self._labels)
        sum(losses).backward()
        return losses


def describe() -> dict:
    """Versions, threads and libraries of PyTorch."""
    lines = (line.strip(" -") for line in torch.__config__.show().splitlines() if "oneDNN" in line)
    return {
        "torch": torch.__version__,
        "onednn": torch.backends.mkldnn.is_available() and next(lines, "unknown"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _loaded(job: Job) -> tuple[nn.Module, Tensor, Tensor]:
    """The net, a batch and its labels, in the memory format of the job."""
    weights = read_weights(job.weights)
    model = torch_weights.model_of(weights, architecture_of(weights, job.weights), job.weights)
    inputs = job.arrays()
    images, labels = torch.from_numpy(inputs["data"]), torch.from_numpy(inputs["label"])
    if job.channels_last:
        return model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last), labels
    return model, images, labels


def _groups(model: nn.Module, decay: float) -> list[dict]:
    """Parameters by rate and decay, as `nets/layers.py` sets them: biases do not decay and learn twice as fast."""
    weights, biases, shifts = [], [], []
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.requires_grad:
                norm = isinstance(part, nn.BatchNorm2d)
                (weights if name == "weight" else shifts if norm else biases).append(parameter)
    groups = [
        {"params": weights, "weight_decay": decay},
        {"params": biases, "weight_decay": 0.0, "lr": BIAS_RATE * RATE},
        {"params": shifts, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
