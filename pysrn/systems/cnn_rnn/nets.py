"""What CNN-RNN's stages, its net for prediction and its step net hold.

| stage       | learns                       | fixed                | loss                                       |
|-------------|------------------------------|----------------------|--------------------------------------------|
| 1 main      | trunk, fc                    | -                    | BCE(score_cls), summed over the labels     |
| 2 recurrent | embedding, cell, projections | trunk to its feature | -log P(labels in order, END) of each image |

In the sources the CNN is frozen ([MEM]: "we keep the CNN unchanged"), so a recipe from ImageNet leaves stage 1 out.

Equations (STU and a CSDN page agree): w = U e_k, o and r by the cell, x = h(U_o o + U_I I), s = U^T x with the U of the
embedding, p = softmax(s) over the labels and END. assumed: h is tanh; dropout is on x.

The net for prediction is the first step of a path. A search goes on from there with the step net (`search.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pysrn.nets import messages
from pysrn.nets.layers import Learning, add_layer, inner_product
from pysrn.recipes import Recipe
from pysrn.systems.cnn_rnn import cells
from pysrn.systems.cnn_rnn.cells import CONT, EMBEDDED, STATE, add_input, share
from pysrn.systems.cnn_rnn.heads import HeadSpec
from pysrn.systems.cnn_rnn.paths import IGNORED
from pysrn.systems.cnn_rnn.trunks import TRUNKS
from pysrn.systems.system import Architecture

MAIN, RECURRENT = 1, 2
UNKNOWN_STEPS = 20  # of a net that belongs to no data; COCO's images have 18 labels at most, and an end
FC_STD = 0.01  # assumed, as in SRN's main net
EMBEDDING = "rnn_embedding_weights"  # what the embedding and the scores share
PATH, IMAGE, JOINT, SCORES = "rnn_path", "rnn_image", "rnn_tanh", "rnn_scores"
XAVIER = {"type": "xavier"}  # assumed


def add_stage(net: messages.NetParameter, recipe: Recipe, stage: int) -> None:
    """Add all of a stage to a net with `data` and `label`."""
    trunk, classes, heads = TRUNKS[recipe.trunk], len(recipe.dataset.classes), recipe.heads
    plan = recipe.stages[stage - 1]
    new = Learning(rate=plan.new_layer_lr)
    if stage == MAIN:
        feature = trunk.add(net, "data", Learning(train_bn=plan.train_bn))
        score = inner_product(net, "cls_fc", feature, classes, new, top="score_cls", std=FC_STD)
        add_layer(net, "loss_cls", "SigmoidCrossEntropyLoss", [score, "label"])
        return
    feature = trunk.add(net, "data", Learning(rate=0.0))
    steps = heads.path_steps or UNKNOWN_STEPS
    told = {"order": heads.path_order, "steps": steps}
    layer = {"module": "pysrn.systems.cnn_rnn.sequence_layer", "layer": "LabelSequence", "param_str": json.dumps(told)}
    add_layer(net, "rnn_sequence", "Python", "label", PATH, python_param=layer)
    net.layer[-1].top.extend([CONT, "rnn_target"])
    _add_embedding(net, classes, heads, new)
    cells.add_cell(net, heads, steps, new)
    _add_image(net, feature, heads, new)
    scores = _add_scores(net, classes, heads, new, heads.dropout)
    # The sum over the steps of an image, the mean over the images: Caffe divides by both.
    parameters = {"loss_param": {"ignore_label": IGNORED, "normalization": "BATCH_SIZE"}, "softmax_param": {"axis": 2}}
    add_layer(net, "loss_path", "SoftmaxWithLoss", [scores, "rnn_target"], **parameters)
    net.layer[-1].loss_weight.append(steps)


def add_deploy(net: messages.NetParameter, architecture: Architecture, learning: Learning) -> None:
    """Add trunk, main net and the first step of a path to a net with `data`."""
    classes, heads = architecture.classes, architecture.heads
    feature = TRUNKS[architecture.trunk].add(net, "data", learning)
    inner_product(net, "cls_fc", feature, classes, learning, top="score_cls", std=FC_STD)
    _add_image(net, feature, heads, learning)
    # The beginning of each path, and no memory: of a whole number that any feature gives, so never of a NaN.
    add_layer(net, "rnn_any", "ArgMax", feature, argmax_param={})
    add_layer(net, "rnn_none", "Reshape", "rnn_any", reshape_param={"shape": {"dim": [1, -1]}})
    add_layer(net, PATH, "Power", "rnn_none", power_param={"scale": 0.0, "shift": classes})
    if heads.cell == "lstm":
        add_layer(net, CONT, "Power", "rnn_none", power_param={"scale": 0.0})
    _add_embedding(net, classes, heads, learning)
    cells.add_cell(net, heads, 1, learning)
    scores = _add_scores(net, classes, heads, learning)
    add_layer(net, "rnn_words", "Reshape", scores, reshape_param={"shape": {"dim": [-1, classes + 1]}})
    add_layer(net, "rnn_odds", "Slice", "rnn_words", "rnn_labels", slice_param={"axis": 1, "slice_point": [classes]})
    net.layer[-1].top.append("rnn_end")
    add_layer(net, "rnn_not_end", "Power", "rnn_end", power_param={"scale": -1.0})
    add_layer(net, "rnn_flat_end", "Reshape", "rnn_not_end", reshape_param={"shape": {"dim": [-1]}})
    add_layer(net, "score_first", "Bias", ["rnn_labels", "rnn_flat_end"], bias_param={"axis": 0})


def step_net(classes: int, heads: HeadSpec, learning: Learning) -> tuple[messages.NetParameter, Mapping[str, str]]:
    """One step of a path, for rows that belong to any images, and the memory that goes from step to step.

    `rnn_image` (N x E, as the net for prediction gives it), `rnn_path` (1 x N), the memory -> `rnn_scores` (1 x N x K).
    """
    net = messages.NetParameter(name="CNN-RNN_step")
    add_input(net, PATH, 1, 1)
    add_input(net, IMAGE, 1, heads.embedding_width)
    _add_embedding(net, classes, heads, learning)
    state = cells.add_step(net, heads, learning)
    _add_scores(net, classes, heads, learning)
    return net, state


def _add_embedding(net: messages.NetParameter, classes: int, heads: HeadSpec, learning: Learning) -> None:
    words = {"input_dim": classes + 1, "num_output": heads.embedding_width, "bias_term": False}
    add_layer(net, "rnn_embed", "Embed", PATH, EMBEDDED, embed_param=words | {"weight_filler": cells.UNIFORM})
    share(net, learning, EMBEDDING)


def _add_image(net: messages.NetParameter, feature: str, heads: HeadSpec, learning: Learning) -> None:
    """U_I I: N x E."""
    width = {"num_output": heads.embedding_width, "weight_filler": XAVIER}
    add_layer(net, "rnn_project_image", "InnerProduct", feature, IMAGE, inner_product_param=width)
    share(net, learning, "", "")


def _add_scores(
    net: messages.NetParameter, classes: int, heads: HeadSpec, learning: Learning, dropout: float = 0.0
) -> str:
    """State (T x N x D) and image (N x E) -> scores of the words: T x N x K."""
    width = {"num_output": heads.embedding_width, "axis": 2, "bias_term": False, "weight_filler": XAVIER}
    add_layer(net, "rnn_project_state", "InnerProduct", STATE, inner_product_param=width)
    share(net, learning, "")
    add_layer(net, "rnn_joint", "Bias", ["rnn_project_state", IMAGE], bias_param={"axis": 1})
    top = add_layer(net, JOINT, "TanH", "rnn_joint")
    if dropout:
        top = add_layer(net, "rnn_drop", "Dropout", top, dropout_param={"dropout_ratio": dropout})
    words = {"num_output": classes + 1, "axis": 2, "bias_term": False, "weight_filler": cells.UNIFORM}
    add_layer(net, SCORES, "InnerProduct", top, inner_product_param=words)
    share(net, learning, EMBEDDING)
    return SCORES
