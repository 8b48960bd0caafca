"""The flags of tools/run_stage.py that are fields of a recipe, made of these fields (`recipes.option`).

A field of a stage takes one value, or one for each stage, divided by commas.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pysrn.console import UsageError, seed_number
from pysrn.recipes import Recipe, StageSpec, flags_of
from pysrn.systems.registry import systems

LARGEST = 2**31 - 1  # Caffe's integers
TOGETHER = ("iterations", "epochs")  # one of them is given


@dataclass(frozen=True)
class Asked:
    """What the flags ask for, None left out: fields of Recipe, of its stages (a list of values each), of its heads."""

    recipe: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Any] = field(default_factory=dict)
    heads: Mapping[str, Any] = field(default_factory=dict)

    def applied_to(self, recipe: Recipe) -> Recipe:
        """The recipe with all of it. UsageError for what the recipe's system has not, or not so many stages."""
        system = recipe.system
        if (trunk := self.recipe.get("trunk", recipe.trunk)) not in (*system.offered, recipe.trunk):
            raise UsageError(f"{system.title} has no trunk {trunk}", f"it has {', '.join(system.offered)}")
        recipe = replace(recipe, **self.recipe)
        if self.heads:
            known = flags_of(type(recipe.heads)) if recipe.heads is not None else {}
            for name in self.heads:
                if name not in known:
                    raise UsageError(f"{system.title} has no --{name.replace('_', '-')}", "leave it out")
            recipe = replace(recipe, heads=replace(recipe.heads, **self.heads))
        for name, values in self.stages.items():
            recipe = _with_stage_values(recipe, name, values)
        return system.settle(recipe)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of a recipe, its stages and the heads of any system that has one."""
    group = parser.add_argument_group(
        "recipe",
        "recorded in the run; default: the system's recipe. N or X: one number, or one a stage, divided by commas",
    )
    together = group.add_mutually_exclusive_group()
    for name, flag in (_head_flags() | flags_of(Recipe) | flags_of(StageSpec)).items():
        _add(together if name in TOGETHER else group, name, flag)


def asked_for(arguments: argparse.Namespace) -> Asked:
    """What parsed arguments ask for."""

    def given(names) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(arguments, name)) is not None}

    return Asked(given(flags_of(Recipe)), given(flags_of(StageSpec)), given(_head_flags()))


def _head_flags() -> dict[str, dict]:
    recipes = (recipe for system in systems().values() for recipe in system.recipes.values())
    kinds = dict.fromkeys(type(recipe.heads) for recipe in recipes if recipe.heads is not None)
    return {name: flag for kind in kinds for name, flag in flags_of(kind).items()}


def _add(group, name: str, flag: Mapping[str, Any]) -> None:
    words = {"help": ""} | {word: flag[word] for word in ("help", "metavar") if word in flag}
    of_stage, kind = name in flags_of(StageSpec), flag["kind"]
    if kind == "switch":
        words["action"] = argparse.BooleanOptionalAction
    elif kind == "trunk":
        words["choices"] = list(dict.fromkeys(trunk for system in systems().values() for trunk in system.offered))
    elif kind == "choice":
        words["choices"] = flag["choices"]
        if of_stage:  # the same in all stages
            words["nargs"] = 1
    else:
        words["type"] = (OF_STAGES if of_stage else PLAIN)[kind]
    group.add_argument(f"--{name.replace('_', '-')}", dest=name, default=None, **words)


def _with_stage_values(recipe: Recipe, name: str, values: list | Callable[[Recipe], list]) -> Recipe:
    """A field of all stages set to one value, or to one each."""
    each, count = values(recipe) if callable(values) else values, len(recipe.stages)
    if len(each) not in (1, count):
        raise UsageError(
            f"--{name.replace('_', '-')} has {len(each)} values, {recipe.system.title} has {count} stages",
            "give one value, or one for each stage",
        )
    other = {"iterations": None, "least_iterations": 0} if name == "epochs" else {}
    stages = zip(recipe.stages, each * (count // len(each)), strict=True)
    return replace(recipe, stages=tuple(replace(stage, **{name: value}, **other) for stage, value in stages))


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if (value := whole(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return value


def whole(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal() or int(text) > LARGEST:
        raise argparse.ArgumentTypeError(f"a whole number up to {LARGEST} is needed")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 up to, but not, 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("a number from 0 to below 1 is needed")
    return value


def numbers(kind: type) -> Callable[[str], list]:
    """Parser of positive numbers divided by commas."""
    most = LARGEST + 1 if kind is int else 1e100  # so that products with it are finite

    def parse(text: str) -> list:
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError:
            values = []
        if not values or not all(0 < value < most for value in values):
            one = "one positive whole number" if kind is int else "one positive number"
            raise argparse.ArgumentTypeError(f"{one}, or one for each stage, divided by commas")
        return values

    return parse


def fractions(text: str) -> list[tuple[float, ...]]:
    """Rising fractions divided by commas, for all stages."""
    values = tuple(fraction(part) for part in text.split(","))
    if list(values) != sorted(set(values)):
        raise argparse.ArgumentTypeError("rising fractions are needed")
    return [values]


def stages_of_batch_statistics(text: str) -> Callable[[Recipe], list[bool]]:
    """Which stages follow the batch: `none`, or numbers divided by commas; for a recipe, a value each stage."""
    words = _numbers_or_none(text)

    def each(recipe: Recipe) -> list[bool]:
        free = [str(stage.number) for stage in recipe.system.stages if not stage.fixed_trunk]
        if not set(words) <= set(free):  # in a stage with a fixed trunk nothing that could is left to choose
            raise UsageError(f"--train-bn {text}: none, or of the stages {', '.join(free)}")
        return [str(stage.number) in words for stage in recipe.system.stages]

    return each


def left_out(text: str) -> Callable[[Recipe], list[bool]]:
    """Which stages are not trained: `none`, or numbers divided by commas; for a recipe, a value each stage."""
    words = _numbers_or_none(text)

    def each(recipe: Recipe) -> list[bool]:
        *may, last = (str(stage.number) for stage in recipe.system.stages)
        if not set(words) <= set(may):
            raise UsageError(
                f"--left-out {text}: none, or of the stages {', '.join(may) or '(none)'}",
                f"stage {last} makes the result",
            )
        return [str(stage.number) in words for stage in recipe.system.stages]

    return each


def _numbers_or_none(text: str) -> list[str]:
    words = [] if text == "none" else text.split(",")
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError("none, or numbers of stages divided by commas")
    return words


def views(text: str) -> Callable[[Recipe], list[int | None]]:
    """How many views an image has in each stage; where nothing can be cached, new ones always."""
    number = None if text == "new" else positive(text)
    return lambda recipe: [number if recipe.trunk_is_fixed(stage.number) else None for stage in recipe.system.stages]


PLAIN = {"count": positive, "fraction": fraction, "seed": seed_number, "path": str}
OF_STAGES = {
    "count": numbers(int),
    "positive": numbers(float),
    "fractions": fractions,
    "stages": stages_of_batch_statistics,
    "absent": left_out,
    "views": views,
}
