"""A contestant in a process of its own that lives through all rounds and works only when it is told to.

So every contestant has its own memory and its own libraries, those of PyTorch and those of Caffe never meet, and one
alone uses the cores at any time. The parent writes a command a line to the child's stdin, the child (`child.py`)
answers with a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from pysrn.benchmark.job import Job
from pysrn.console import SrnError


class Contender:
    """The parent's end. Raises SrnError with the child's last words when it fails. Use it as a context."""

    def __init__(self, name: str, job: Job, environment: Mapping[str, str]) -> None:
        self.name, self.job = name, job
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pysrn.benchmark.child", job.to_json()],
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
