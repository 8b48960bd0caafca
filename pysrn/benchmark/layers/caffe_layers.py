"""Our Caffe's passes, timed row by row: pycaffe computes a part of a net at a time, in the order of a whole pass.

Parts are cut where no chain of `fusion` is, so the kernels, and what comes out, are those of a whole pass.
"""

from __future__ import annotations

from dataclasses import asdict

from pysrn.benchmark.contender import INFER, Job
from pysrn.benchmark.layers.rows import BEFORE, ROWS, UPDATE, rows_of
from pysrn.benchmark.layers.timeline import Timeline
from pysrn.benchmark.sides.caffe_side import Inference, Training
from pysrn.nets.folding import Weights
from pysrn.nets.forward_net import ForwardNet
from pysrn.nets.in_caffe import set_device
from pysrn.predict.deploy import DeployNet


def make_worker(job: Job) -> LayersOfInference | LayersOfStep:
    """The contestant of a job."""
    set_device(None)
    return LayersOfInference(job) if job.work == INFER else LayersOfStep(job)


class _Apart(DeployNet):
    """Keeps the memory of all blobs: a pass may then begin at any layer."""

    def _built(self, net, weights: Weights, folded: bool) -> ForwardNet:
        return ForwardNet(net, weights, str(self.path), folded, self._kept, shared=False)


class LayersOfInference(Inference):
    """A forward pass."""

    deploy_net = _Apart

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.once()
        self._rows = rows_of(self._deploy.net)
        self.facts |= {ROWS: [asdict(row) for row in self._rows]}

    def parts(self) -> list[tuple[str, float]]:
        """Seconds by row."""
        timeline = Timeline(BEFORE)
        for row in self._rows:
            timeline.begin(row.name)
            self._deploy.net._forward(row.first, row.last)
        return timeline.end()


class LayersOfStep(Training):
    """A step: forward, backward, update."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.solver.net.forward()
        self._rows = rows_of(self.solver.net)
        self.facts |= {ROWS: [asdict(row) for row in self._rows]}

    def parts(self) -> list[tuple[str, float]]:
        """Seconds by row, forward ones first."""
        net, timeline = self.solver.net, Timeline(BEFORE)
        net.clear_param_diffs()
        for row in self._rows:
            timeline.begin(row.name)
            net._forward(row.first, row.last)
        for row in reversed(self._rows):
            timeline.begin(row.name)
            net._backward(row.last, row.first)
        timeline.begin(UPDATE)
        self.solver.apply_update()
        return timeline.end()
