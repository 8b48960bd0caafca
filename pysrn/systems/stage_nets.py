"""Whole nets of a system: of a stage, fed by our data layer or by stock ones, and for prediction.

What lies between data and losses is the system's (`System.add_stage`, `System.add_deploy`). Each net holds only what
its stage needs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pysrn.console import SrnError
from pysrn.data.feed.settings import FeedSettings
from pysrn.nets import messages
from pysrn.nets.folding import Weights
from pysrn.nets.layers import FIXED, add_input, add_layer, fix_up_to, parameter_layers
from pysrn.recipes import Recipe
from pysrn.systems.system import Architecture, Stage


@dataclass(frozen=True)
class DataSource:
    """Where a training net reads: an LMDB pair's folder and split, and the global number of the first sample."""

    folder: str
    split: str = "train"
    first_sample: int = 0
    workers: int = 1


def stage_net(recipe: Recipe, stage: int, source: DataSource) -> messages.NetParameter:
    """The training net of a stage, fed by our Python data layer."""
    net = _named(recipe, _title(recipe, stage))
    feed = feed_of(recipe, source, recipe.stages[stage - 1].views)
    # The module's name is in net files that people have: it stays.
    layer = {"module": "pysrn.data.layer", "layer": "MultiLabelDataLayer", "param_str": feed.to_json()}
    add_layer(net, "data", "Python", [], python_param=layer)
    net.layer[-1].top.append("label")
    _add_stage(net, recipe, stage)
    return net


def feed_of(recipe: Recipe, source: DataSource, views: int | None = None, train: bool = True) -> FeedSettings:
    """What a data layer is told to feed the nets of a recipe."""
    numbers = {"batch_size": recipe.batch_size, "seed": recipe.seed, "views": views, "train": train}
    return FeedSettings.of(recipe.input, recipe.augmentation, **numbers, **vars(source))


def stock_stage_net(recipe: Recipe, stage: int, folder: str, split: str = "train") -> messages.NetParameter:
    """The same net with two stock `Data` layers (random crop, mirror), for plain `caffe train`.

    Differs from paper: BVLC Caffe has no multi-scale corner crop.
    """
    net = _named(recipe, f"{_title(recipe, stage)}_stock")
    eaten = recipe.input
    transform = {"crop_size": eaten.size, "mirror": recipe.augmentation.mirror, "mean_value": list(eaten.mean)}
    if eaten.scale != 1:
        transform["scale"] = eaten.scale
    for top, parameters in (("data", {"transform_param": transform}), ("label_map", {})):
        source = f"{folder}/{split}_{'image' if top == 'data' else 'label'}.lmdb"
        data = {"source": source, "batch_size": recipe.batch_size, "backend": "LMDB"}
        add_layer(net, top, "Data", [], data_param=data, **parameters)
    add_layer(net, "label_vector", "Flatten", "label_map")
    add_layer(net, "label", "ReLU", "label_vector")  # stored as 1, -1, 0; no and unspecified count as negative
    _add_stage(net, recipe, stage)
    return net


def deploy_net(architecture: Architecture, batch_size: int = 1) -> messages.NetParameter:
    """The whole net for prediction: `data` (N x 3 x S x S, BGR minus mean) -> scores and maps."""
    net = messages.NetParameter(name=net_name(architecture))
    add_input(net, "data", (batch_size, 3, *[architecture.input.size] * 2))
    architecture.system.add_deploy(net, architecture, FIXED)
    return net


def deploy_message(
    architecture: Architecture, layers: Collection[str] | None = None, batch_size: int = 1
) -> messages.NetParameter:
    """The net for prediction, cut to the scores that the named `layers` can compute (None: all)."""
    net = deploy_net(architecture, batch_size)
    if layers is None:
        return net
    weighted = set(parameter_layers(net))
    kept: set[int] = set()
    for score in architecture.system.score_names:
        needed = _ancestors(net, score)
        if all(net.layer[i].name in layers for i in needed if net.layer[i].name in weighted):
            kept |= needed
    for i in reversed(range(len(net.layer))):
        if i not in kept:
            del net.layer[i]
    return net


def net_name(architecture: Architecture) -> str:
    """What a net for prediction is called, in its file and in a weight file."""
    return f"{architecture.system.title}_{architecture.trunk}_{architecture.classes}_labels"


def recipe_deploy_net(recipe: Recipe) -> messages.NetParameter:
    """The deploy net of a recipe, for one image at a time."""
    return deploy_net(Architecture.of(recipe))


def check_of_recipe(weights: Weights, found: Architecture, recipe: Recipe, source: str) -> None:
    """Raise SrnError unless weights of the architecture `found` are of the net that a recipe trains, or of a part."""
    nets = [recipe_deploy_net(recipe), *(stage_net(recipe, n, DataSource("", workers=0)) for n in recipe.stage_numbers)]
    known = {*recipe.system.leaves, *(layer.name for net in nets for layer in net.layer)}  # snapshots have the leaves
    foreign = next((name for name in weights if name not in known), None)
    if found.trunk != recipe.trunk or foreign:
        what = f"has {foreign}" if foreign else f"has the trunk {found.trunk}"
        raise SrnError(
            f"{source} is of another net than its run, {recipe.dataset.name} on {recipe.trunk}: it {what}",
            "put the run's own weights there; others go where no run.json is",
        )


def new_layers(net: messages.NetParameter, recipe: Recipe, stage: Stage) -> set[str]:
    """Names of the layers with weights that a stage itself initialises: its own, and those of stages left out."""
    before = zip(recipe.system.stages, recipe.stages, strict=True)
    skipped = [one for one, plan in before if plan.left_out and one.number < stage.number]
    added = {part for one in (stage, *skipped) for part in one.adds}
    return {name for name in parameter_layers(net) if recipe.system.part_of(name) in added}


def _ancestors(net: messages.NetParameter, output: str) -> set[int]:
    """Positions of the layers that a blob depends on."""
    wanted, kept = {output}, set()
    for i in reversed(range(len(net.layer))):
        if wanted.intersection(net.layer[i].top):
            kept.add(i)
            wanted.update(net.layer[i].bottom)
    return kept


def _add_stage(net: messages.NetParameter, recipe: Recipe, stage: int) -> None:
    recipe.system.add_stage(net, recipe, stage)
    if recipe.fixed_trunk:
        fix_up_to(net, recipe.system.trunks[recipe.trunk].features.blob)


def _title(recipe: Recipe, stage: int) -> str:
    return f"stage{stage}_{recipe.system.stage(stage).name}"


def _named(recipe: Recipe, part: str) -> messages.NetParameter:
    return messages.NetParameter(name=f"{recipe.system.title}_{recipe.trunk}_{recipe.dataset.name}_{part}")
