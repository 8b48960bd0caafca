"""The heads of the Spatial Regularization Network, part by part, in both variants.

Blobs: X features, Z attention values, A attention maps (`att_map`), S confidence maps (`conf_map`),
U weighted attention maps (`sr_map`); all maps are N x C x 14 x 14.

Variant `released` (official repo issue 15) adds to the paper's text: two pre-activation residual blocks on X with a BN
and ReLU behind them, which the attention and (by `HeadSpec.confidence_sees_blocks`) the confidence branch read; a
hidden layer in the confidence branch; BN and ReLU after each hidden convolution, which then has no bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pysrn.nets import messages
from pysrn.nets.layers import (
    Learning,
    activation,
    add_layer,
    batch_norm_scale,
    convolution,
    inner_product,
    preact_bottleneck,
    relu,
)
from pysrn.recipes import option
from pysrn.systems.trunks.resnet import FEATURE_SIZE

SCORE_WEIGHT = 0.5  # alpha of the final score, on logits; two re-implementations by others agree on it
# `paper` is the net that the paper's text describes, `released` the one of the authors' published models, which differs
# (author, official repo issue 15).
VARIANTS = ("paper", "released")
POSITIONS = FEATURE_SIZE * FEATURE_SIZE
RESIDUAL_BLOCKS = 2  # variant `released`: official repo issue 15; 1024-256-256-1024 each
FC_STD = 0.01  # assumed: the fillers are not published
# What f_sr reads (ours, for tests of the paper's claims; the paper's is U): U; plain A, at half its size, which U has
# while every gate is half open; the sum of U over the places; U with an image's places in the order of their strength.
# A fixed shuffle is no test: conv4 sees all places at once, so that it learns any fixed order as well as the true one.
INPUTS = WEIGHTED, ATTENTION, POOLED, RANKED = ("weighted", "attention", "pooled", "ranked")
# The logit that scores begin with (ours): 0, every label as likely as not, or that of the mean share of labels there.
STARTS = ZERO, PRIOR = ("zero", "prior")
RANKING = {"module": "pysrn.systems.srn.ranked_places", "layer": "RankedPlaces"}


@dataclass(frozen=True)
class HeadSpec:
    """Structure and widths of the attention and regularisation heads (Sec. 3.2, Fig. 4)."""

    attention_width: int = 512  # f_att: 1x1x512 and 3x3x512, Sec. 3.2
    regulariser_width: int = 512  # conv2 and conv3, Fig. 4
    neurons_per_channel: int = 4  # conv4: 2048 kernels in 512 groups, Fig. 4
    attended_cells: int = 4  # assumed: over how many of the 196 positions an attention map is spread (initialisation)
    # Variant `released` (official repo issue 15): two residual blocks on X, a confidence branch of two layers, BN and
    # ReLU after each hidden convolution.
    variant: str = option(
        "paper", kind="choice", choices=VARIANTS, help="the net of the paper's text, or the one that was released"
    )
    confidence_width: int = 512  # official repo issue 15: the hidden layer of the confidence branch
    # Whether the confidence branch reads the residual blocks' output or X itself. Sources differ: the TensorFlow
    # transcription feeds both branches from the blocks, a PyTorch one the attention alone. The former follows the
    # released prototxt layer by layer (names, pre-activation), the latter changes trunk and blocks: so True.
    confidence_sees_blocks: bool = option(
        True,
        kind="switch",
        help="released: whether the confidence branch reads the residual blocks (default: yes) or X; sources differ",
    )
    regulariser_input: str = option(
        WEIGHTED,
        kind="choice",
        choices=INPUTS,
        help="what the regulariser reads: U (default), plain A, U summed over the places, U with its places ranked",
    )
    regulariser_grouped: bool = option(  # Fig. 4: conv4 has 512 groups
        True, kind="switch", help="whether a kernel of the regulariser's conv4 sees one channel (default: yes) or all"
    )

    starts_at: str = option(
        ZERO,
        kind="choice",
        choices=STARTS,
        help="the logit that new scores begin with: 0, or that of the mean share of labels there (own images)",
    )
    first_logit: float = 0.0  # the bias that goes with it, from the training labels

    def __post_init__(self) -> None:
        """Raises ValueError for a variant, an input of the regulariser or a start that there is not."""
        if self.variant not in VARIANTS:
            raise ValueError(f"no variant {self.variant}")
        if self.starts_at not in STARTS:
            raise ValueError(f"no start {self.starts_at}")
        if self.regulariser_input not in INPUTS:
            raise ValueError(f"no input {self.regulariser_input} of the regulariser")

    @property
    def conv2(self) -> str:
        """The first layer of f_sr. Its name says in a weight file what f_sr reads: weights alone would not."""
        return "sr_conv2" if self.regulariser_input == WEIGHTED else f"sr_{self.regulariser_input}_conv2"

    @property
    def kernel(self) -> int:
        """Cells of a side of conv4's kernels."""
        return 1 if self.regulariser_input == POOLED else FEATURE_SIZE


