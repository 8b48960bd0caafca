"""The way from photos to scores with OpenVINO: threads that decode ahead, and our ONNX file, a batch at a time.

Run as `python -m pysrn.benchmark.photos.openvino_peer JSON`. Must import neither Caffe nor PyTorch.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import openvino

from pysrn.benchmark.photos.job import PhotoJob, filled
from pysrn.benchmark.sides.onnx_side import ONE_REQUEST

AHEAD = 2  # batches that are decoded before they are needed, as a DataLoader's worker does


def batches(job: PhotoJob) -> Iterator[dict[str, np.ndarray]]:
    """Scores, batch by batch."""
    core = openvino.Core()
    model = core.read_model(job.onnx)
    model.reshape({model.inputs[0]: [job.batch, 3, job.size, job.size]})
    settings = ONE_REQUEST | {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job.threads}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    for images in _views(job):
        request.set_input_tensor(openvino.Tensor(filled(images, job.batch)))
        request.infer()
        yield {name: request.get_tensor(name).data.copy() for name in job.scores}


def _views(job: PhotoJob) -> Iterator[np.ndarray]:
    """Batches of photos as the net eats them."""
    files = job.files()
    spans = [files[start : start + job.batch] for start in range(0, len(files), job.batch)]
    with ThreadPoolExecutor(max(1, job.workers)) as pool:
        waiting = deque([pool.submit(job.view, file) for file in span] for span in spans[:AHEAD])
        for number in range(len(spans)):
            views = [one.result() for one in waiting.popleft()]
            for span in spans[number + AHEAD : number + AHEAD + 1]:
                waiting.append([pool.submit(job.view, file) for file in span])
            yield np.stack(views)


if __name__ == "__main__":
    cv2.setNumThreads(0)
    told = PhotoJob.from_json(sys.argv[1])
    told.write(batches(told))
