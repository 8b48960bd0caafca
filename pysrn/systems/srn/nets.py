"""What SRN's four training nets and its deploy net hold: which parts, what learns in them, which losses they have.

| stage | learns                  | fixed               | loss                                |
|-------|-------------------------|---------------------|-------------------------------------|
| 1     | trunk, f_cls            | -                   | BCE(score_cls)                      |
| 2     | f_att, conv1            | trunk up to X       | BCE(score_att)                      |
| 3     | f_sr                    | trunk to X, f_att, conv1 | BCE(score_sr)                  |
| 4     | everything              | -                   | paper: BCE(score) + BCE(score_att), Eq. 10 |
|       |                         |                     | released: BCE(score_cls) + BCE(score_sr) + BCE(score_att) |

BN statistics (D7): stored in what is fixed; in stages 1 and 4 stored or of the batch, by `StageSpec.train_bn`; of the
batch in the heads that stages 2 and 3 add (variant `released`), because nothing else would give them their statistics.
Stages 2 and 3 end at the 14 x 14 features and leave res5 and f_cls out.
BCE is Caffe's SigmoidCrossEntropyLoss: summed over the labels, divided by the batch size only, as in the
official repo's sigmoid_cross_entropy_loss_layer.cpp.
"""

from __future__ import annotations

from pysrn.nets import messages
from pysrn.nets.layers import FIXED, Learning, add_layer
from pysrn.recipes import Recipe
from pysrn.systems.srn import heads as srn
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.system import Architecture
from pysrn.systems.trunks import resnet
from pysrn.systems.trunks.resnet import TRUNKS, TrunkSpec

# Stage 4: the two losses of Eq. 10 in variant `paper`, three separate ones in `released` (author, official repo issue
# 13); summed, and that each weighs 1 is assumed.
STAGE_LOSSES = {1: ("score_cls",), 2: ("score_att",), 3: ("score_sr",), 4: ("score", "score_att")}
RELEASED_LOSSES = STAGE_LOSSES | {4: ("score_cls", "score_sr", "score_att")}


def stage_losses(recipe: Recipe, stage: int) -> tuple[str, ...]:
    """The scores that a stage of a recipe has a loss on."""
    return (RELEASED_LOSSES if recipe.heads.variant == "released" else STAGE_LOSSES)[stage]


def loss_name(score: str) -> str:
    """Name of the loss on a score: `loss_att` on `score_att`, `loss_score` on `score`."""
    return f"loss_{score.removeprefix('score_')}"


def add_stage(net: messages.NetParameter, recipe: Recipe, stage: int) -> None:
    """Add all of stage 1-4 to a net with `data` and `label`."""
    spec, heads, classes = TRUNKS[recipe.trunk], recipe.heads, len(recipe.dataset.classes)
    plan = recipe.stages[stage - 1]
    everything, new = Learning(train_bn=plan.train_bn), Learning(rate=plan.new_layer_lr, train_bn=True)
    if stage == 1:
        top = resnet.add_trunk(net, spec, everything, "data")
        srn.add_classifier(net, top, classes, new, heads.first_logit)
    elif stage == 2:
        resnet.add_trunk(net, spec, FIXED, "data", up_to=resnet.FEATURE_STAGE)
        srn.add_attention_score(net, *_add_maps(net, spec, classes, heads, new))
    elif stage == 3:
        resnet.add_trunk(net, spec, FIXED, "data", up_to=resnet.FEATURE_STAGE)
        weighted = srn.add_weighted_maps(net, *_add_maps(net, spec, classes, heads, FIXED), heads)
        srn.add_regulariser(net, weighted, classes, heads, new)
    else:
        from_the_start = recipe.stage_numbers == [stage]  # nothing was trained before: all but the trunk is new
        score_cls, score_sr = _add_scores(net, spec, classes, heads, everything, new if from_the_start else everything)
        if "score" in stage_losses(recipe, stage):
            srn.add_final_score(net, score_cls, score_sr)
    for score in stage_losses(recipe, stage):
        add_layer(net, loss_name(score), "SigmoidCrossEntropyLoss", [score, "label"])


def add_deploy(net: messages.NetParameter, architecture: Architecture, learning: Learning) -> None:
    """Add all of the net for prediction to a net with `data`."""
    trunk = TRUNKS[architecture.trunk]
    srn.add_final_score(net, *_add_scores(net, trunk, architecture.classes, architecture.heads, learning, learning))


def _add_maps(
    net: messages.NetParameter, spec: TrunkSpec, classes: int, heads: HeadSpec, learning: Learning
) -> tuple[str, str]:
    """f_att and the confidence branch on X; returns A and S."""
    return srn.add_maps(net, resnet.feature_name(spec), spec.feature_channels, classes, heads, learning)


def _add_scores(
    net: messages.NetParameter, spec: TrunkSpec, classes: int, heads: HeadSpec, trunk: Learning, learning: Learning
) -> tuple[str, str]:
    """The whole of SRN but the final score: `score_cls`, `score_att` and `score_sr`; returns the first and the last."""
    top = resnet.add_trunk(net, spec, trunk, "data")
    score_cls = srn.add_classifier(net, top, classes, learning, heads.first_logit)
    maps = _add_maps(net, spec, classes, heads, learning)
    srn.add_attention_score(net, *maps)
    weighted = srn.add_weighted_maps(net, *maps, heads)
    return score_cls, srn.add_regulariser(net, weighted, classes, heads, learning)
