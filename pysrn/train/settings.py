"""What a run is started with: the recipe with its overrides, the data, the first weights.

A run keeps its settings in run.json, so that later commands on it need not repeat them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pysrn.console import LAST_SEED, MissingError, UsageError, existing_file, existing_folder
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.pair_reader import ELSEWHERE
from pysrn.recipes import EMBEDDED, OWN_DATASET, PLATEAU, Augmentation, DatasetSpec, Recipe, StageSpec
from pysrn.systems.registry import default_system, system_named
from pysrn.systems.system import System
from pysrn.train.flags import Asked

MOST_ITERATIONS = 2**31 - 1  # Caffe counts them in 32 bits
NAMES_SHOWN = 3


@dataclass(frozen=True)
class Settings:
    """A run's recipe, the folder of its LMDB pair, and the first weights of stage 1 (None: from scratch)."""

    recipe: Recipe
    data: str
    weights: str | None

    def to_json(self) -> dict:
        """Plain values, as run.json holds them."""
        return {"recipe": recipe_values(self.recipe), "data": self.data, "weights": self.weights}

    @classmethod
    def from_json(cls, values: dict) -> Settings:
        """The settings of a run.json, also of one from before there were several systems.

        Raises KeyError, TypeError or ValueError on a damaged one.
        """
        recipe, weights = values["recipe"], values["weights"]
        if not isinstance(recipe, dict):
            raise TypeError("recipe is no object")
        system = system_named(recipe.get("system", default_system().name))
        if recipe["trunk"] not in system.trunks or recipe["dataset"]["name"] not in system.recipes:
            raise ValueError(f"no trunk {recipe['trunk']} or no data set {recipe['dataset']['name']}")
        if not isinstance(values["data"], str) or not isinstance(weights, str | None):
            raise ValueError("data and weights must be paths")
        known = {one.name for one in fields(Recipe)}
        heads = type(system.recipes[recipe["dataset"]["name"]].heads)
        earlier = {"variant"}  # stood beside the heads, which have it, too
        if odd := set(recipe) - known - earlier:
            raise TypeError(f"unknown {', '.join(sorted(odd))}")
        built = {
            "system": system,
            "dataset": _build(DatasetSpec, recipe["dataset"]),
            "heads": _build(heads, recipe["heads"]) if is_dataclass(heads) else None,
            "augmentation": _build(Augmentation, recipe["augmentation"]),
            "stages": tuple(_build(StageSpec, stage) for stage in recipe["stages"]),
        }
        if len(built["stages"]) != len(system.stages):
            raise ValueError(f"{len(built['stages'])} stages, {system.title} has {len(system.stages)}")
        plain = {name: value for name, value in recipe.items() if name in known and name not in built}
        _check_types(Recipe, plain)
        if min(plain["batch_size"], plain["iter_size"]) < 1:
            raise ValueError("a batch of no image")
        return cls(Recipe(**plain, **built), values["data"], weights)


def recipe_values(recipe: Recipe) -> dict:
    """A recipe as plain values."""
    values = {one.name: getattr(recipe, one.name) for one in fields(recipe)}
    values |= {name: asdict(value) for name, value in values.items() if is_dataclass(value) and name != "system"}
    return values | {"system": recipe.system.name, "stages": tuple(map(asdict, recipe.stages))}


def choose_settings(
    earlier: Settings | None,
    dataset: str | None = None,
    data: str | None = None,
    weights: str | None = None,
    from_scratch: bool = False,
    asked: Asked | None = None,
    system: System | None = None,
) -> Settings:
    """Combine what was asked for with what the run began with (`earlier`); what is None was not asked for.

    Raises UsageError when the run was begun with another system or data set or the numbers contradict each other,
    MissingError when there are no weights to start from.
    """
    asked = asked or Asked()
    if earlier is not None and dataset not in (None, earlier.recipe.dataset.name):
        raise UsageError(f"this run was begun with {earlier.recipe.dataset.name}, not {dataset}", "give another --run")
    if earlier is not None and system not in (None, earlier.recipe.system):
        what = f"this run was begun with {earlier.recipe.system.title}, not {system.title}"
        raise UsageError(what, "give another --run")
    recipe = earlier.recipe if earlier else (system or default_system()).recipe(dataset or EMBEDDED)
    recipe = asked.applied_to(recipe)
    first = recipe.stage_numbers[0]
    if from_scratch and "train_bn" not in asked.stages:  # nothing else would fill the trunk's BN statistics
        stages = (replace(plan, train_bn=True) if n == first else plan for n, plan in enumerate(recipe.stages, 1))
        recipe = replace(recipe, stages=tuple(stages))
    name = recipe.dataset.name
    known = earlier.weights if earlier else None
    if weights not in (None, known):  # a finished stage 1 needs its file no more
        existing_file(weights, "first weights")
    weights = None if from_scratch else weights or known
    if weights is None and not from_scratch and earlier is None and name != EMBEDDED:
        raise MissingError(
            f"stage {first} of {name} starts from ImageNet weights",
            "give --weights FILE (a caffemodel of the same trunk), or --from-scratch",
        )
    if weights is None and earlier is None and recipe.trunk_is_fixed(first):
        what = f"stage {first} would learn on a trunk that nobody has trained"
        cure = "--no-fixed-trunk" if recipe.fixed_trunk else "--left-out none"
        raise UsageError(what, f"give --weights FILE, or {cure} to train the trunk before")
    _check(recipe, weights)
    return Settings(recipe, data or (earlier.data if earlier else f"data/{name}"), weights)


