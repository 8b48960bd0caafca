"""PyTorch's side of the speed benchmarks: the same net with the same weights, written as one who wants speed would.

Evaluation mode with stored statistics, as the stages train (D7); SGD in PyTorch's fused form with the decay and rates
that the solver has; no gradients for what is fixed; batch normalisation folded where nothing learns; oneDNN. Must not
import Caffe: its OpenMP and BLAS would be loaded beside PyTorch's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pysrn.benchmark.contender import Job
from pysrn.benchmark.nets import RATE, recipe_of
from pysrn.convert import torch_weights
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import BIAS_RATE
from pysrn.predict.trained import architecture_of
from pysrn.systems.srn.torch_model import SRN, SRNOutput

LEARNS = {1: ("trunk", "cls_"), 2: ("att_", "conf_"), 3: ("sr_",), 4: ("",)}  # prefixes of what a stage trains


def make_worker(job: Job) -> Inference | Training:
    """The contestant of a job."""
    torch.set_num_threads(job.threads)
    return Inference(job) if job.work == "infer" else Training(job)


class Inference:
    """Scores and maps of a batch."""

    def __init__(self, job: Job) -> None:
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
        self._run(self._images)

    @torch.no_grad()
    def check(self) -> dict[str, np.ndarray]:
        """Scores and maps."""
        return {name: value.numpy() for name, value in zip(SRNOutput._fields, self._run(self._images), strict=True)}

    def describe(self) -> dict:
        """See `describe`."""
        return describe()


class Training:
    """Steps of a stage."""

    def __init__(self, job: Job) -> None:
        self._model, self._images, self._labels = _loaded(job)
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name.startswith(LEARNS[job.stage]))
        if job.folded:
            fold(self._model)
        stage = StageLosses(self._model, job.stage, job.losses)
        self._losses = job.losses
        self._run = torch.compile(stage, dynamic=False) if job.compiled else stage
        plan = recipe_of(read_weights(job.weights), job.weights)
        self._optimizer = torch.optim.SGD(
            _groups(self._model, plan.weight_decay), lr=RATE, momentum=plan.momentum, fused=True
        )

    def once(self) -> None:
        """Forward, backward, update."""
        self._gradients()
        self._optimizer.step()

    def check(self) -> dict[str, np.ndarray]:
        """Losses, and the gradients of what learns."""
        losses = self._gradients()
        found = {
            f"loss_{name.removeprefix('score_')}": loss.detach().numpy()
            for name, loss in zip(self._losses, losses, strict=True)
        }
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None:
                part, _, kind = name.rpartition(".")
                norm = isinstance(self._model.get_submodule(part), nn.BatchNorm2d)
                layer = torch_weights.batch_norm_names(part)[1] if norm else torch_weights.layer_name(part)
                found[f"{layer}/{kind}"] = parameter.grad.numpy()
        return found

    def describe(self) -> dict:
        """See `describe`."""
        return describe()

    def _gradients(self) -> list[Tensor]:
        self._optimizer.zero_grad(set_to_none=True)
        losses = self._run(self._images, self._labels)
        sum(losses).backward()
        return losses


class StageLosses(nn.Module):
    """Images and labels -> the losses of a stage; computes nothing that the stage does not need."""

    def __init__(self, model: SRN, stage: int, losses: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.stage, self.losses = model, stage, losses
        if stage in (2, 3):
            model.trunk.res5 = nn.Identity()
            for name, part in model.named_modules():  # heads that a stage adds follow the batch
                part.train(isinstance(part, nn.BatchNorm2d) and name.startswith(LEARNS[stage]))

    def forward(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """One loss a score: summed over the labels, a mean over the batch, as Caffe's."""
        found = self.scores(images)
        return [
            functional.binary_cross_entropy_with_logits(found[name], labels, reduction="sum") / len(images)
            for name in self.losses
        ]

    def scores(self, images: Tensor) -> dict[str, Tensor]:
        """The scores that the stage's losses need."""
        model = self.model
        if self.stage == 4:
            return model(images)._asdict()
        if self.stage == 1:
            top = model.trunk(images)[1]
            return {"score_cls": model.cls_fc(functional.avg_pool2d(top, 7).flatten(1))}
        with torch.no_grad():
            features = model.trunk(images)[0]
        with torch.set_grad_enabled(self.stage == 2):
            blocks = model.residual_blocks(features) if model.released else features
            attention = model.attention(blocks)
            confidence = model.confidence(blocks if model.heads.confidence_sees_blocks else features)
        if self.stage == 2:
            return {"score_att": (confidence * attention).sum((2, 3))}
        with torch.no_grad():
            weighted = torch.sigmoid(confidence) * attention
        return {"score_sr": model.regulariser(weighted)}


def fold(model: nn.Module) -> None:
    """Fold every BatchNorm2d that follows a convolution, and of which nothing learns, into it."""
    for part in model.modules():
        for name, convolution in list(part.named_children()):
            for norm in (f"bn_{name}", f"{name}_bn"):
                follower = getattr(part, norm, None)
                if isinstance(convolution, nn.Conv2d) and _fixed_norm(follower):
                    setattr(part, name, fuse_conv_bn_eval(convolution, follower))
                    setattr(part, norm, nn.Identity())


def describe() -> dict:
    """Versions, threads and libraries of PyTorch."""
    return {
        "torch": torch.__version__,
        "onednn": torch.backends.mkldnn.is_available() and _line("oneDNN"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _line(word: str) -> str:
    return next((line.strip(" -") for line in torch.__config__.show().splitlines() if word in line), "unknown")


def _fixed_norm(part: nn.Module | None) -> bool:
    learns = part is not None and any(parameter.requires_grad for parameter in part.parameters())
    return isinstance(part, nn.BatchNorm2d) and not part.training and not learns


def _loaded(job: Job) -> tuple[SRN, Tensor, Tensor]:
    """The net, a batch and its labels, in the memory format of the job."""
    weights = read_weights(job.weights)
    model = torch_weights.model_of(weights, architecture_of(weights, job.weights), job.weights)
    with np.load(job.inputs) as inputs:
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