def map_filler(classes: int, heads: HeadSpec) -> dict:
    """Initial weights of `sr_conv2`: He's, times what brings weighted attention maps to unit mean square.

    assumed: the fillers are not published. The spatial softmax makes U small: a map that is spread over k of the 196
    positions, half gated, has mean square k * (0.5 / k)^2 / 196. With He's filler alone the regulariser starts with
    signals that small in every layer and hardly learns (measured on the embedded data set).
    """
    gain = math.sqrt(4 * POSITIONS * heads.attended_cells)
    if heads.regulariser_input == POOLED:  # of a half gated map the sum is a half, however it is spread
        gain = 2.0
    return {"type": "gaussian", "std": round(gain * math.sqrt(2 / classes), 3)}


def add_classifier(
    net: messages.NetParameter, bottom: str, classes: int, learning: Learning, first_logit: float = 0.0
) -> str:
    """f_cls after res5: global 7x7 average pool, fully connected layer -> `score_cls`, N x C logits."""
    pooled = add_layer(net, "pool5", "Pooling", bottom, pooling_param={"kernel_size": 7, "stride": 1, "pool": "AVE"})
    return inner_product(net, "cls_fc", pooled, classes, learning, top="score_cls", std=FC_STD, first_bias=first_logit)


def blocks_prefix(heads: HeadSpec) -> str:
    """Prefix of the residual blocks' layers: it says in a weight file which branches read them."""
    return "att_conf_" if heads.confidence_sees_blocks else "att_"


