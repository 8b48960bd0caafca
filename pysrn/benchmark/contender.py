"""A contestant in a process of its own that lives through all rounds and works only when it is told to.

So every contestant has its own memory and its own libraries, those of PyTorch and those of Caffe never meet, and one
alone uses the cores at any time. The parent writes a command a line to the child's stdin, the child answers with a line
of JSON: `prepare` (warm up), `check FILE` (write the numbers that it computes), `round` (seconds of one pass), `peak`.

Run as `python -m pysrn.benchmark.contender JSON` it is the child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pysrn.console import SrnError

_WARM_UP = 3  # passes before anything is timed; the faster of the last two says how many passes make a round
CAFFE, TORCH = "caffe", "torch"


@dataclass(frozen=True)
class Job:
    """What a contestant computes, again and again.

    `work`: `train` (a step of `stage`) or `infer`. `inputs`: an .npz of `data` and `label`. `losses`: the scores that
    the stage has losses on. `folded`: batch normalisation in the weights of what is fixed, and that apart from what
    learns; `cached`: its features from a cache. `round_seconds`: how long a round of fast passes lasts.
    """

    framework: str
    work: str
    weights: str
    inputs: str
    threads: int
    round_seconds: float
    stage: int = 4
    losses: tuple[str, ...] = ()
    folded: bool = False
    cached: bool = False
    compiled: bool = False
    channels_last: bool = False


class Worker(Protocol):
    """What the child process asks of a framework's side."""

    def once(self) -> None:
        """One pass: a training step, or the scores of a batch."""

    def check(self) -> dict[str, np.ndarray]:
        """What it computes, under Caffe's names, for the comparison with the others."""

    def describe(self) -> dict:
        """Versions and settings, for the report."""


class Contender:
    """The parent's end. Raises SrnError with the child's last words when it fails. Use it as a context."""

    def __init__(self, name: str, job: Job, environment: Mapping[str, str]) -> None:
        self.name, self.job = name, job
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pysrn.benchmark.contender", json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | _threads(job.threads) | environment,
        )
        self.description = self._answer()

    def prepare(self) -> None:
        """Warm up; afterwards the peak of memory counts from zero."""
        self.description["passes_a_round"] = self._ask("prepare")

    def check(self, file: Path) -> dict[str, np.ndarray]:
        """What the contestant computes."""
        self._ask(f"check {file}")
        with np.load(file) as stored:
            found = dict(stored)
        file.unlink()
        return found

    def seconds(self) -> float:
        """Seconds of one pass, in this round."""
        return self._ask("round")

    def peak_mb(self) -> float:
        """Largest resident size since the warm-up began, in MB."""
        return self._ask("peak")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _ask(self, command: str):
        with suppress(BrokenPipeError):  # the missing answer says more
            print(command, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise SrnError(f"contestant {self.name} ended with exit code {code}: {_last_words(self._errors.read())}")
        return json.loads(line)


def _last_words(errors: str) -> str:
    """The line that says why: a traceback's last, or Caffe's last before its stack."""
    lines = [line for line in errors.splitlines() if line.strip() and not line.startswith(("***", " ", "\t"))]
    return lines[-1] if lines else "nothing was said"


def _threads(count: int) -> dict[str, str]:
    """What tells OpenMP, OpenBLAS and PyTorch how many threads to use."""
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))


def serve(job: Job) -> None:
    """Be the child: do what stdin says until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    if job.framework == CAFFE:
        from pysrn.benchmark.caffe_side import make_worker
    else:
        from pysrn.benchmark.torch_side import make_worker
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
    given = json.loads(sys.argv[1])
    serve(Job(**given | {"losses": tuple(given["losses"])}))
