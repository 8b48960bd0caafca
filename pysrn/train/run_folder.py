"""A run's folder: its settings (`run.json`), its stages, and what state each is in.

runs/<name>/run.json and runs/<name>/stageN/{weights.caffemodel, deploy.prototxt, labels.txt,
iter_*.{caffemodel,solverstate,json}, log.csv, validation.csv, events/, train.log, manifest.json, begun.json,
net.prototxt, validation.prototxt, solver.prototxt, job.json}; with a fixed trunk also
{whole,trunk,fixed_heads}.prototxt: the stage's net in one piece, and its fixed part
"""

from __future__ import annotations

import json
import os
import shlex
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pysrn.console import SrnError, UsageError, message
from pysrn.locks import held, sole_worker
from pysrn.nets.caffemodel import sha256_of
from pysrn.recipes import EMBEDDED
from pysrn.systems.registry import default_system
from pysrn.train.settings import Settings
from pysrn.train.stage import snapshots
from pysrn.train.stage.files import JOB, MANIFEST, WEIGHTS
from pysrn.whole_files import write_json

RUN_FILE = "run.json"
RUNS = Path("runs")  # where tools/run_stage.py and tools/demo.py put theirs


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

    def command(self, number: int) -> str:
        """The command that goes on with this run up to a stage."""
        words, path = ["tools/run_stage.py", str(number)], self.path
        words += ["--run", path.absolute().name] if path != RUNS / EMBEDDED else []
        words += ["--runs", str(path.parent)] if path.parent != RUNS else []
        return shlex.join(words)

    def read_settings(self) -> Settings | None:
        """The settings in run.json, or None when there is no run yet."""
        path = self.path / RUN_FILE
        if not path.is_file():
            return None
        try:
            return Settings.from_json(json.loads(path.read_text(encoding="utf-8")))
        except UsageError as error:
            raise UsageError(f"{path}: {error}", "name the module that has it in PYSRN_SYSTEMS") from None
        except (ValueError, KeyError, TypeError) as error:
            cure = "delete it and run the command again with all the options that the run has"
            raise SrnError(f"{path} is damaged: {error}", cure) from None

    def stage_names(self) -> dict[int, str]:
        """Number -> name of the stages of the run's system; of the default one where run.json is not there."""
        settings = self.read_settings()
        return (settings.recipe.system if settings else default_system()).stage_names

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
        taken = snapshots.iterations(folder)
        return StageState("begun", taken[0], {}) if taken else StageState("not begun", 0, {})

    def wait_for_children(self) -> None:
        """Wait until no process trains in this run: a killed parent leaves a child that ends with its iteration."""
        for path in self.path.glob(f"stage?/{JOB}"):
            words = f"waiting for an earlier process that still ends its iteration in {path.parent}"
            with held(path, partial(message, words), shared=True):
                pass

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes off this run while the block runs; SrnError when one is at work already."""
        return sole_worker(self.path, "working on", "wait for it, or give another --run")

    def set_aside(self, number: int) -> Path:
        """Rename a stage's folder, so that it can be done anew without losing anything; returns the new name."""
        return _rename_free(self.stage(number), self.path, f"stage{number}.old", "")

    def set_weights_aside(self, number: int) -> Path | None:
        """Rename the weights of a finished stage that are made again; returns the new name, None: there are none."""
        if not self.weights(number).is_file() or not (self.stage(number) / MANIFEST).is_file():
            return None
        return _rename_free(self.weights(number), self.stage(number), "weights.old", ".caffemodel")


def _rename_free(path: Path, folder: Path, stem: str, suffix: str) -> Path:
    """Rename to the first free of `stem`1, `stem`2, ...; returns the new name."""
    count = 1
    while (target := folder / f"{stem}{count}{suffix}").exists():
        count += 1
    os.rename(path, target)
    return target


def source_hash(path: str | Path | None) -> str | None:
    """SHA-256 of the weights that a stage starts from."""
    return None if path is None else sha256_of(path)


def read_record(path: Path, needed: dict[str, type]) -> dict:
    """A stage's manifest.json or begun.json, empty where it is not there.

    SrnError when it is damaged: it must have the `needed` values.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(values.get(name), kind) for name, kind in needed.items()):
        raise SrnError(f"{path} is damaged", f"delete {path} and run the same command again")
    return values
