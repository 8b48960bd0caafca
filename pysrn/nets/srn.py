"""The heads of the Spatial Regularization Network, part by part (variant `paper`).

Blobs: X features, Z attention values, A attention maps (`att_map`), S confidence maps (`conf_map`),
U weighted attention maps (`sr_map`); all maps are N x C x 14 x 14.
"""

from __future__ import annotations

import math

from caffe.proto import caffe_pb2

from pysrn.nets.layers import Learning, add_layer, convolution, inner_product, relu
from pysrn.recipes import FEATURE_SIZE, SCORE_WEIGHT, HeadSpec

POSITIONS = FEATURE_SIZE * FEATURE_SIZE
FC_STD = 0.01  # assumed: the fillers are not published


def map_filler(classes: int, heads: HeadSpec) -> dict:
    """Initial weights of `sr_conv2`: He's, times what brings weighted attention maps to unit mean square.

    assumed: the fillers are not published. The spatial softmax makes U small: a map that is spread over k of the 196
    positions, half gated, has mean square k * (0.5 / k)^2 / 196. With He's filler alone the regulariser starts with
    signals that small in every layer and hardly learns (measured on the embedded data set).
    """
    gain = math.sqrt(4 * POSITIONS * heads.attended_cells)
    return {"type": "gaussian", "std": round(gain * math.sqrt(2 / classes), 3)}


def add_classifier(net: caffe_pb2.NetParameter, bottom: str, classes: int, learning: Learning) -> str:
    """f_cls after res5: global 7x7 average pool, fully connected layer -> `score_cls`, N x C logits."""
    pooled = add_layer(net, "pool5", "Pooling", bottom, pooling_param={"kernel_size": 7, "stride": 1, "pool": "AVE"})
    return inner_product(net, "cls_fc", pooled, classes, learning, top="score_cls", std=FC_STD)


def add_attention(net: caffe_pb2.NetParameter, features: str, classes: int, heads: HeadSpec, learning: Learning) -> str:
    """f_att: X -> Z by three convolutions (Sec. 3.2), softmax over the 196 positions of each label -> A."""
    top = convolution(net, "att_conv1", features, heads.attention_width, 1, learning)
    relu(net, "att_relu1", top)
    top = convolution(net, "att_conv2", top, heads.attention_width, 3, learning, pad=1)
    relu(net, "att_relu2", top)
    top = convolution(net, "att_conv3", top, classes, 1, learning)
    flat = {"shape": {"dim": [0, 0, POSITIONS]}}
    top = add_layer(net, "att_flatten", "Reshape", top, reshape_param=flat)
    top = add_layer(net, "att_softmax", "Softmax", top, softmax_param={"axis": 2})
    square = {"shape": {"dim": [0, 0, FEATURE_SIZE, FEATURE_SIZE]}}
    return add_layer(net, "att_map", "Reshape", top, reshape_param=square)


def add_confidence(net: caffe_pb2.NetParameter, features: str, classes: int, learning: Learning) -> str:
    """The paper's conv1: X -> S, one 1x1 kernel a label (Sec. 3.2)."""
    filler = {"type": "gaussian", "std": FC_STD}
    return convolution(net, "conf_conv1", features, classes, 1, learning, top="conf_map", filler=filler)


def add_attention_score(net: caffe_pb2.NetParameter, attention: str, confidence: str) -> str:
    """`score_att`[l] = sum over positions of S[l] * A[l], with the raw S; N x C logits."""
    top = add_layer(net, "att_weighted", "Eltwise", [confidence, attention], eltwise_param={"operation": "PROD"})
    return add_layer(net, "score_att", "Reduction", top, reduction_param={"operation": "SUM", "axis": 2})


def add_weighted_maps(net: caffe_pb2.NetParameter, attention: str, confidence: str) -> str:
    """U = sigmoid(S) * A, element by element (Eq. 8)."""
    gate = add_layer(net, "conf_gate", "Sigmoid", confidence)
    return add_layer(net, "sr_map", "Eltwise", [gate, attention], eltwise_param={"operation": "PROD"})


def add_regulariser(
    net: caffe_pb2.NetParameter, weighted: str, classes: int, heads: HeadSpec, learning: Learning
) -> str:
    """f_sr: U -> conv2, conv3 (1x1) -> conv4 (14x14, one channel a group) -> fc -> `score_sr` (Fig. 4)."""
    width = heads.regulariser_width
    top = convolution(net, "sr_conv2", weighted, width, 1, learning, filler=map_filler(classes, heads))
    relu(net, "sr_relu2", top)
    top = convolution(net, "sr_conv3", top, width, 1, learning)
    relu(net, "sr_relu3", top)
    top = convolution(net, "sr_conv4", top, width * heads.neurons_per_channel, FEATURE_SIZE, learning, group=width)
    relu(net, "sr_relu4", top)
    return inner_product(net, "sr_fc", top, classes, learning, top="score_sr", std=FC_STD)


def add_final_score(net: caffe_pb2.NetParameter, score_cls: str, score_sr: str) -> str:
    """`score` = alpha * score_cls + (1 - alpha) * score_sr, on logits, alpha = 0.5."""
    coefficients = [SCORE_WEIGHT, 1 - SCORE_WEIGHT]
    return add_layer(net, "score", "Eltwise", [score_cls, score_sr], eltwise_param={"coeff": coefficients})
