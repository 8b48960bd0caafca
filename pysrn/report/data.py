"""What a run has to show: its settings, finished stages, predictions and images; and what it lacks, with the cure.

The first step of `report.html` (see `report.py`). Something missing is a gap that the page states; something
damaged is an error, but for the images, which the page can do without.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, existing_folder
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.evaluate.bootstrap import Interval, mean_ap_interval
from pysrn.evaluate.current_labels import changed_labels
from pysrn.evaluate.metrics import Evaluation, evaluate
from pysrn.nets.caffemodel import sha256_of
from pysrn.predict.predictions import Predictions, check_same_images, load_predictions
from pysrn.systems.registry import default_system
from pysrn.systems.system import System
from pysrn.train.run_folder import RUN_FILE, RunFolder
from pysrn.train.settings import Settings


@dataclass(frozen=True)
class Gap:
    """Something that the page lacks and the command (or step) that makes it."""

    what: str
    cure: str


@dataclass(frozen=True, eq=False)
class Measured:
    """One score of one stage's predictions and its metrics."""

    stage: int
    score: str
    logits: np.ndarray
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """As it is called in tables."""
        return f"stage {self.stage}: {self.score}"


@dataclass(frozen=True, eq=False)
class Gathered:
    """A run and everything that the page draws on.

    Attributes:
        finished: stage -> its manifest.json; hashes: stage -> SHA-256 of its weights.
        predictions: stage -> its predictions on the split; only of the baseline's stage and the last one that has some.
        pair: images of the split, or None.
    """

    run: RunFolder
    settings: Settings
    split: str
    finished: dict[int, dict]
    hashes: dict[int, str]
    predictions: dict[int, Predictions]
    pair: PairReader | None
    gaps: list[Gap]

    @property
    def system(self) -> System:
        """Whose run it is."""
        return self.settings.recipe.system

    @property
    def stage_names(self) -> dict[int, str]:
        """Number -> name of its stages."""
        return self.system.stage_names

    @cached_property
    def measured(self) -> list[Measured]:
        """Metrics of all scores of the predictions that have labels, stage by stage."""
        return [
            Measured(stage, score, found.scores[score], evaluate(found.scores[score], found.labels, what=score))
            for stage, found in self.predictions.items()
            if found.labels is not None
            for score in found.scores
        ]

    @property
    def final(self) -> Measured | None:
        """The score that the run is about: the last one of the last stage that has predictions."""
        return self.measured[-1] if self.measured else None

    @property
    def main(self) -> Measured | None:
        """What it is compared with: the baseline after its own stage, else the one within the final net."""
        candidates = [found for found in self.measured[:-1] if found.score == self.system.baseline.score]
        return candidates[0] if candidates else None

    @cached_property
    def interval(self) -> Interval | None:
        """Bootstrap interval of the final score's mAP."""
        final = self.final
        return None if final is None else mean_ap_interval(final.logits, self.last_predictions.labels)

    @property
    def last_predictions(self) -> Predictions | None:
        """Those of the final score, else (no labels) of the last stage that has some."""
        if self.final is not None:
            return self.predictions[self.final.stage]
        return self.predictions[max(self.predictions)] if self.predictions else None

    @cached_property
    def positions(self) -> dict[str, int]:
        """Sample key -> its position in the pair; empty where there is no pair."""
        return {} if self.pair is None else {key: index for index, key in enumerate(self.pair.keys)}


