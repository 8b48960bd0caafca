"""What the limit's speeds are measured with: PyTorch's product of two matrices, and its copy."""

from __future__ import annotations

import torch

from pysrn.benchmark.contender import Job
from pysrn.benchmark.limit import COPY_NUMBERS, PRODUCT, SIDE
from pysrn.precision import BF16


def make_worker(job: Job) -> Product | Copy:
    """The contestant of a job."""
    torch.set_num_threads(job.threads)
    return Product(job) if job.work == PRODUCT else Copy()


def describe() -> dict:
    """Whose product it is."""
    return {"torch": torch.__version__}


class Product:
    """Of two square matrices, in the job's precision."""

    def __init__(self, job: Job) -> None:
        kind = torch.bfloat16 if job.precision == BF16 else torch.float32
        self._factors = torch.ones(2, SIDE, SIDE, dtype=kind)
        self._out = torch.empty(SIDE, SIDE, dtype=kind)

    def once(self) -> None:
        """One product."""
        torch.mm(*self._factors, out=self._out)


class Copy:
    """Of an array."""

    def __init__(self) -> None:
        self._from, self._to = torch.ones(COPY_NUMBERS), torch.zeros(COPY_NUMBERS)

    def once(self) -> None:
        """One copy."""
        self._to.copy_(self._from)
