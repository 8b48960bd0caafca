"""The process of a contestant: it does what stdin says, and answers with a line of JSON each.

`prepare` (warm up), `check FILE` (write the numbers that it computes), `round` (seconds of one pass), `parts` (seconds
of its layers), `peak`.
Run as `python -m pysrn.benchmark.child JSON`; `contender.py` does.

A framework's side is a module with `describe()`, its versions and settings for the report, and `make_worker(job)`. A
worker has `once()`, one pass: a training step, or the scores of a batch; and `check()`, the numbers that it computes
by their names in Caffe, for the comparison with the others. It may have `facts`, which go with the description.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from pysrn.benchmark.contender import CAFFE, ONNXRUNTIME, OPENVINO, SEARCH, SEQUENCE, Job
from pysrn.benchmark.limit import COPY, PRODUCT
from pysrn.benchmark.timing import seconds_of
from pysrn.processes import end_with_parent

_WARM_UP = 2  # single passes behind the first one; the faster of them says how many passes make a round


def serve(job: Job) -> None:
    """Be the child: do what stdin says until it ends."""
    end_with_parent(os.getppid())  # where it is gone already, stdin has ended
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    if job.framework == CAFFE:  # the libraries of its framework alone
        from pysrn.benchmark.sides import caffe_side as side
    elif job.work in (PRODUCT, COPY):
        from pysrn.benchmark.sides import limit_side as side
    elif job.framework in (OPENVINO, ONNXRUNTIME):
        from pysrn.benchmark.sides import onnx_side as side
    else:
        from pysrn.benchmark.sides import torch_side as side
    make_worker = side.make_worker
    if job.work in (SEQUENCE, SEARCH):
        from pysrn.benchmark.recurrent.sides import make_worker
    elif job.layers:
        from pysrn.benchmark.layers.sides import make_worker
    worker, passes = make_worker(job), 1

    def answer(value) -> None:
        print(json.dumps(value), file=answers, flush=True)

    answer(side.describe() | getattr(worker, "facts", {}))
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        if command == "prepare":
            worker.once()
            # proc(5): VmHWM begins anew, behind the loading of weights and the gradients that were kept to be compared
            Path("/proc/self/clear_refs").write_text("5")
            taken = [seconds_of(worker.once, 1) for _ in range(_WARM_UP)]
            passes = max(1, round(job.round_seconds / min(taken)))
            answer(passes)
        elif command == "check":
            np.savez(rest, **worker.check())
            answer(rest)
        elif command == "round":
            if passes > 1:
                worker.once()  # fills the caches that the contestant before has filled
            answer(seconds_of(worker.once, passes))
        elif command == "parts":
            worker.once()
            answer(worker.parts())
        elif command == "peak":
            lines = Path("/proc/self/status").read_text().splitlines()
            answer(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)  # MB


if __name__ == "__main__":
    serve(Job.from_json(sys.argv[1]))