def gather(path: Path, data: str | Path | None = None, split: str = "test") -> Gathered:
    """Read a run's folder; `data` is the folder of its LMDB pair where it is not the one it was trained on.

    Raises MissingError when there is no run, SrnError for a damaged run.json, manifest or predictions file,
    or predictions of other classes than the run's or of other images than each other's.
    """
    trained = RunFolder(path).command(default_system().last_stage)
    run = RunFolder(existing_folder(path, "run", trained))
    settings = run.read_settings()
    if settings is None:
        raise MissingError(f"{path} is no run: it has no {RUN_FILE}", trained)
    system = settings.recipe.system
    names = system.stage_names
    gaps: list[Gap] = []
    states = {number: run.state(number) for number in names}
    finished = {number: state.manifest for number, state in states.items() if state.word == "done"}
    if system.last_stage not in finished:
        left = ", ".join(f"{number} ({name})" for number, name in names.items() if number not in finished)
        gaps.append(Gap(f"stages that are not finished: {left}", run.command(system.last_stage)))
    hashes = {number: sha256_of(run.weights(number)) for number in finished}
    predictions = _predictions(run, split, settings, finished, hashes, gaps)
    pair = _pair(settings.data if data is None else data, split, gaps)
    if pair is not None and predictions:
        found = predictions[max(predictions)]
        if tuple(pair.classes) != found.classes or set(pair.keys) != set(found.keys):
            cure = f"--data FOLDER, or predict again: {predict_command(run, None, split)}"
            gaps.append(Gap(f"images: {pair.folder}, {split}, is not what was predicted", cure))
            pair = None
        elif found.labels is not None and (changed := _changed(found, pair)):
            what = f"today's labels: {changed:,} were others in {pair.folder}, {split}, when the images were predicted"
            gaps.append(Gap(what, f"predict again: {predict_command(run, None, split)}"))
    return Gathered(run, settings, split, finished, hashes, predictions, pair, gaps)


def predict_command(run: RunFolder, stage: int | None, split: str) -> str:
    """The command that makes the predictions of a stage (None: the last)."""
    words = ["tools/predict.py", shlex.quote(str(run.path))]
    words += [] if stage is None else ["--stage", str(stage)]
    return " ".join(words + ([] if split == "test" else ["--split", shlex.quote(split)]))


def _predictions(
    run: RunFolder, split: str, settings: Settings, finished: dict[int, dict], hashes: dict[int, str], gaps: list[Gap]
) -> dict[int, Predictions]:
    """Predictions of the baseline's stage and of the last that has some; notes what is missing or out of date."""
    system, classes = settings.recipe.system, settings.recipe.dataset.classes
    first = system.baseline.stage
    paths = {one.number: run.stage(one.number) / f"predictions_{split}.npz" for one in system.stages}
    there = [number for number, path in paths.items() if path.is_file()]
    wanted = sorted({first, *there[-1:]} & set(there))
    found = {number: load_predictions(paths[number], classes) for number in wanted}
    for number in sorted({first, max(finished, default=first)} - set(wanted)):
        if number in finished or number == first:
            gaps.append(Gap(f"predictions of stage {number}, {split}", predict_command(run, number, split)))
    for number, prediction in found.items():
        if prediction.labels is None:
            gaps.append(Gap(f"labels in {paths[number].name} of stage {number}", predict_command(run, number, split)))
        if number in hashes and prediction.about.get("weights_sha256", hashes[number]) != hashes[number]:
            what = f"up-to-date predictions of stage {number}: those there are of other weights"
            gaps.append(Gap(what, predict_command(run, number, split)))
    if len(found) == 2:
        (early, late), (where, other) = found.values(), (paths[number] for number in wanted)
        check_same_images(early, late, where, other)
        if early.keys != late.keys:
            raise SrnError(f"{where} and {other} list the images in another order", predict_command(run, first, split))
    return found


def _changed(found: Predictions, pair: PairReader) -> int:
    """How many labels are others now; 0 where the pair's cannot be read, which matters to nobody else here."""
    try:
        return changed_labels(found, pair)[0]
    except SrnError:
        return 0


def _pair(folder: str | Path, split: str, gaps: list[Gap]) -> PairReader | None:
    try:
        return PairReader(folder, split)
    except SrnError as error:
        gaps.append(Gap(f"images: {error}", "--data FOLDER" + (f", or {error.cure}" if error.cure else "")))
        return None
