"""The four training nets and the deploy net: which parts each holds, what learns in it, which losses it has.

| stage | learns                  | fixed               | loss                                |
|-------|-------------------------|---------------------|-------------------------------------|
| 1     | trunk, f_cls            | -                   | BCE(score_cls)                      |
| 2     | f_att, conv1            | trunk up to X       | BCE(score_att)                      |
| 3     | f_sr                    | trunk to X, f_att, conv1 | BCE(score_sr)                  |
| 4     | everything              | -                   | paper: BCE(score) + BCE(score_att), Eq. 10 |
|       |                         |                     | released: BCE(score_cls) + BCE(score_sr) + BCE(score_att) |

BN statistics (D7): stored in what is fixed; in stages 1 and 4 stored or of the batch, by `StageSpec.train_bn`; of the
batch in the heads that stages 2 and 3 add (variant `released`), because nothing else would give them their statistics.
Each net holds only what its stage needs: stages 2 and 3 end at the 14 x 14 features and leave res5 and f_cls out.
BCE is Caffe's SigmoidCrossEntropyLoss: summed over the labels, divided by the batch size only, as in the
official repo's sigmoid_cross_entropy_loss_layer.cpp.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from caffe.proto import caffe_pb2

from pysrn.data.feed.batches import FeedSettings
from pysrn.nets.layers import FIXED, Learning, add_layer
from pysrn.recipes import CROP_SIZE, MEAN_BGR, STAGE_NAMES, TRUNKS, HeadSpec, Recipe, TrunkSpec
from pysrn.systems.srn import heads as srn
from pysrn.systems.trunks import resnet

SCORES = ("score_cls", "score_att", "score_sr", "score")
MAPS = ("att_map", "conf_map", "sr_map")
# Stage 4: the two losses of Eq. 10 in variant `paper`, three separate ones in `released` (author, official repo issue
# 13); summed, and that each weighs 1 is assumed.
STAGE_LOSSES = {1: ("score_cls",), 2: ("score_att",), 3: ("score_sr",), 4: ("score", "score_att")}
RELEASED_LOSSES = STAGE_LOSSES | {4: ("score_cls", "score_sr", "score_att")}
# Prefixes of the layers that a stage adds to those of the stage before it.
NEW_PREFIXES = {1: ("cls_",), 2: ("att_", "conf_"), 3: ("sr_",), 4: ()}


@dataclass(frozen=True)
class DataSource:
    """Where a training net reads: an LMDB pair's folder and split, and the global number of the first sample."""

    folder: str
    split: str = "train"
    first_sample: int = 0
    workers: int = 1


def stage_net(recipe: Recipe, stage: int, source: DataSource) -> caffe_pb2.NetParameter:
    """The training net of stage 1-4, fed by our Python data layer."""
    net = _named(recipe, f"stage{stage}_{STAGE_NAMES[stage]}")
    _add_python_data(net, recipe, source, recipe.stages[stage - 1].views)
    _add_stage(net, recipe, stage)
    return net


def stock_stage_net(recipe: Recipe, stage: int, folder: str, split: str = "train") -> caffe_pb2.NetParameter:
    """The same net with two stock `Data` layers (random 224 crop, mirror), for plain `caffe train`.

    Differs from paper: BVLC Caffe has no multi-scale corner crop.
    """
    net = _named(recipe, f"stage{stage}_{STAGE_NAMES[stage]}_stock")
    transform = {"crop_size": CROP_SIZE, "mirror": recipe.augmentation.mirror, "mean_value": list(MEAN_BGR)}
    for top, parameters in (("data", {"transform_param": transform}), ("label_map", {})):
        source = f"{folder}/{split}_{'image' if top == 'data' else 'label'}.lmdb"
        data = {"source": source, "batch_size": recipe.batch_size, "backend": "LMDB"}
        add_layer(net, top, "Data", [], data_param=data, **parameters)
    add_layer(net, "label_vector", "Flatten", "label_map")
    add_layer(net, "label", "ReLU", "label_vector")  # stored as 1, -1, 0; no and unspecified count as negative
    _add_stage(net, recipe, stage)
    return net


def deploy_net(trunk: str, classes: int, heads: HeadSpec, batch_size: int = 1) -> caffe_pb2.NetParameter:
    """The whole net for prediction: `data` (N x 3 x 224 x 224, BGR minus mean) -> four scores and three maps."""
    net = caffe_pb2.NetParameter(name=f"SRN_{trunk}_{classes}_labels")
    shape = {"shape": [{"dim": [batch_size, 3, CROP_SIZE, CROP_SIZE]}]}
    add_layer(net, "data", "Input", [], input_param=shape)
    srn.add_final_score(net, *_add_scores(net, TRUNKS[trunk], classes, heads, FIXED))
    return net


