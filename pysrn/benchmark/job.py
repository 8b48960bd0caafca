"""What a contestant is told, and what it has to be able to do: common to the parent and to each framework's side."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

CAFFE, TORCH = "caffe", "torch"
INFER, TRAIN = "infer", "train"


@dataclass(frozen=True)
class Job:
    """What a contestant computes, again and again.

    `work`: `train` (a step of `stage`) or `infer`. `dataset`: whose recipe. `inputs`: an .npz of `data` and `label`.
    `losses`: names of the stage's losses, each with the score that it is of. `folded`: batch normalisation in the
    weights of what is fixed, and that apart from what learns; `cached`: its features from a cache. `round_seconds`: how
    long a round of fast passes lasts.
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

    def to_json(self) -> str:
        """For the command line of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        given = json.loads(text)
        return cls(**given | {"losses": tuple(map(tuple, given["losses"]))})

    def arrays(self) -> dict[str, np.ndarray]:
        """The batch: `data` and `label`."""
        with np.load(self.inputs) as inputs:
            return dict(inputs)


class Worker(Protocol):
    """What the process of a contestant asks of a framework's side."""

    def once(self) -> None:
        """One pass: a training step, or the scores of a batch."""

    def check(self) -> dict[str, np.ndarray]:
        """What it computes, under Caffe's names, for the comparison with the others."""

    def describe(self) -> dict:
        """Versions and settings, for the report."""
