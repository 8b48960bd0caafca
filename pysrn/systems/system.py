"""What a system is: a value that says all that the rest of the package has to know of it (D14).

A system of the field (SRN, CNN-RNN, MSRN ...) is one `System`, made in a folder of its own and named by one line of
`registry.py`. Everything outside `pysrn/systems/` reads it, mostly as `recipe.system`, and knows none by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pysrn.console import UsageError
from pysrn.later import later
from pysrn.nets import messages
from pysrn.nets.folding import Weights
from pysrn.nets.layers import Learning
from pysrn.recipes import Input, Recipe
from pysrn.systems.published import NOTHING_PUBLISHED, Published

np = later("numpy")


@dataclass(frozen=True)
class Part:
    """Layers that belong together, known by the beginnings of their names; the trunk is what no other part has.

    `extra`: the system adds it to its baseline, for the count of parameters.
    """

    title: str
    prefixes: tuple[str, ...] = ()
    extra: bool = False


@dataclass(frozen=True)
class Stage:
    """A training stage: its number from 1, its name, the parts that it adds to those of the stage before.

    `fixed_trunk`: what the net shares with the stage before does not learn: it can run beside the net that does,
    folded, and the trunk's features may be cached. What a stage learns and its losses stand in the net that
    `add_stage` makes. `drops`: parts of the stages before it that have no place in its weights any more.
    `solver`: fields of SolverParameter that it has in place of the system's; None: none.
    """

    number: int
    name: str
    adds: tuple[Part, ...]
    fixed_trunk: bool = False
    drops: tuple[Part, ...] = ()
    solver: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Score:
    """A prediction of the deploy net, or of a search on what it gives: N x C logits; `meaning` is for people.

    `early`: weights of early stages alone have it, not those of the last one.
    """

    name: str
    meaning: str
    early: bool = False


@dataclass(frozen=True)
class Map:
    """A blob of N x C x H x W that can be drawn over the image.

    `stage` is the first that learns it; `shown`: it is drawn unless others are asked for. The first is the report's.
    A map that is no blob has `needs`, blobs of the deploy net, and `of`, which makes it of their arrays;
    its cells lie where those of the first blob do.
    """

    name: str
    title: str
    stage: int
    shown: bool = True
    needs: tuple[str, ...] = ()
    of: Callable[..., np.ndarray] | None = None


@dataclass(frozen=True)
class Baseline:
    """What the system is to beat: a score of an early stage, known to people as `title` (the main net ...)."""

    stage: int
    score: str
    title: str


@dataclass(frozen=True)
class Activation:
    """Where class-activation maps come from: the global average pooling, and the classifier behind it."""

    pooling: str
    classifier: str


@dataclass(frozen=True)
class Architecture:
    """A net that weights belong to: whose, which trunk, how many labels, which heads."""

    system: System
    trunk: str
    classes: int
    heads: Any

    @classmethod
    def of(cls, recipe: Recipe) -> Architecture:
        """The net that a recipe trains."""
        return cls(recipe.system, recipe.trunk, len(recipe.dataset.classes), recipe.heads)

    @property
    def input(self) -> Input:
        """What the net eats."""
        return self.system.input_of(self.trunk)


@dataclass(frozen=True, eq=False)
class System:
    """A system of multi-label classification.

    Attributes:
        name, title: as flags and files have it; as people do.
        input: what its nets eat. small_input: what those with a small trunk do; None: the same.
        parts: in order of look-up, the first with a fitting prefix counts.
        stages: numbered from 1.
        scores: outputs of the deploy net, the last is the result. maps: likewise.
        baseline: what the result is compared with.
        trunks: name -> an object with `name`, `title`, `small` (one thread is faster) and `features`, the blob that its
            stages with a fixed trunk share (`nets.fixed.Features`).
        offered: those of them that a user may ask for.
        solver: fields of SolverParameter beside the recipe's numbers, or in their place.
        recipes: data set -> recipe.
        variants: name -> recipe of the same data set in this variant; the first is the default.
        settle: a recipe with flags applied -> one whose fields agree with each other.
        add_stage: adds to a net that has `data` and `label` all layers of a stage, losses included.
        add_deploy: adds to a net that has `data` the layers up to scores and maps.
        recognise: (weights, where they are from) -> their architecture; SrnError where they are of another net.
        leaves: layers of first weights that stage 1 may leave out: the ImageNet classifier; empty: it starts from none.
        activation: for class-activation maps, or None.
        torch_model: `module:Class` of the PyTorch net; see `convert/torch_weights.py` for what it has to be.
        published: its tables in papers.
        against_paper: (recipe, first weights or None) -> rows (what, this run, the paper, verdict) of the report.
        constants: (recipe, folder of the LMDB pair) -> layer -> blobs of `Parameter` layers that no training changes.
        warnings: (recipe, stage) -> what should be said before it is trained.
        fit: (recipe, training split) -> the recipe with what it takes from the labels there.
        probable: the score whose sigmoid is a probability, where the result only orders; None: the result.
        searching: `module:Class` that makes scores of what the deploy net gives; see `predict/deploy.py`.
        modules: further tools of its own by name, `module` each.
    """

    name: str
    title: str
    input: Input
    parts: tuple[Part, ...]
    stages: tuple[Stage, ...]
    scores: tuple[Score, ...]
    baseline: Baseline
    trunks: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    add_stage: Callable[[messages.NetParameter, Recipe, int], None]
    add_deploy: Callable[[messages.NetParameter, Architecture, Learning], None]
    recognise: Callable[[Weights, str], Architecture]
    torch_model: str
    offered: tuple[str, ...] = ()
    maps: tuple[Map, ...] = ()
    variants: Mapping[str, Callable[[Recipe], Recipe]] = field(default_factory=lambda: {"": lambda recipe: recipe})
    settle: Callable[[Recipe], Recipe] = lambda recipe: recipe
    solver: Mapping[str, Any] = field(default_factory=lambda: {"type": "SGD"})
    leaves: tuple[str, ...] = ()
    activation: Activation | None = None
    published: Published = NOTHING_PUBLISHED
    against_paper: Callable[[Recipe, str | None], list[tuple[str, str, str, str]]] = lambda recipe, weights: []
    small_input: Input | None = None
    constants: Callable[[Recipe, Path], Weights] = lambda recipe, data: {}
    warnings: Callable[[Recipe, int], list[str]] = lambda recipe, stage: []
    fit: Callable[[Recipe, Any], Recipe] = lambda recipe, pair: recipe
    probable: str | None = None
    searching: str | None = None
    modules: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for stages that are not numbered from 1, or a baseline that is no score or stage."""
        numbers = [stage.number for stage in self.stages]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"{self.name}: stages are numbered {numbers}")
        if self.baseline.score not in self.score_names or self.baseline.stage not in numbers:
            raise ValueError(f"{self.name}: no stage {self.baseline.stage} or no score {self.baseline.score}")

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores."""
        return tuple(score.name for score in self.scores)

    @property
    def map_names(self) -> tuple[str, ...]:
        """Names of the maps."""
        return tuple(one.name for one in self.maps)

    @property
    def blob_maps(self) -> tuple[str, ...]:
        """Names of the maps that the net itself gives."""
        return tuple(one.name for one in self.maps if one.of is None)

    @property
    def final_scores(self) -> tuple[str, ...]:
        """Names of the scores that the last stage's weights compute."""
        return tuple(score.name for score in self.scores if not score.early)

    def input_of(self, trunk: str) -> Input:
        """What the nets with this trunk eat."""
        return self.small_input if self.small_input and self.trunks[trunk].small else self.input

    @property
    def result(self) -> str:
        """The score that is the prediction."""
        return self.scores[-1].name

    @property
    def stage_names(self) -> dict[int, str]:
        """Number -> name of the stages."""
        return {stage.number: stage.name for stage in self.stages}

    @property
    def last_stage(self) -> int:
        """Number of the last stage."""
        return self.stages[-1].number

    def stage(self, number: int) -> Stage:
        """A stage; UsageError where there is none of this number."""
        if not 1 <= number <= len(self.stages):
            known = ", ".join(f"{stage.number} {stage.name}" for stage in self.stages)
            raise UsageError(f"{self.title} has no stage {number}", f"its stages are {known}")
        return self.stages[number - 1]

    def part_of(self, layer: str) -> Part:
        """The part that a layer belongs to."""
        trunk = next(part for part in self.parts if not part.prefixes)
        return next((part for part in self.parts if part.prefixes and layer.startswith(part.prefixes)), trunk)

    def recipe(self, dataset: str, variant: str | None = None) -> Recipe:
        """The recipe of a data set, in a variant; UsageError where it has none."""
        if dataset not in self.recipes:
            raise UsageError(f"{self.title} has no recipe of {dataset}", f"it has {', '.join(self.recipes)}")
        return self.variants[variant or next(iter(self.variants))](self.recipes[dataset])

    def variant_of(self, recipe: Recipe) -> str:
        """The variant that a recipe is in; the default's name where it is in none."""
        return next((name for name, make in self.variants.items() if make(recipe) == recipe), next(iter(self.variants)))

    def words_of(self, recipe: Recipe) -> str:
        """The recipe's variant in words; empty where there is only one."""
        return f"variant {self.variant_of(recipe)}" if len(self.variants) > 1 else ""

    def torch_class(self) -> type:
        """The PyTorch net; ModuleNotFoundError without PyTorch."""
        return _named(self.torch_model)

    def searching_class(self) -> type | None:
        """What makes scores of what the deploy net gives, where something does."""
        return self.searching and _named(self.searching)

    def module(self, name: str, what: str) -> ModuleType:
        """A further module of its own; UsageError, saying `what` the system has not, where there is none."""
        if name not in self.modules:
            raise UsageError(f"{self.title} has no {what}", "give a run of a system that has")
        return import_module(self.modules[name])


def _named(place: str) -> type:
    """The class that `module:Class` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
