"""What MSRN's stages and its deploy net hold, what learns in them, which losses they have.

| stage  | learns                                                    | loss                                           |
|--------|-----------------------------------------------------------|------------------------------------------------|
| 1 main | trunk, global average pool, fc                            | BCE(score_cls), summed over the labels         |
| 2 msrn | trunk and buffers at a tenth of the rate; all that is new | BCE(score), mean over the labels, + group loss |

Stage 1 is not the paper's: the recipes of the published data sets leave it out and train stage 2 from ImageNet, end to
end. It is for small data sets without ImageNet weights, and is the baseline.
"""

from __future__ import annotations

from pysrn.nets import messages
from pysrn.nets.layers import Learning, add_layer, inner_product
from pysrn.recipes import Recipe
from pysrn.systems.msrn.heads import HeadSpec, add_attention, add_fusion, add_taps
from pysrn.systems.msrn.label_branch import add_group_loss, add_label_branch
from pysrn.systems.system import Architecture
from pysrn.systems.trunks import resnet
from pysrn.systems.trunks.resnet import TRUNKS, TrunkSpec

MAIN, MSRN = 1, 2
TRUNK_RATE = 0.1  # models.py, get_config_optim: of all within the ResNet, the buffers too
FC_STD = 0.01  # assumed, as in SRN's main net


def add_stage(net: messages.NetParameter, recipe: Recipe, stage: int) -> None:
    """Add all of a stage to a net with `data` and `label`."""
    trunk, classes, plan = TRUNKS[recipe.trunk], len(recipe.dataset.classes), recipe.stages[stage - 1]
    new = Learning(rate=plan.new_layer_lr, train_bn=True)
    if stage == MAIN:
        top = resnet.add_trunk(net, trunk, Learning(train_bn=plan.train_bn), "data")
        add_layer(net, "loss_cls", "SigmoidCrossEntropyLoss", [_add_classifier(net, top, classes, new), "label"])
        return
    resnet.add_trunk(net, trunk, inside := Learning(rate=TRUNK_RATE, train_bn=plan.train_bn), "data")
    score = _add_msrn(net, trunk, classes, recipe.heads, new, inside)
    # MultiLabelSoftMarginLoss (demo_*.py) is the mean over images and labels.
    full = {"normalization": "FULL"}
    add_layer(net, "loss_score", "SigmoidCrossEntropyLoss", [score, "label"], loss_param=full)
    if recipe.heads.group_rows:
        add_group_loss(net, classes)
    _learn_as_in_torch(net)


def add_deploy(net: messages.NetParameter, architecture: Architecture, learning: Learning) -> None:
    """Add all of the net for prediction to a net with `data`; the main net of stage 1 has no heads."""
    trunk, classes = TRUNKS[architecture.trunk], architecture.classes
    top = resnet.add_trunk(net, trunk, learning, "data")
    if architecture.heads is None:
        _add_classifier(net, top, classes, learning)
    else:
        _add_msrn(net, trunk, classes, architecture.heads, learning, learning)


def _add_classifier(net: messages.NetParameter, bottom: str, classes: int, learning: Learning) -> str:
    """Global average pool, fully connected layer -> `score_cls`, N x C logits."""
    pooled = add_layer(net, "pool5", "Pooling", bottom, pooling_param={"pool": "AVE", "global_pooling": True})
    return inner_product(net, "cls_fc", pooled, classes, learning, top="score_cls", std=FC_STD)


def _add_msrn(
    net: messages.NetParameter, trunk: TrunkSpec, classes: int, heads: HeadSpec, learning: Learning, inside: Learning
) -> str:
    """Label branch, taps, attention, fusion -> `score`."""
    rows, assignment = add_label_branch(net, classes, heads, learning)
    seen = add_attention(net, add_taps(net, trunk, heads, learning, inside), rows, heads)
    return add_fusion(net, seen, assignment, classes, heads, learning)


def _learn_as_in_torch(net: messages.NetParameter) -> None:
    """One rate and one decay for all parameters of a layer: the released optimizer (torch's SGD) knows no biases."""
    for layer in net.layer:
        for param in layer.param:
            if param.lr_mult:
                param.lr_mult, param.decay_mult = layer.param[0].lr_mult, 1.0
