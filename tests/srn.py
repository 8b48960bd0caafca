"""What the tests of SRN need of it, under short names."""

import dataclasses
from types import SimpleNamespace

from pysrn.data.feed.settings import FeedSettings
from pysrn.nets.layers import fixed_layers, parameter_layers
from pysrn.recipes import Recipe
from pysrn.systems import stage_nets, system
from pysrn.systems.srn import nets
from pysrn.systems.srn.recipes import AUGMENTATION, INPUT, in_variant
from pysrn.systems.srn.system import SYSTEM

RECIPES, PAPER = SYSTEM.recipes, SYSTEM.published.tables
CROP_SIZE, IMAGE_SIZE, MEAN_BGR = 224, 256, (104.0, 117.0, 123.0)  # official repo, tools/model_test.py
SCORES, MAPS = ("score_cls", "score_att", "score_sr", "score"), ("att_map", "conf_map", "sr_map")
STAGE_NAMES = {1: "main", 2: "attention", 3: "regulariser", 4: "joint"}  # step_1 ... step_4 of the release
NEW_PREFIXES = {1: ("cls_",), 2: ("att_", "conf_"), 3: ("sr_",), 4: ()}  # of the layers that a stage adds


def Architecture(trunk, classes, heads):  # noqa: N802 - the class, of SRN
    return system.Architecture(SYSTEM, trunk, classes, heads)


def replace(value, **changes):
    """As `dataclasses.replace`, and of a recipe the variant, too, which the trunk follows."""
    if isinstance(value, Recipe):
        variant = changes.pop("variant", value.heads.variant)
        return in_variant(dataclasses.replace(value, **changes), variant)
    return dataclasses.replace(value, **changes)


def feed(folder, split, batch_size, **changes):
    """What feeds SRN's nets."""
    settings = FeedSettings.of(INPUT, AUGMENTATION, folder=str(folder), split=split, batch_size=batch_size)
    return dataclasses.replace(settings, **changes)


def check_images(count=4, seed=0):
    from pysrn.convert import torch_export  # not where there is no PyTorch

    return torch_export.check_images(INPUT, count, seed)


def deploy_net(trunk, classes, heads, batch_size=1):
    return stage_nets.deploy_net(Architecture(trunk, classes, heads), batch_size)


stages = SimpleNamespace(
    DataSource=stage_nets.DataSource,
    deploy_net=deploy_net,
    fixed_layers=fixed_layers,
    loss_name=nets.loss_name,
    new_layers=lambda net, stage: stage_nets.new_layers(net, RECIPES["coco"], SYSTEM.stage(stage)),
    parameter_layers=parameter_layers,
    recipe_deploy_net=stage_nets.recipe_deploy_net,
    stage_losses=nets.stage_losses,
    stage_net=stage_nets.stage_net,
    stock_stage_net=stage_nets.stock_stage_net,
)
