"""PyTorch's passes, timed by hooks: a layer's time lasts until the next one with parameters begins.

Backward it begins when the gradient of what the layer's row puts out is there. Hooks cost some microseconds a layer.
Without torch.compile, which leaves no layers to be timed.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pysrn.benchmark.contender import INFER, Job
from pysrn.benchmark.layers.rows import BEFORE, UPDATE
from pysrn.benchmark.layers.timeline import Timeline
from pysrn.benchmark.sides.torch_side import Inference, Training
from pysrn.benchmark.sides.torch_stage import caffe_layer


def make_worker(job: Job) -> LayersOfInference | LayersOfStep:
    """The contestant of a job."""
    torch.set_num_threads(job.threads)
    return LayersOfInference(job) if job.work == INFER else LayersOfStep(job)


class Watch:
    """While active (`with`), a model's layers tell a timeline, which `with` gives, when their times begin."""

    def __init__(self, model: nn.Module) -> None:
        self._handles = []
        self._seen: dict[int, Tensor] = {}  # kept: a number is given again once its tensor is gone
        for path, part in model.named_modules():
            own = [name for name, _ in part.named_parameters(recurse=False)]
            if own:
                layer = caffe_layer(model, f"{path}.{own[0]}")
                self._handles.append(part.register_forward_pre_hook(partial(self._before, layer)))
                self._handles.append(part.register_forward_hook(partial(self._behind, layer)))

    def __enter__(self) -> Timeline:
        self._timeline = Timeline(BEFORE)
        return self._timeline

    def __exit__(self, *error) -> None:
        for handle in self._handles:
            handle.remove()
        self._seen.clear()

    def _before(self, layer: str, module: nn.Module, read: tuple) -> None:
        for value in read[:1]:  # what the layer reads was computed in the time before it
            self._tell_backward(self._timeline.layer, value)
        self._timeline.begin(layer)

    def _behind(self, layer: str, module: nn.Module, read: tuple, made) -> None:
        self._tell_backward(layer, made)

    def _tell_backward(self, layer: str, value) -> None:
        if isinstance(value, Tensor) and value.requires_grad and id(value) not in self._seen:
            self._seen[id(value)] = value
            value.register_hook(lambda gradient: self._timeline.begin(layer))


class LayersOfInference(Inference):
    """A forward pass."""

    def parts(self) -> list[tuple[str, float]]:
        """Seconds by layer."""
        with Watch(self._model) as timeline:
            self.once()
            return timeline.end()


class LayersOfStep(Training):
    """A step: forward, backward, update."""

    def parts(self) -> list[tuple[str, float]]:
        """Seconds by layer, forward ones first."""
        with Watch(self._model) as timeline:
            self._gradients()
            timeline.begin(UPDATE)
            self._optimizer.step()
            return timeline.end()
