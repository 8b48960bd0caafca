"""What has to be done so that a run's stages are done: keep, resume, run or redo each; nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pysrn.console import UsageError
from pysrn.nets.caffemodel import sha256_of
from pysrn.train.prepared import PreparedStage, stages_of
from pysrn.train.run_folder import RunFolder, read_record, source_hash
from pysrn.train.settings import Settings, differences
from pysrn.train.stage import snapshots
from pysrn.train.stage.files import BEGUN, MANIFEST

BEGUN_HAS = {"digest": str}  # what begun.json must have


@dataclass(frozen=True)
class Step:
    """One line of the plan: a stage and what will be done with it."""

    stage: PreparedStage
    action: str  # `keep`, `resume`, `run` or `redo`
    first: int = 0  # iteration to go on from
    reason: str = ""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = self.stage.iterations
        span = f"{total} iterations" if not self.first else f"iterations {self.first}-{total}"
        return f"{self.stage.title}: {self.action}, {span}{self.reason}"


def plan(run: RunFolder, settings: Settings, last: int, restart: bool = False) -> list[Step]:
    """What has to happen so that stages 1 to `last` are done; `restart` does the last one anew.

    Final weights that are gone or damaged are made again from the stage's last snapshot, bit by bit, so what started
    from them stays. Raises UsageError when a finished or begun stage was made with other settings, a later one
    included: run.json has one set for all.
    """
    steps: list[Step] = []
    redone = False
    for stage in stages_of(run, settings, last):
        state = run.state(stage.number)
        record, again = read_record(stage.folder / BEGUN, BEGUN_HAS) or state.manifest, restart and stage.number == last
        if state.word == "not begun":
            steps.append(Step(stage, "run"))
        elif redone or again:
            why = "asked for" if again else "an earlier stage is done anew"
            steps.append(Step(stage, "redo", 0, f" ({why}; the old one is set aside)"))
        elif _source_changed(stage, state.word, record, steps):
            steps.append(Step(stage, "redo", 0, " (it started from other weights; it is set aside)"))
        elif record.get("digest") != stage.digest:
            raise _other_settings(stage, state.word)
        elif state.word == "done" and not is_damaged(stage, state.manifest):
            steps.append(Step(stage, "keep", 0, " (done)"))
        else:
            steps.append(_resumed(stage))
        redone = redone or steps[-1].action in ("run", "redo")
    for stage in () if redone else stages_of(run, settings):
        if stage.number <= last:
            continue
        state = run.state(stage.number)
        record = read_record(stage.folder / BEGUN, BEGUN_HAS) or state.manifest
        if state.word != "not begun" and record.get("digest") != stage.digest:
            raise _other_settings(stage, state.word)
    return steps


def _other_settings(stage: PreparedStage, word: str) -> UsageError:
    earlier = stage.run.read_settings()
    changed = differences(earlier, stage.settings) if earlier else ""
    return UsageError(
        f"{stage.folder} was {word} with other settings or data than those asked for"
        + (f" ({changed})" if changed else ""),
        f"give another --run, or --restart with stage {stage.number} to do it anew",
    )


def is_damaged(stage: PreparedStage, manifest: dict) -> bool:
    """Whether a finished stage's weights are no longer those that its manifest has the hash of."""
    return manifest.get("weights_sha256") not in (None, sha256_of(stage.run.weights(stage.number)))


def _resumed(stage: PreparedStage) -> Step:
    """Go on from the newest snapshot that is whole, or begin anew."""
    iteration, warnings = snapshots.newest_whole(stage.folder)
    if (stage.folder / MANIFEST).is_file():
        weights = stage.run.weights(stage.number)
        warnings.append(f"{weights} is not the file that the stage ended with; it is made again")
    if iteration is None:
        return Step(stage, "redo", 0, " (no snapshot of it is whole; it is set aside)", tuple(warnings))
    return Step(stage, "resume", iteration, "", tuple(warnings))


def _source_changed(stage: PreparedStage, word: str, record: dict, before: list[Step]) -> bool:
    """Whether a stage started from other weights than it would now; a finished first one needs its file no more."""
    weights = stage.settings.weights
    if stage.is_first and word == "done" and weights is not None and not Path(weights).exists():
        return False
    if before and before[-1].action == "resume":  # what it ends with is only known where it has ended before
        known = read_record(before[-1].stage.folder / MANIFEST, {}).get("weights_sha256")
        return known is None or record.get("source_sha256") != known
    return record.get("source_sha256") != source_hash(stage.source)
