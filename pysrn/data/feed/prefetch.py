"""Feeds batches in order: from worker processes that work ahead, or, with no workers, made on the spot.

pycaffe holds Python's lock while the solver steps, so threads would not help; processes of their own do.
Batch b is made by worker b mod W into slot b mod (2 W) of a ring in shared memory, so every worker has one
batch finished and one under way, and the sequence does not depend on W.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np

from pysrn import freed_memory
from pysrn.console import MissingError, SrnError, deaf_to_interrupts
from pysrn.data.feed.batches import BatchMaker
from pysrn.data.feed.settings import FeedSettings
from pysrn.data.feed.worker import FAILED_BYTE, NUMBER, READY_BYTE, create_ring_file, map_ring
from pysrn.data.pair.pair_reader import REBUILD
from pysrn.processes import ending, environment

SLOTS_PER_WORKER = 2
_PATIENCE = 2.0  # seconds that a worker has to end by itself
# How a worker uses memory and threads. Left to itself, glibc fetches every decoded image's pages anew from the system
# and gives them back: measured, a fifth of a worker's time.
_WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(freed_memory.LARGEST),
    "MALLOC_TRIM_THRESHOLD_": str(freed_memory.KEPT),
    "OPENBLAS_NUM_THREADS": "1",  # it multiplies no matrices
}
# What a signal says about the cause, and what helps.
_SIGNALS = {
    signal.SIGBUS: ("a database file was cut off or replaced while it was read, or its disk failed", REBUILD),
    signal.SIGKILL: ("as the system does when memory runs out", ""),
}


class Feeder:
    """Iterates over the batches of `settings`, from `first_sample` on, without end.

    Raises as PairReader where the pair is missing or damaged; SrnError when a worker fails or dies. `close()`
    ends the workers; so do garbage collection, the end of the interpreter and the end of the process by any
    signal. `waited` is the sum of the seconds that `next_batch` took until its batch was there.
    """

    def __init__(self, settings: FeedSettings) -> None:
        self.settings = settings
        self._maker = BatchMaker(settings)  # checks the pair here, where an error is easily raised
        self.shapes = self._maker.shapes
        self.classes = self._maker.reader.classes
        self._next = 0
        self.waited = 0.0
        self._workers: list[subprocess.Popen] = []
        if not settings.workers:
            self._ring = [tuple(np.empty(shape, np.float32) for shape in self.shapes)]
            return
        slots = SLOTS_PER_WORKER * settings.workers
        descriptor = create_ring_file(slots, self.shapes)
        try:
            self._ring = map_ring(descriptor, slots, self.shapes)
            self._finalizer = weakref.finalize(self, _stop, self._workers)
            with deaf_to_interrupts():  # Ctrl-C goes to the whole group; the parent decides
                for _ in range(settings.workers):
                    self._workers.append(_start(descriptor, slots, settings))
        finally:
            os.close(descriptor)
        for batch in range(slots):
            self._request(batch)

    def next_batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The next `data` and `label`, float32; valid until the next call."""
        started = time.monotonic()
        try:
            return self._next_batch()
        finally:
            self.waited += time.monotonic() - started

    def _next_batch(self) -> tuple[np.ndarray, np.ndarray]:
        batch, self._next = self._next, self._next + 1
        if not self.settings.workers:
            self._maker.write(batch, *self._ring[0])
            return self._ring[0]
        if batch:  # the slot of the batch before is free now
            self._request(batch - 1 + len(self._ring))
        worker = self._worker(batch)
        answer = worker.stdout.read(1)
        if answer != READY_BYTE:
            raise self._failure(worker, answer)
        return self._ring[batch % len(self._ring)]

    @property
    def worker_ids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End the workers. The feeder cannot be used afterwards."""
        if self._workers:
            self._finalizer()

    def _worker(self, batch: int) -> subprocess.Popen:
        if not self._workers:
            raise SrnError("the data feed is closed")
        return self._workers[batch % len(self._workers)]

    def _request(self, batch: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended; its answer to an earlier request says why
            self._worker(batch).stdin.write(NUMBER.pack(batch))

    def _failure(self, worker: subprocess.Popen, answer: bytes) -> SrnError:
        """The error that a worker reported, or how it died."""
        cure = ""
        if answer == FAILED_BYTE:
            text = worker.stdout.read().decode("utf-8", "replace")
        else:
            code = worker.wait()
            meaning, cure = _SIGNALS.get(-code, ("", ""))
            where = f"{self.settings.folder}, {self.settings.split}"
            text = f"a data worker process died ({ending(code)}) reading {where}{': ' if meaning else ''}{meaning}"
            cure = cure or "run the same command again"
        self.close()
        return SrnError(text, cure)


def _start(descriptor: int, slots: int, settings: FeedSettings) -> subprocess.Popen:
    """Start a worker; by a command of its own, not a fork, because Caffe has threads and locks."""
    # Under the `caffe` program sys.executable may be empty or name that program.
    python = sys.executable if "python" in Path(sys.executable or "").name else shutil.which("python3")
    if not python:
        raise MissingError("no python3 found to start data workers with", "set workers to 0 in the data layer")
    return subprocess.Popen(
        [python, "-m", "pysrn.data.feed.worker", str(descriptor), str(slots), settings.to_json()],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[descriptor],
        env=environment(**_WORKER_ENVIRONMENT),
    )


def _stop(workers: list[subprocess.Popen]) -> None:
    """Ask the workers to end by closing their stdin, wait a little, then kill."""
    for worker in workers:
        worker.stdin.close()
        worker.stdout.close()
    for worker in workers:
        try:
            worker.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    workers.clear()
