"""What a run is started with: the recipe with its overrides, the data, the first weights.

A run keeps its settings in run.json, so that later commands on it need not repeat them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from pysrn.console import MissingError, UsageError
from pysrn.data.lmdb_pair import PairReader
from pysrn.recipes import OWN_DATASET, RECIPES, TRUNKS, Augmentation, DatasetSpec, HeadSpec, Recipe, StageSpec


@dataclass(frozen=True)
class Settings:
    """A run's recipe, the folder of its LMDB pair, and the ImageNet weights of stage 1 (None: from scratch)."""

    recipe: Recipe
    data: str
    weights: str | None

    def to_json(self) -> dict:
        """Plain values, as run.json holds them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict) -> Settings:
        """The settings of a run.json; raises KeyError, TypeError or ValueError on a damaged one."""
        recipe, weights = values["recipe"], values["weights"]
        if recipe["trunk"] not in TRUNKS or recipe["dataset"]["name"] not in RECIPES:
            raise ValueError(f"no trunk {recipe['trunk']} or no data set {recipe['dataset']['name']}")
        if not isinstance(values["data"], str) or not isinstance(weights, str | None):
            raise ValueError("data and weights must be paths")
        return cls(
            Recipe(
                **{
                    **recipe,
                    "dataset": _build(DatasetSpec, recipe["dataset"]),
                    "heads": HeadSpec(**recipe["heads"]),
                    "augmentation": _build(Augmentation, recipe["augmentation"]),
                    "stages": tuple(_build(StageSpec, stage) for stage in recipe["stages"]),
                }
            ),
            values["data"],
            weights,
        )


def choose_settings(
    earlier: Settings | None,
    dataset: str | None,
    data: str | None,
    weights: str | None,
    from_scratch: bool,
    recipe_fields: dict,
    stage_fields: dict,
) -> Settings:
    """Combine what was asked for with what the run began with (`earlier`); what is None was not asked for.

    `recipe_fields` are fields of Recipe, `stage_fields` fields of StageSpec as a list of one value or of four.
    Raises UsageError when the run was begun with another data set.
    """
    if earlier is not None and dataset not in (None, earlier.recipe.dataset.name):
        raise UsageError(f"this run was begun with {earlier.recipe.dataset.name}, not {dataset}", "give another --run")
    recipe = earlier.recipe if earlier else RECIPES[dataset or "shapes"]
    recipe = replace(recipe, **{name: value for name, value in recipe_fields.items() if value is not None})
    for name, values in stage_fields.items():
        if values is not None:
            recipe = _with_stage_values(recipe, name, values)
    if from_scratch:  # nothing else would give the trunk's BN layers their statistics
        recipe = replace(recipe, stages=(replace(recipe.stages[0], train_bn=True), *recipe.stages[1:]))
    name = recipe.dataset.name
    weights = None if from_scratch else weights or (earlier.weights if earlier else None)
    if weights is None and not from_scratch and earlier is None and name != "shapes":
        raise MissingError(
            f"stage 1 of {name} starts from ImageNet weights",
            "give --weights FILE (a caffemodel of the same trunk), or --from-scratch",
        )
    return Settings(recipe, data or (earlier.data if earlier else f"data/{name}"), weights)


def with_real_counts(settings: Settings) -> Settings:
    """The settings with the image count of the LMDB pair that is there; its labels must be the data set's.

    `folder` takes them from there; that a run goes on with the same ones is what the stages' digests see to.
    """
    pair = PairReader(settings.data, "train")
    dataset = settings.recipe.dataset
    if dataset.name == OWN_DATASET:
        dataset = replace(dataset, labels=pair.classes)
    if tuple(pair.classes) != tuple(dataset.classes):
        raise UsageError(
            f"{settings.data} has the {len(pair.classes)} labels {', '.join(pair.classes[:3])}, ..., "
            f"not those of {dataset.name} ({', '.join(dataset.classes[:3])}, ...)",
            "give the data set that the LMDB pair was made from (--dataset)",
        )
    return replace(settings, recipe=replace(settings.recipe, dataset=replace(dataset, train_images=len(pair))))


def _with_stage_values(recipe: Recipe, name: str, values: list) -> Recipe:
    """A field of the four stages set to one value, or to four."""
    each = values * (len(recipe.stages) // len(values))
    changes = [{name: value} | ({"iterations": None} if name == "epochs" else {}) for value in each]
    stages = zip(recipe.stages, changes, strict=True)
    return replace(recipe, stages=tuple(replace(stage, **change) for stage, change in stages))


def _build(kind: type, values: dict):
    """A flat dataclass from its JSON form: lists become tuples."""
    lists = {field.name for field in fields(kind) if isinstance(values.get(field.name), list)}
    return kind(**{name: tuple(value) if name in lists else value for name, value in values.items()})
