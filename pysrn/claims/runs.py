"""The runs of a row: which words tools/run_stage.py is given, what is done of them, how long they may take."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pysrn.claims.claim import ALONE, AS_IT_IS, WHOLE, Trained, Training, Try
from pysrn.console import UsageError
from pysrn.data.pair.manifest import read_manifest
from pysrn.nets.caffemodel import sha256_of
from pysrn.predict.predictions import load_predictions
from pysrn.recipes import Recipe
from pysrn.systems.registry import run_prefix
from pysrn.systems.system import System
from pysrn.train.fixed.feature_room import FEATURES
from pysrn.train.flags import add_flags, asked_for
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import Settings, choose_settings, with_real_counts
from pysrn.train.shared_stages import share_first_stages

# Seconds of an image, forward and backward through the whole net, on 2 cores; rough, for the plan alone. Measured:
# `shapes` and 3,200 posters; the third is of docs/training.md, core seconds halved. Other trunks count as the slowest.
PACE = {"resnet14": 0.012, "resnet20": 0.015, "resnet50": 0.09, "resnet101": 0.39}
FIXED_SHARE = 0.35  # of a stage with a fixed trunk, without cached features


@dataclass(frozen=True)
class DataSet:
    """An LMDB pair that claims are tested on: `words` for tools/run_stage.py (trunk, weights, batch ...)."""

    name: str
    folder: Path
    words: tuple[str, ...] = ()
    boxes: Path | None = None

    @property
    def annotations(self) -> Path | None:
        """Where the places of the labels are known: what was named, else beside the pair; None: nowhere."""
        beside = self.folder / "annotations" / "test.json"
        return self.boxes or (beside if beside.is_file() else None)

    @property
    def dataset(self) -> str:
        """What the pair was made from."""
        return (read_manifest(self.folder) or {}).get("dataset", "")


@dataclass(frozen=True)
class Job:
    """One run: a training of a system on a data set with a seed, in the recipes that were chosen (family -> one).

    `gpu`: the CUDA device that computes; None: the CPU.
    """

    system: System
    data: DataSet
    training: Training
    seed: int
    runs: Path
    chosen: Mapping[str, Try]
    gpu: int | None = None

    @property
    def run(self) -> RunFolder:
        """Where it is kept; its name says what it is of."""
        recipe = self._try.name
        parts = (self.data.name, self.training.name, "" if recipe == AS_IT_IS.name else recipe, f"seed{self.seed}")
        return RunFolder(self.runs / (run_prefix(self.system) + "-".join(filter(None, parts)).replace(" ", "_")))

    @property
    def trained(self) -> Trained:
        """As measures read it."""
        return Trained(self.run, self.system, self.data.folder, self.data.annotations, self.gpu)

    @property
    def _try(self) -> Try:
        return self.chosen.get(self.training.family, AS_IT_IS)

    @cached_property
    def _own_words(self) -> list[str]:
        data = [*self.data.words]
        plain = _settings_of(self.system, self.data, data).recipe
        whole = [*data, *self.chosen.get(WHOLE, AS_IT_IS).words(plain)]
        of_whole = _settings_of(self.system, self.data, whole).recipe
        budget = sum(map(of_whole.iterations, of_whole.stage_numbers))
        words = whole if self.training.family == WHOLE else [*data, *self._try.words(plain)]
        return [*words, *self.training.words(plain, budget), "--seed", str(self.seed)]

    @cached_property
    def settings(self) -> Settings:
        """What it is trained with, as run.json will have it."""
        return _settings_of(self.system, self.data, self._own_words)

    @property
    def recipe(self) -> Recipe:
        """Its recipe."""
        return self.settings.recipe

    @property
    def last(self) -> int:
        """The last stage that is trained."""
        return self.training.stage or self.system.last_stage

    @property
    def words(self) -> list[str]:
        """For tools/run_stage.py."""
        common = ["--system", self.system.name, "--dataset", self.data.dataset, "--data", str(self.data.folder)]
        common += ["--runs", str(self.runs), "--run", self.run.path.name]
        if "--cache-features" in self.data.words and "--cache-folder" not in self.data.words:
            common += ["--cache-folder", str(self.runs / FEATURES)]  # runs with one trunk share its features
        return [str(self.last), *common, *self._own_words, *self.on_device]

    @property
    def on_device(self) -> list[str]:
        """For every tool that computes: which device."""
        return [] if self.gpu is None else ["--gpu", str(self.gpu)]

    @property
    def numbers(self) -> list[int]:
        """The stages that it trains."""
        return [number for number in self.recipe.stage_numbers if number <= self.last]

    @property
    def done(self) -> bool:
        """Whether all of them are finished."""
        return all(self.run.state(number).word == "done" for number in self.numbers)

    @property
    def estimate(self) -> float:
        """Seconds that are left, roughly."""
        recipe, seconds = self.recipe, 0.0
        for number in self.numbers:
            if self.run.state(number).word != "done":
                images = recipe.iterations(number) * recipe.batch_size * recipe.iter_size
                share = FIXED_SHARE if recipe.trunk_is_fixed(number) else 1.0
                seconds += images * PACE.get(recipe.trunk, max(PACE.values())) * share
        return seconds

    @property
    def seconds(self) -> dict[int, float]:
        """Stage -> how long it took."""
        return {number: self.run.state(number).manifest["seconds"] for number in self.numbers}

    def predicted(self, stage: int) -> bool:
        """Whether there are scores of the test images by the weights that a stage has now."""
        path, weights = self.run.stage(stage) / "predictions_test.npz", self.run.weights(stage)
        return path.is_file() and load_predictions(path).about.get("weights_sha256") == sha256_of(weights)


def share_first_stages_of(earlier: Iterable[Job], job: Job) -> None:
    """Give a job the stages that it begins with from those of `earlier` that are done and the same to the bit."""
    for one in earlier:
        if one.run.path != job.run.path and not job.done:
            with suppress(UsageError):  # another net, other numbers, or not done: the job trains its own
                share_first_stages(one.run, job.run, job.settings)


def _settings_of(system: System, data: DataSet, words: Sequence[str]) -> Settings:
    """What tools/run_stage.py makes of words on a data set; UsageError where they are none of a recipe's."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--weights")
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--cache-features")
    parser.add_argument("--cache-folder")
    add_flags(parser)
    try:
        found, rest = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise UsageError(f"--training: {error}") from None
    if rest:
        raise UsageError(f"--training: {' '.join(rest)} is nothing that a recipe has")
    settings = choose_settings(
        None,
        dataset=data.dataset,
        data=str(data.folder),
        weights=found.weights,
        from_scratch=found.from_scratch,
        asked=asked_for(found),
        system=system,
    )
    return with_real_counts(settings)


def families(system: System, data: DataSet, runs: Path, gpu: int | None = None) -> dict[str, Job]:
    """The two that a recipe is chosen for, as a search trains them: the system, and its baseline alone."""
    baseline = system.baseline
    trainings = {
        WHOLE: Training(WHOLE, system.title),
        ALONE: Training(ALONE, f"{baseline.title} alone", stage=baseline.stage, budget=True, family=ALONE),
    }
    return {name: Job(system, data, training, 0, runs, {}, gpu) for name, training in trainings.items()}
