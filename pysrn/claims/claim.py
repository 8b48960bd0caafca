"""What a claim of a paper is: a sentence, and the rows of an experiment that decide it (D16).

A system says its claims in a module of its own (`System.modules["claims"]`), as values of the classes here:
`CLAIMS`, a list of `Claim`, and `TRIES`, what is tried when a recipe is chosen. `docs/claims.md` has the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pysrn.claims.verdict import GAIN
from pysrn.console import UsageError
from pysrn.predict.predictions import Predictions, load_predictions
from pysrn.recipes import Recipe
from pysrn.systems.registry import systems
from pysrn.systems.system import System
from pysrn.train.run_folder import RunFolder

MODULE = "claims"  # of `System.modules`
WHOLE, ALONE = "whole", "alone"  # the system, and its baseline: each has its own search of a recipe


@dataclass(frozen=True)
class Trained:
    """A finished run of one seed.

    `boxes`: annotations of the test images, where there are any; `gpu`: a CUDA device; None: the CPU.
    """

    run: RunFolder
    system: System
    data: Path
    boxes: Path | None = None
    gpu: int | None = None

    def predictions(self, stage: int) -> Predictions:
        """What a stage's weights say of the test images."""
        return load_predictions(self.run.stage(stage) / "predictions_test.npz")


@dataclass(frozen=True)
class Measure:
    """What a run is worth, as a fraction; `stages`: those whose scores of the test images it reads.

    `chance`: the same of a net that learned nothing; None: 0. `boxes`: it needs places of the labels.
    """

    title: str
    of: Callable[[Trained], float]
    stages: tuple[int, ...] = ()
    chance: Callable[[Trained], float] | None = None
    boxes: bool = False


@dataclass(frozen=True)
class Training:
    """How a run is trained: words for tools/run_stage.py beside those of its data and of the chosen recipe.

    `stage`: the last one that is trained, None: of all. `budget`: that stage alone has as many iterations as all stages
    of the system together. `family`: whose recipe it takes.
    """

    name: str
    title: str
    options: Callable[[Recipe], Sequence[str]] | Sequence[str] = ()
    stage: int | None = None
    budget: bool = False
    family: str = WHOLE

    def words(self, recipe: Recipe, budget: int) -> list[str]:
        """Its words for a recipe, whose stages have `budget` iterations together."""
        words = list(self.options(recipe) if callable(self.options) else self.options)
        return [*words, "--iterations", str(budget)] if self.budget else words


@dataclass(frozen=True)
class Side:
    """One of the two that a row compares."""

    training: Training
    measure: Measure

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.training.title}: {self.measure.title}"


@dataclass(frozen=True)
class Row:
    """`favoured` less `other` (None: nothing, chance is taken off already); `kind`: GAIN or NO_LOSS.

    `only`: what pairs must be made from that it can be measured on; empty: any.
    """

    favoured: Side
    other: Side | None
    kind: str = GAIN
    only: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[Side, ...]:
        """Those that are trained."""
        return (self.favoured,) if self.other is None else (self.favoured, self.other)


@dataclass(frozen=True)
class Fact:
    """A number that is counted, and the range that the claim says, both included."""

    title: str
    value: Callable[[], float]
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper: `key` (S1 ...), what it says, how it is tested, on which data sets, by which rows."""

    key: str
    says: str
    test: str
    data: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    facts: tuple[Fact, ...] = ()

    def rows_on(self, dataset: str) -> list[Row]:
        """Those of a pair that was made from this data set."""
        return [row for row in self.rows if not row.only or dataset in row.only]

    def trainings(self, dataset: str) -> list[Training]:
        """Each run that these need, once."""
        return list(dict.fromkeys(side.training for row in self.rows_on(dataset) for side in row.sides))


@dataclass(frozen=True)
class Try:
    """A recipe that is tried: iterations and rates of the stages, as multiples of those of the data set's recipe."""

    name: str
    lengths: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()

    def words(self, recipe: Recipe) -> list[str]:
        """Its words for tools/run_stage.py; none for the recipe as it is."""
        words: list[str] = []
        numbers = range(1, len(recipe.stages) + 1)
        if self.lengths:
            each = [max(1, round(by * recipe.iterations(n))) for n, by in zip(numbers, self.lengths, strict=True)]
            words += ["--iterations", ",".join(map(str, each))]
        if self.rates:
            each = [by * plan.base_lr for plan, by in zip(recipe.stages, self.rates, strict=True)]
            words += ["--base-lr", ",".join(f"{rate:g}" for rate in each)]
        return words


AS_IT_IS = Try("recipe")


def claims() -> dict[str, tuple[System, Claim]]:
    """Key -> system and claim, of all systems that have any."""
    return {
        claim.key: (system, claim)
        for system in systems().values()
        if MODULE in system.modules
        for claim in system.module(MODULE, "claims").CLAIMS
    }


def tries(system: System) -> Mapping[str, Sequence[Try]]:
    """Family -> the recipes that are tried, in each family as many; UsageError otherwise: that were unfair."""
    found = system.module(MODULE, "claims").TRIES
    if len({len(several) for several in found.values()}) > 1:
        raise UsageError(f"{system.title}: its families of recipes have other numbers of tries")
    return found


@cache
def claim_named(key: str) -> tuple[System, Claim]:
    """A claim and its system; UsageError for a key that there is not."""
    known = claims()
    if key not in known:
        raise UsageError(f"no claim {key}: they are {', '.join(known)}")
    return known[key]