def recipe_deploy_net(recipe: Recipe) -> caffe_pb2.NetParameter:
    """The deploy net of a recipe, for one image at a time."""
    return deploy_net(recipe.trunk, len(recipe.dataset.classes), recipe.heads)


def stage_losses(recipe: Recipe, stage: int) -> tuple[str, ...]:
    """The scores that a stage of a recipe has a loss on."""
    return (RELEASED_LOSSES if recipe.variant == "released" else STAGE_LOSSES)[stage]


def loss_name(score: str) -> str:
    """Name of the loss on a score: `loss_att` on `score_att`, `loss_score` on `score`."""
    return f"loss_{score.removeprefix('score_')}"


def new_layers(net: caffe_pb2.NetParameter, stage: int) -> set[str]:
    """Names of the layers with weights that `stage` itself initialises."""
    return {layer.name for layer in net.layer if layer.name.startswith(NEW_PREFIXES[stage]) and layer.param}


def fixed_layers(net: caffe_pb2.NetParameter) -> set[str]:
    """Names of the layers with weights of which nothing may change while the net is trained."""
    fixed = {layer.name for layer in net.layer if layer.param and not any(p.lr_mult for p in layer.param)}
    moving = {
        layer.name for layer in net.layer if layer.type == "BatchNorm" and not layer.batch_norm_param.use_global_stats
    }
    return fixed - moving


def parameter_layers(net: caffe_pb2.NetParameter) -> list[str]:
    """Names of the layers that have weights or statistics, in net order."""
    return [layer.name for layer in net.layer if layer.param]


def _named(recipe: Recipe, part: str) -> caffe_pb2.NetParameter:
    return caffe_pb2.NetParameter(name=f"SRN_{recipe.trunk}_{recipe.dataset.name}_{part}")


def _add_python_data(net: caffe_pb2.NetParameter, recipe: Recipe, source: DataSource, views: int | None) -> None:
    augmentation = recipe.augmentation
    feed = FeedSettings(
        **asdict(source),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        scale_ratios=augmentation.scale_ratios,
        max_distort=augmentation.max_distort,
        mirror=augmentation.mirror,
        views=views,
    )
    layer = {"module": "pysrn.data.layer", "layer": "MultiLabelDataLayer", "param_str": feed.to_json()}
    add_layer(net, "data", "Python", [], python_param=layer)
    net.layer[-1].top.append("label")


def _add_stage(net: caffe_pb2.NetParameter, recipe: Recipe, stage: int) -> None:
    spec, heads, classes = TRUNKS[recipe.trunk], recipe.heads, len(recipe.dataset.classes)
    plan = recipe.stages[stage - 1]
    everything, new = Learning(train_bn=plan.train_bn), Learning(rate=plan.new_layer_lr, train_bn=True)
    if stage == 1:
        top = resnet.add_trunk(net, spec, everything, "data")
        srn.add_classifier(net, top, classes, new)
    elif stage == 2:
        resnet.add_trunk(net, spec, FIXED, "data", up_to=resnet.FEATURE_STAGE)
        attention, confidence = _add_maps(net, spec, classes, heads, new)
        srn.add_attention_score(net, attention, confidence)
    elif stage == 3:
        resnet.add_trunk(net, spec, FIXED, "data", up_to=resnet.FEATURE_STAGE)
        weighted = srn.add_weighted_maps(net, *_add_maps(net, spec, classes, heads, FIXED))
        srn.add_regulariser(net, weighted, classes, heads, new)
    else:
        score_cls, score_sr = _add_scores(net, spec, classes, heads, everything)
        if "score" in stage_losses(recipe, stage):
            srn.add_final_score(net, score_cls, score_sr)
    for score in stage_losses(recipe, stage):
        add_layer(net, loss_name(score), "SigmoidCrossEntropyLoss", [score, "label"])


def _add_maps(
    net: caffe_pb2.NetParameter, spec: TrunkSpec, classes: int, heads: HeadSpec, learning: Learning
) -> tuple[str, str]:
    """f_att and the confidence branch on X; returns A and S."""
    return srn.add_maps(net, resnet.feature_name(spec), spec.feature_channels, classes, heads, learning)


def _add_scores(
    net: caffe_pb2.NetParameter, spec: TrunkSpec, classes: int, heads: HeadSpec, learning: Learning
) -> tuple[str, str]:
    """The whole of SRN but the final score: `score_cls`, `score_att` and `score_sr`; returns the first and the last."""
    top = resnet.add_trunk(net, spec, learning, "data")
    score_cls = srn.add_classifier(net, top, classes, learning)
    maps = _add_maps(net, spec, classes, heads, learning)
    srn.add_attention_score(net, *maps)
    weighted = srn.add_weighted_maps(net, *maps)
    return score_cls, srn.add_regulariser(net, weighted, classes, heads, learning)
