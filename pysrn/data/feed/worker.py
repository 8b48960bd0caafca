"""A worker process of the data layer: `python -m pysrn.data.feed.worker DESCRIPTOR SLOTS SETTINGS`.

Reads batch numbers (8 bytes each) from stdin, writes each batch into its slot of the shared ring and answers
one byte on stdout; after an error it answers `FAILED_BYTE` and the message, and ends. It also ends when stdin
closes: that happens however the parent ends, so no worker is left behind.

The ring has slots, each with the arrays of one batch. Its memory has no name (memfd), so nothing is left behind however
the processes end, and it does not count against the 64 MB that containers allow in /dev/shm.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import struct
import sys
from collections.abc import Sequence

import cv2
import lmdb
import numpy as np

from pysrn.console import SrnError
from pysrn.data.feed.batches import BatchMaker
from pysrn.data.feed.settings import FeedSettings

NUMBER = struct.Struct("<q")
READY_BYTE, FAILED_BYTE = b"+", b"!"


def create_ring_file(slots: int, shapes: Sequence[tuple[int, ...]]) -> int:
    """A file descriptor of memory for `slots` slots; freed when the last process lets go of it."""
    descriptor = os.memfd_create("pysrn-batches")
    os.ftruncate(descriptor, slots * _slot_bytes(shapes))
    return descriptor


def map_ring(descriptor: int, slots: int, shapes: Sequence[tuple[int, ...]]) -> list[tuple[np.ndarray, ...]]:
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


def main(arguments: list[str]) -> int:
    """Serve until stdin closes."""
    # Batch systems send SIGTERM to every process of a job: the net's process decides when it needs no more batches.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
    descriptor, slots, settings = int(arguments[0]), int(arguments[1]), FeedSettings.from_json(arguments[2])
    try:
        maker = BatchMaker(settings)
        ring = map_ring(descriptor, slots, maker.shapes)
        while request := os.read(0, NUMBER.size):
            (batch,) = NUMBER.unpack(request)
            maker.write(batch, *ring[batch % slots])
            os.write(1, READY_BYTE)
    except BrokenPipeError:
        return 0
    except (SrnError, OSError, MemoryError, lmdb.Error, cv2.error) as error:
        text = str(error) if isinstance(error, SrnError) else f"{type(error).__name__}: {error}"
        os.write(1, FAILED_BYTE + text.encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
