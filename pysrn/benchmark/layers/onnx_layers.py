"""OpenVINO's forward pass by its own profile, which names the nodes of our ONNX file."""

from __future__ import annotations

from pysrn.benchmark.contender import Job
from pysrn.benchmark.sides.onnx_side import OpenVino


def make_worker(job: Job) -> LayersOfInference:
    """The contestant of a job."""
    return LayersOfInference(job)


class LayersOfInference(OpenVino):
    """Scores and maps of a batch, profiled."""

    settings = OpenVino.settings | {"PERF_COUNT": True}

    def parts(self) -> list[tuple[str, float]]:
        """Seconds by node, in order."""
        self.once()
        return [(node.node_name, node.real_time.total_seconds()) for node in self._request.profiling_info]
