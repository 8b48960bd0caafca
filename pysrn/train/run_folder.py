"""A run's folder: its settings (`run.json`), its four stages, and what state each is in.

runs/<name>/run.json and runs/<name>/stageN/{weights.caffemodel, iter_*.caffemodel, iter_*.solverstate, log.csv,
train.log, manifest.json, net.prototxt, solver.prototxt, job.json}
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pysrn.console import SrnError
from pysrn.nets.caffemodel import sha256_of
from pysrn.train import snapshots
from pysrn.train.settings import Settings

RUN_FILE = "run.json"
WEIGHTS, LOG, TRAIN_LOG, MANIFEST = "weights.caffemodel", "log.csv", "train.log", "manifest.json"
NET, SOLVER, JOB, BEGUN = "net.prototxt", "solver.prototxt", "job.json", "begun.json"


@dataclass(frozen=True)
class StageState:
    """How far a stage is: `done`, `begun` (with a snapshot's iteration) or `not begun`."""

    word: str
    iteration: int
    manifest: dict


class RunFolder:
    """Paths, settings and stage states of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, number: int) -> Path:
        """Folder of a stage."""
        return self.path / f"stage{number}"

    def weights(self, number: int) -> Path:
        """Final weights of a stage, with everything learned so far."""
        return self.stage(number) / WEIGHTS

    def read_settings(self) -> Settings | None:
        """The settings in run.json, or None when there is no run yet."""
        path = self.path / RUN_FILE
        if not path.is_file():
            return None
        try:
            return Settings.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise SrnError(f"{path} is damaged: {error!r}", "give another --run") from None

    def write_settings(self, settings: Settings) -> None:
        """Write run.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / RUN_FILE, settings.to_json())

    def state(self, number: int) -> StageState:
        """What state a stage is in, from its files."""
        folder = self.stage(number)
        if self.weights(number).is_file() and (folder / MANIFEST).is_file():
            manifest = read_record(folder / MANIFEST, {"iterations": int, "seconds": float})
            return StageState("done", manifest["iterations"], manifest)
        iteration = snapshots.newest(folder)
        return StageState("begun", iteration or 0, {}) if iteration else StageState("not begun", 0, {})

    def last_loss(self, number: int) -> float | None:
        """Mean loss of the last 20 iterations in a stage's log.csv, or None when they cannot be read."""
        path = self.stage(number) / LOG
        if not path.is_file():
            return None
        try:
            with open(path, newline="", encoding="utf-8") as file:
                losses = [float(row["loss"]) for row in csv.DictReader(file)][-20:]
        except (ValueError, KeyError, TypeError):
            return None
        return sum(losses) / len(losses) if losses else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes off this run while the block runs; SrnError when one is at work already."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SrnError(
                    f"another process is working on {self.path}", "wait for it, or give another --run"
                ) from None
            yield

    def set_aside(self, number: int) -> Path:
        """Rename a stage's folder, so that it can be done anew without losing anything; returns the new name."""
        count = 1
        while (target := self.path / f"stage{number}.old{count}").exists():
            count += 1
        os.rename(self.stage(number), target)
        return target


def source_hash(path: str | Path | None) -> str | None:
    """SHA-256 of the weights that a stage starts from."""
    return None if path is None else sha256_of(path)


def read_record(path: Path, needed: dict[str, type]) -> dict:
    """Read a stage's manifest.json or begun.json, which must have the `needed` values; SrnError when it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(values.get(name), kind) for name, kind in needed.items()):
        raise SrnError(f"{path} is damaged", f"delete {path} and run the same command again")
    return values


def write_json(path: Path, values: dict) -> None:
    """Write JSON by way of a temporary name."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
