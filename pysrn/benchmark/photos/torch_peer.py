"""The way from photos to scores as users of PyTorch write it: a DataLoader, and the folded net, compiled or not.

Run as `python -m pysrn.benchmark.photos.torch_peer JSON`. Must not import Caffe.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pysrn.benchmark.photos.job import PhotoJob, filled
from pysrn.benchmark.sides.torch_stage import fold
from pysrn.convert.torch_weights import load_model


class Photos(Dataset):
    """Item n is photo n as the net eats it."""

    def __init__(self, job: PhotoJob) -> None:
        self._job, self._files = job, job.files()

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self._job.view(Path(self._files[number])))


@torch.inference_mode()
def batches(job: PhotoJob) -> Iterator[dict[str, np.ndarray]]:
    """Scores, batch by batch."""
    model = load_model(job.weights).requires_grad_(False)
    fold(model)
    run = model = model.to(memory_format=torch.channels_last)
    if job.compiled:
        torch._inductor.config.freezing = True
        run = torch.compile(model, dynamic=False)
    for images in DataLoader(Photos(job), job.batch, num_workers=job.workers, worker_init_fn=_one_thread):
        whole = torch.from_numpy(filled(images.numpy(), job.batch))
        found = run(whole.to(memory_format=torch.channels_last))._asdict()
        yield {name: found[name].numpy().copy() for name in job.scores}


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)


if __name__ == "__main__":
    told = PhotoJob.from_json(sys.argv[1])
    torch.set_num_threads(told.threads)
    with torch.no_grad():
        told.write(batches(told))
