"""What the command asks of the process that trains a stage, job.json; the other way go events (`processes.send`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pysrn.train.stage.files import JOB


@dataclass(frozen=True)
class Job:
    """What the parent wants of the child."""

    source: str | None  # caffemodel that the stage starts from; None: from scratch
    may_initialise: list[str]  # layers that the source need not have
    may_leave: list[str]  # layers of the source that the net need not have
    carry: bool  # whether those go into the stage's weights all the same
    dropped: list[str]  # but these, which are no longer part of the net
    fixed: list[str]  # layers that only compute, in nets beside the one that is trained; with `may_leave`
    whole_net: str | None  # the stage's net in one piece, where it is trained split
    losses: list[str]
    resume_from: int | None  # iteration of the snapshot to go on from
    snapshot_every: int
    keep: int  # newest snapshots that stay on disk
    gpus: list[int]  # devices of a machine, shared out among its ranks; empty: CPU
    ranks: int
    schedule: dict  # fields of schedule.Rules
    base_lr: float
    validation_images: int
    tensorboard: bool
    precision: str  # what convolutions multiply: one of `precision.PRECISIONS`

    def write(self, folder: Path) -> None:
        """Write job.json."""
        (folder / JOB).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
