"""Whose layers are timed; each side imports its own framework alone."""

from __future__ import annotations

from pysrn.benchmark.contender import CAFFE, TORCH, Job


def make_worker(job: Job):
    """The contestant of a job: beside what a worker of `child.py` has, `parts()` gives pairs of layer and seconds."""
    if job.framework == CAFFE:
        from pysrn.benchmark.layers import caffe_layers as side
    elif job.framework == TORCH:
        from pysrn.benchmark.layers import torch_layers as side
    else:
        from pysrn.benchmark.layers import onnx_layers as side
    return side.make_worker(job)
