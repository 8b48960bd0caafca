"""A contestant in a process of its own that lives through all rounds and works only when it is told to.

So every contestant has its own memory and its own libraries, those of PyTorch and those of Caffe never meet, and one
alone uses the cores at any time. The parent writes a command a line to the child's stdin, the child (`child.py`)
answers with a line of JSON. What a contestant computes is its `Job`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pysrn.console import SrnError
from pysrn.later import later
from pysrn.precision import FP32
from pysrn.processes import python_module

np = later("numpy")
CAFFE, TORCH, OPENVINO, ONNXRUNTIME = "caffe", "torch", "openvino", "onnxruntime"
INFER, TRAIN, SEQUENCE, SEARCH = "infer", "train", "sequence", "search"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of OpenMP, OpenBLAS and PyTorch


@dataclass(frozen=True)
class Job:
    """What a contestant computes, again and again.

    `work`: `train` (a step of `stage`), `infer`, or a work of `recurrent/sides.py`. `dataset`: whose recipe. `inputs`:
    an .npz of `data` and `label`, or of what that work reads. `losses`: the names of the losses, each with its score.
    `folded`: batch normalisation in the weights of what is fixed, and that apart from what learns; `cached`: its
    features from a cache. `round_seconds`: how long a round of fast passes lasts. `precision`: what convolutions may
    multiply (our Caffe is told by its environment). `onnx`: the weights as an ONNX file, for those who read it.
    `layers`: can be timed layer by layer.
    """

    framework: str
    work: str
    weights: str
    inputs: str
    threads: int
    round_seconds: float
    stage: int | None = None
    dataset: str | None = None
    losses: tuple[tuple[str, str], ...] = ()
    folded: bool = False
    cached: bool = False
    compiled: bool = False
    channels_last: bool = False
    precision: str = FP32
    onnx: str = ""
    layers: bool = False

    def to_json(self) -> str:
        """For the command line of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        given = json.loads(text)
        return cls(**given | {"losses": tuple(map(tuple, given["losses"]))})

    def arrays(self) -> dict[str, np.ndarray]:
        """The inputs."""
        with np.load(self.inputs) as inputs:
            return dict(inputs)


class Contender:
    """The parent's end. Raises SrnError with the child's last words when it fails. Has to be closed."""

    def __init__(self, name: str, job: Job, environment: Mapping[str, str]) -> None:
        self.name, self.job = name, job
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            python_module("pysrn.benchmark.child", job.to_json()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | dict.fromkeys(THREADS, str(job.threads)) | environment,
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

    def parts(self) -> list[tuple[str, float]]:
        """Layers and their seconds in one pass, in order, of a job of `layers`."""
        return [(layer, seconds) for layer, seconds in self._ask("parts")]

    def peak_mb(self) -> float:
        """Largest resident size since the warm-up began, in MB."""
        return self._ask("peak")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

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