def with_real_counts(settings: Settings) -> Settings:
    """The settings with the image count of the LMDB pair that is there; its labels must be the data set's.

    A user's own images take them from there; that a run goes on with the same ones is what the stages' digests see to.
    """
    pair = PairReader(existing_folder(settings.data, "LMDB folder", ELSEWHERE), "train")
    dataset = settings.recipe.dataset
    if dataset.name == OWN_DATASET:
        dataset = replace(dataset, labels=pair.classes)
    if tuple(pair.classes) != tuple(dataset.classes):
        raise UsageError(
            f"{settings.data} has the {len(pair.classes)} labels {', '.join(pair.classes[:3])}, ..., "
            f"not those of {dataset.name} ({', '.join(dataset.classes[:3])}, ...)",
            "give the data set that the LMDB pair was made from (--dataset)",
        )
    stored, wanted = pair.image_size, settings.recipe.input.stored_size
    if stored != wanted:
        raise UsageError(
            f"{settings.data} stores images of {stored} x {stored}, {settings.recipe.system.title} wants {wanted}",
            f"build it again: tools/make_lmdb.py ... --image-size {wanted}",
        )
    recipe = replace(settings.recipe, dataset=replace(dataset, train_images=len(pair)))
    recipe = recipe.system.fit(recipe, pair)
    if (most := max(map(recipe.iterations, recipe.stage_numbers))) > MOST_ITERATIONS:
        raise UsageError(f"{most:.3g} iterations are more than Caffe can count", "give fewer --epochs or --iterations")
    return replace(settings, recipe=recipe)


def differences(before: Settings, asked: Settings) -> str:
    """What is asked for and not as it was, for an error message; empty where all is alike."""
    old, new = _flat(before.to_json()), _flat(asked.to_json())
    changed = [f"{name}: {old.get(name)}, asked for {value}" for name, value in new.items() if old.get(name) != value]
    return "; ".join(changed[:NAMES_SHOWN]) + ("; ..." if len(changed) > NAMES_SHOWN else "")


def _flat(values: dict) -> dict:
    """The plain values of nested settings, by name."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value)
        elif name == "stages":
            flat |= {f"{key} of stage {i}": part for i, stage in enumerate(value, 1) for key, part in stage.items()}
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def _check(recipe: Recipe, weights: str | None) -> None:
    """Raise UsageError for numbers that contradict each other."""
    starts_from_weights, first = bool(recipe.system.leaves), recipe.stage_numbers[0]
    if starts_from_weights and weights is None and not recipe.stages[first - 1].train_bn:
        raise UsageError(
            f"stage {first} without ImageNet weights has no BN statistics to keep",
            f"give --weights FILE, or --train-bn with {first}",
        )
    for number, plan in enumerate(recipe.stages, 1):
        if plan.gamma > 1:
            raise UsageError(f"--gamma {plan.gamma:g} would raise the rate of stage {number}", "give 1 or less")
        if plan.schedule == PLATEAU and plan.min_lr > plan.base_lr:
            raise UsageError(
                f"--min-lr {plan.min_lr:g} is above the rate {plan.base_lr:g} that stage {number} begins with",
                "give a lower --min-lr, or a higher --base-lr",
            )


def _build(kind: type, values: dict):
    """A flat dataclass from its JSON form: lists become tuples. TypeError for what is not of its fields' types."""
    if not isinstance(values, dict):
        raise TypeError(f"{kind.__name__} is {values!r}")
    _check_types(kind, values)
    lists = {field.name for field in fields(kind) if isinstance(values.get(field.name), list)}
    return kind(**{name: tuple(value) if name in lists else value for name, value in values.items()})


def _check_types(kind: type, values: dict) -> None:
    """Raise TypeError for a value that is not as its field of a dataclass is declared, or a count that cannot be."""
    hints = get_type_hints(kind, localns={"System": System})
    for name, value in values.items():
        if name in hints and not _is_a(hints[name], value):
            raise TypeError(f"{name} is {value!r}")


def _is_a(hint: Any, value: Any) -> bool:
    """Whether a JSON value is of a declared type; numbers are finite, whole ones from 0 to the last seed."""
    parts = get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_is_a(part, value) for part in parts)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or (parts[-1] is not ... and len(parts) != len(value)):
            return False
        each = parts[:1] * len(value) if parts[-1] is ... else parts
        return all(map(_is_a, each, value))
    if hint in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_SEED
        return whole or (hint is float and isinstance(value, float) and math.isfinite(value))
    return hint is Any or isinstance(value, NoneType if hint is None else hint)
