"""OpenVINO's and onnxruntime's side of the speed benchmarks: our ONNX file, as one who wants speed would run it.

A batch of a fixed size, one request at a time, as many threads as the others have. Nothing else is imported.
"""

from __future__ import annotations

import numpy as np

from pysrn.benchmark.contender import OPENVINO, Job

ONE_REQUEST = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
HINTS = {"fp32": "f32", "bf16": "bf16"}  # OpenVINO's words for pysrn.precision's


def make_worker(job: Job) -> OpenVino | OnnxRuntime:
    """The contestant of a job, whose `onnx` is the file."""
    return OpenVino(job) if job.framework == OPENVINO else OnnxRuntime(job)


def describe() -> dict:
    """Nothing but what the workers load."""
    return {}


class OpenVino:
    """Scores and maps of a batch."""

    settings = ONE_REQUEST

    def __init__(self, job: Job) -> None:
        import openvino

        images = job.arrays()["data"]
        core = openvino.Core()
        model = core.read_model(job.onnx)
        model.reshape({model.inputs[0]: list(images.shape)})
        settings = {"INFERENCE_PRECISION_HINT": HINTS[job.precision], "INFERENCE_NUM_THREADS": job.threads}
        self._request = core.compile_model(model, "CPU", self.settings | settings).create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(images))
        self._names = [output.any_name for output in model.outputs]

    def once(self) -> None:
        """A forward pass."""
        self._request.infer()

    def check(self) -> dict[str, np.ndarray]:
        """Scores and maps."""
        self.once()
        return {name: self._request.get_tensor(name).data.copy() for name in self._names}


class OnnxRuntime:
    """Scores and maps of a batch."""

    def __init__(self, job: Job) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        self._session = onnxruntime.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
        self._inputs = {self._session.get_inputs()[0].name: job.arrays()["data"]}

    def once(self) -> None:
        """A forward pass."""
        self._session.run(None, self._inputs)

    def check(self) -> dict[str, np.ndarray]:
        """Scores and maps."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(None, self._inputs), strict=True))
