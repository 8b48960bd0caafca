"""Shared memory for finished batches: a ring of slots, each with the arrays of one batch.

The memory has no name (memfd), so nothing is left behind however the processes end, and it does not count
against the 64 MB that containers allow in /dev/shm.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence

import numpy as np

Arrays = tuple[np.ndarray, ...]


def create_ring_file(slots: int, shapes: Sequence[tuple[int, ...]]) -> int:
    """A file descriptor of memory for `slots` slots; freed when the last process lets go of it."""
    descriptor = os.memfd_create("pysrn-batches")
    os.ftruncate(descriptor, slots * _slot_bytes(shapes))
    return descriptor


def map_ring(descriptor: int, slots: int, shapes: Sequence[tuple[int, ...]]) -> list[Arrays]:
    """Map the memory: for each slot, float32 arrays of the given shapes."""
    memory = mmap.mmap(descriptor, slots * _slot_bytes(shapes))
    ring, offset = [], 0
    for _ in range(slots):
        arrays = []
        for shape in shapes:
            count = math.prod(shape)
            arrays.append(np.frombuffer(memory, np.float32, count, offset).reshape(shape))
            offset += count * np.dtype(np.float32).itemsize
        ring.append(tuple(arrays))
    return ring


def _slot_bytes(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes) * np.dtype(np.float32).itemsize
