"""The process of a contestant: it does what stdin says, and answers with a line of JSON each.

`prepare` (warm up), `check FILE` (write the numbers that it computes), `round` (seconds of one pass), `peak`.
Run as `python -m pysrn.benchmark.child JSON`; `contender.py` does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from pysrn.benchmark.job import CAFFE, TRAIN, Job, Worker

_WARM_UP = 3  # passes before anything is timed; the faster of the last two says how many passes make a round


def make_worker(job: Job) -> Worker:
    """The contestant of a job; imports the libraries of its framework alone."""
    if job.framework != CAFFE:
        from pysrn.benchmark.torch_side import make_worker
    elif job.work == TRAIN and job.folded:
        from pysrn.benchmark.fixed_side import make_worker
    else:
        from pysrn.benchmark.caffe_side import make_worker
    return make_worker(job)


def serve(job: Job) -> None:
    """Be the child: do what stdin says until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    worker, passes = make_worker(job), 1

    def answer(value) -> None:
        print(json.dumps(value), file=answers, flush=True)

    answer(worker.describe())
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        if command == "prepare":
            _forget_peak()
            taken = [_seconds(worker, 1) for _ in range(_WARM_UP)]
            passes = max(1, round(job.round_seconds / min(taken[1:])))
            answer(passes)
        elif command == "check":
            np.savez(rest, **worker.check())
            answer(rest)
        elif command == "round":
            if passes > 1:
                worker.once()  # fills the caches that the contestant before has filled
            answer(_seconds(worker, passes))
        elif command == "peak":
            answer(_peak_mb())


def _seconds(worker: Worker, passes: int) -> float:
    started = time.perf_counter()
    for _ in range(passes):
        worker.once()
    return (time.perf_counter() - started) / passes


def _forget_peak() -> None:
    """Let VmHWM start anew (proc(5), clear_refs): the loading of weights is not what is measured."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    serve(Job.from_json(sys.argv[1]))
