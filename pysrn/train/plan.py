"""What has to be done so that a run's stages are done: keep, resume, run or redo each; nothing is changed here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pysrn.console import UsageError
from pysrn.data.pair.manifest import read_manifest
from pysrn.nets.caffemodel import sha256_of
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import STAGE_NAMES
from pysrn.systems.srn.nets import DataSource
from pysrn.train.preparation import source_weights, training_net
from pysrn.train.run_folder import BEGUN, MANIFEST, RunFolder, read_record, source_hash
from pysrn.train.settings import Settings, differences
from pysrn.train.stage import snapshots
from pysrn.train.stage.schedule import rules_of


@dataclass(frozen=True)
class Step:
    """One line of the plan: a stage and what will be done with it."""

    stage: int
    action: str  # `keep`, `resume`, `run` or `redo`
    iterations: int
    first: int  # iteration to go on from
    reason: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        span = f"{self.iterations} iterations" if not self.first else f"iterations {self.first}-{self.iterations}"
        return f"stage {self.stage} ({STAGE_NAMES[self.stage]}): {self.action}, {span}{self.reason}"


def plan(run: RunFolder, settings: Settings, last: int, restart: bool = False) -> list[Step]:
    """What has to happen so that stages 1 to `last` are done; `restart` does the last one anew.

    Final weights that are gone or damaged are made again from the stage's last snapshot, bit by bit, so what started
    from them stays. Raises UsageError when a finished or begun stage was made with other settings, a later one
    included: run.json has one set for all.
    """
    steps: list[Step] = []
    redone = False
    for number in range(1, last + 1):
        state, total = run.state(number), settings.recipe.iterations(number)
        record, again = _begun(run, number) or state.manifest, restart and number == last
        if state.word == "not begun":
            steps.append(Step(number, "run", total, 0, ""))
        elif redone or again:
            why = "asked for" if again else "an earlier stage is done anew"
            steps.append(Step(number, "redo", total, 0, f" ({why}; the old one is set aside)"))
        elif _source_changed(run, settings, number, state.word, record, steps):
            steps.append(Step(number, "redo", total, 0, " (it started from other weights; it is set aside)"))
        elif record.get("digest") != settings_digest(settings, number):
            raise _other_settings(run, settings, number, state.word)
        elif state.word == "done" and not _damaged(run, number, state.manifest):
            steps.append(Step(number, "keep", total, 0, " (done)"))
        else:
            steps.append(_resumed(run, number, total))
        redone = redone or steps[-1].action in ("run", "redo")
    for number in () if redone else range(last + 1, len(STAGE_NAMES) + 1):
        state = run.state(number)
        record = _begun(run, number) or state.manifest
        if state.word != "not begun" and record.get("digest") != settings_digest(settings, number):
            raise _other_settings(run, settings, number, state.word)
    return steps


def settings_digest(settings: Settings, stage: int) -> str:
    """A hash of everything that decides the result of a stage, apart from its starting weights.

    The data counts by what its manifest says it was made from, not by the folder's name.
    """
    net = training_net(settings.recipe, stage, DataSource("", workers=0))
    solver = stage_solver(settings.recipe, stage, "", "")
    manifest = read_manifest(Path(settings.data)) or {}
    parts = {"seed": manifest.get("seed"), "train": manifest.get("splits", {}).get("train")}
    rules = rules_of(settings.recipe, stage)
    if rules.kind == "plateau":  # otherwise validation changes nothing, and Caffe's solver has the schedule
        parts["schedule"] = asdict(rules)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for part in (net, solver):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _other_settings(run: RunFolder, settings: Settings, number: int, word: str) -> UsageError:
    earlier = run.read_settings()
    changed = differences(earlier, settings) if earlier else ""
    return UsageError(
        f"{run.stage(number)} was {word} with other settings or data than those asked for"
        + (f" ({changed})" if changed else ""),
        f"give another --run, or --restart with stage {number} to do it anew",
    )


def _damaged(run: RunFolder, number: int, manifest: dict) -> bool:
    """Whether a finished stage's weights are no longer those that its manifest has the hash of."""
    return manifest.get("weights_sha256") not in (None, sha256_of(run.weights(number)))


def _resumed(run: RunFolder, number: int, total: int) -> Step:
    """Go on from the newest snapshot that is whole, or begin anew."""
    iteration, warnings = snapshots.newest_whole(run.stage(number))
    if (run.stage(number) / MANIFEST).is_file():
        warnings.append(f"{run.weights(number)} is not the file that the stage ended with; it is made again")
    if iteration is None:
        return Step(number, "redo", total, 0, " (no snapshot of it is whole; it is set aside)", tuple(warnings))
    return Step(number, "resume", total, iteration, "", tuple(warnings))


def _source_changed(
    run: RunFolder, settings: Settings, stage: int, word: str, record: dict, before: list[Step]
) -> bool:
    """Whether a stage started from other weights than it would now; a finished stage 1 needs its file no more."""
    if stage == 1 and word == "done" and settings.weights is not None and not Path(settings.weights).exists():
        return False
    if before and before[-1].action == "resume":  # what it ends with is only known where it has ended before
        path = run.stage(stage - 1) / MANIFEST
        known = read_record(path, {}).get("weights_sha256") if path.is_file() else None
        return known is None or record.get("source_sha256") != known
    return record.get("source_sha256") != source_hash(source_weights(run, settings, stage))


def _begun(run: RunFolder, stage: int) -> dict:
    """What the stage recorded when it began; empty when the record is gone."""
    path = run.stage(stage) / BEGUN
    return read_record(path, {"digest": str}) if path.is_file() else {}