def add_maps(
    net: messages.NetParameter, features: str, channels: int, classes: int, heads: HeadSpec, learning: Learning
) -> tuple[str, str]:
    """f_att and the confidence branch on X of so many channels; returns the blobs of A and S."""
    blocks = features
    if heads.variant == "released":  # two pre-activation blocks, each with its BN and ReLU before and after it
        prefix = blocks_prefix(heads)
        top, blocks = features, activation(net, features, learning, f"{prefix}input")
        for number in range(1, RESIDUAL_BLOCKS + 1):
            top, blocks = preact_bottleneck(net, f"{prefix}res{number}", top, blocks, channels // 4, learning)
    read = blocks if heads.confidence_sees_blocks else features
    attention = add_attention(net, blocks, classes, heads, learning)
    return attention, add_confidence(net, read, classes, heads, learning)


def add_attention(net: messages.NetParameter, features: str, classes: int, heads: HeadSpec, learning: Learning) -> str:
    """f_att: X -> Z by three convolutions (Sec. 3.2), softmax over the 196 positions of each label -> A."""
    top = _hidden(net, "att_conv1", "att_relu1", features, heads.attention_width, 1, heads, learning)
    top = _hidden(net, "att_conv2", "att_relu2", top, heads.attention_width, 3, heads, learning, pad=1)
    top = convolution(net, "att_conv3", top, classes, 1, learning)
    flat = {"shape": {"dim": [0, 0, POSITIONS]}}
    top = add_layer(net, "att_flatten", "Reshape", top, reshape_param=flat)
    top = add_layer(net, "att_softmax", "Softmax", top, softmax_param={"axis": 2})
    square = {"shape": {"dim": [0, 0, FEATURE_SIZE, FEATURE_SIZE]}}
    return add_layer(net, "att_map", "Reshape", top, reshape_param=square)


def add_confidence(net: messages.NetParameter, features: str, classes: int, heads: HeadSpec, learning: Learning) -> str:
    """The paper's conv1: X -> S, one 1x1 kernel a label (Sec. 3.2); `released`: behind a hidden 1x1 layer."""
    name = "conf_conv1"
    if heads.variant == "released":
        features = _hidden(net, name, "conf_relu1", features, heads.confidence_width, 1, heads, learning)
        name = "conf_conv2"
    filler = {"type": "gaussian", "std": FC_STD}
    # The weights of an attention map sum to 1, so this is what score_att begins with.
    options = {"filler": filler, "first_bias": heads.first_logit}
    return convolution(net, name, features, classes, 1, learning, top="conf_map", **options)


def add_attention_score(net: messages.NetParameter, attention: str, confidence: str) -> str:
    """`score_att`[l] = sum over positions of S[l] * A[l], with the raw S; N x C logits."""
    top = add_layer(net, "att_weighted", "Eltwise", [confidence, attention], eltwise_param={"operation": "PROD"})
    return add_layer(net, "score_att", "Reduction", top, reduction_param={"operation": "SUM", "axis": 2})


def add_weighted_maps(net: messages.NetParameter, attention: str, confidence: str, heads: HeadSpec) -> str:
    """U = sigmoid(S) * A, element by element (Eq. 8); without S: A / 2."""
    if heads.regulariser_input == ATTENTION:
        return add_layer(net, "sr_map", "Power", attention, power_param={"scale": 0.5})
    gate = add_layer(net, "conf_gate", "Sigmoid", confidence)
    return add_layer(net, "sr_map", "Eltwise", [gate, attention], eltwise_param={"operation": "PROD"})


def add_regulariser(
    net: messages.NetParameter, weighted: str, classes: int, heads: HeadSpec, learning: Learning
) -> str:
    """f_sr: U -> conv2, conv3 (1x1) -> conv4 (14x14, one channel a group) -> fc -> `score_sr` (Fig. 4)."""
    width = heads.regulariser_width
    if heads.regulariser_input == POOLED:
        add_layer(net, "sr_sum", "Reduction", weighted, reduction_param={"operation": "SUM", "axis": 2})
        weighted = add_layer(net, "sr_pooled", "Reshape", "sr_sum", reshape_param={"shape": {"dim": [0, 0, 1, 1]}})
    elif heads.regulariser_input == RANKED:
        weighted = add_layer(net, "sr_ranked", "Python", weighted, python_param=RANKING)
    # With BN behind it the weights' size is no matter, but for how fast they turn: He's.
    filler = map_filler(classes, heads) if heads.variant == "paper" else None
    top = _hidden(net, heads.conv2, "sr_relu2", weighted, width, 1, heads, learning, filler=filler)
    top = _hidden(net, "sr_conv3", "sr_relu3", top, width, 1, heads, learning)
    wide, group = width * heads.neurons_per_channel, width if heads.regulariser_grouped else 1
    top = _hidden(net, "sr_conv4", "sr_relu4", top, wide, heads.kernel, heads, learning, group=group)
    return inner_product(net, "sr_fc", top, classes, learning, top="score_sr", std=FC_STD, first_bias=heads.first_logit)


def add_final_score(net: messages.NetParameter, score_cls: str, score_sr: str) -> str:
    """`score` = alpha * score_cls + (1 - alpha) * score_sr, on logits, alpha = 0.5."""
    coefficients = [SCORE_WEIGHT, 1 - SCORE_WEIGHT]
    return add_layer(net, "score", "Eltwise", [score_cls, score_sr], eltwise_param={"coeff": coefficients})


def _hidden(
    net: messages.NetParameter,
    name: str,
    relu_name: str,
    bottom: str,
    channels: int,
    kernel: int,
    heads: HeadSpec,
    learning: Learning,
    **options,
) -> str:
    """A hidden convolution with its ReLU; in variant `released` without a bias and with BN between."""
    normalised = heads.variant == "released"
    top = convolution(net, name, bottom, channels, kernel, learning, bias=not normalised, **options)
    if normalised:
        batch_norm_scale(net, top, learning)
    return relu(net, relu_name, top)
