"""Which SRN weights belong to: recognised by their names and shapes, so that a lone caffemodel is enough."""

from __future__ import annotations

from dataclasses import replace

from pysrn.console import SrnError
from pysrn.nets.folding import Weights
from pysrn.nets.layers import batch_norm_names
from pysrn.systems.srn.heads import INPUTS, HeadSpec, blocks_prefix
from pysrn.systems.system import Architecture, System
from pysrn.systems.trunks import resnet
from pysrn.systems.trunks.resnet import TRUNKS


def recognise(weights: Weights, source: str, system: System) -> Architecture:
    """Recognise the net by names and shapes of its weights; SrnError where they are of another net."""
    preact = batch_norm_names("res2a")[0] in weights  # a BN of a sum
    early = batch_norm_names("conv1")[0] in weights
    blocks = {name.split("_branch")[0] for name in weights if name.startswith("res") and "_branch" in name}
    for spec in TRUNKS.values():
        names = [name for stage in resnet.STAGES for name in resnet.block_names(spec, stage)]
        to_features = {name for name in names if int(name[3]) <= resnet.FEATURE_STAGE}
        same = (spec.preact, spec.first_norm == "conv1") == (preact, early)
        same = same and _width(weights, "conv1") == spec.width
        same = same and len(weights["conv1"]) == 1 + spec.conv1_bias  # the release, or v1.5 (TrunkSpec.conv1_bias)
        if same and to_features <= blocks <= set(names):
            break
    else:
        few = ", ".join(list(weights)[:3])
        raise SrnError(
            f"{source} holds another net: its layers ({few}, ...) fit no trunk of {', '.join(TRUNKS)}",
            "give a caffemodel that tools/run_stage.py wrote",
        )
    heads = _heads_of(weights, source, preact)
    confidence = "conf_conv2" if heads.variant == "released" else "conf_conv1"
    counts = {_width(weights, name) for name in ("cls_fc", "att_conv3", confidence, "sr_fc")} - {None}
    if not counts:
        raise SrnError(f"{source} has no SRN layers, only the trunk {spec.name}", "train it: tools/run_stage.py 1")
    if min(counts) < 1:
        raise SrnError(f"{source} contradicts itself: a part has no labels")
    if len(counts) > 1:
        raise SrnError(f"{source} contradicts itself: its parts have {' and '.join(map(str, sorted(counts)))} labels")
    return Architecture(system, spec.name, counts.pop(), heads)


def _heads_of(weights: Weights, source: str, preact: bool) -> HeadSpec:
    """Structure and widths of the heads; those of a part that is not there are the defaults.

    Without any head (stage 1) the trunk's family decides the variant, as in a recipe.
    """
    firsts = {HeadSpec(regulariser_input=one).conv2: one for one in INPUTS}
    conv2 = next((name for name in firsts if name in weights), "sr_conv2")
    hidden = [name for name in ("att_conv1", "conf_conv1", conv2) if name in weights]
    normalised = any(batch_norm_names(name)[0] in weights for name in hidden)
    heads = HeadSpec(variant="released" if normalised or (preact and not hidden) else "paper")
    if "att_conv1" in weights:
        heads = replace(heads, attention_width=_width(weights, "att_conv1"))
    if heads.variant == "released" and "conf_conv1" in weights:
        apart = replace(heads, confidence_sees_blocks=False)
        shared = not any(name.startswith(f"{blocks_prefix(apart)}res") for name in weights)
        heads = replace(heads, confidence_width=_width(weights, "conf_conv1"), confidence_sees_blocks=shared)
    if conv2 in weights and "sr_conv4" in weights:
        width = _width(weights, conv2)
        grouped = weights["sr_conv4"][0].shape[1] == 1
        heads = replace(heads, regulariser_input=firsts[conv2], regulariser_grouped=grouped)
        heads = replace(heads, regulariser_width=width, neurons_per_channel=_width(weights, "sr_conv4") // width)
    if min(value for name, value in vars(heads).items() if name.endswith(("_width", "_channel"))) < 1:
        raise SrnError(f"{source} contradicts itself: its heads have no channels ({heads})")
    return heads


def _width(weights: Weights, layer: str) -> int | None:
    """Outputs of a convolution or fully connected layer; None when it is not there.

    A legacy four-axis shape of a fully connected layer (1 x 1 x outputs x inputs) has them third.
    """
    if layer not in weights:
        return None
    shape = weights[layer][0].shape
    return shape[2] if layer.endswith("_fc") and len(shape) == 4 else shape[0] if shape else None
