"""Which MSRN weights belong to: recognised by their names and shapes, so that a lone caffemodel is enough."""

from __future__ import annotations

from pysrn.console import SrnError
from pysrn.nets.folding import Weights
from pysrn.systems.msrn.heads import TAPS, HeadSpec
from pysrn.systems.system import Architecture, System
from pysrn.systems.trunks import resnet

SIGNS = ("emb_vectors", "cls_fc")  # of weights to the end, and of the main net alone


def recognise(weights: Weights, source: str, system: System) -> Architecture:
    """Recognise the net by names and shapes of its weights; SrnError where they are of another net."""
    known = next((spec for spec in system.trunks.values() if resnet.is_whole_in(spec, weights)), None)
    if known is None:
        raise SrnError(f"{source} holds another net: it fits no trunk of {', '.join(system.trunks)}")
    foreign = [name for name in weights if name.startswith(("att_", "conf_", "sr_", "rnn_"))]
    if foreign or not any(name in weights for name in SIGNS):
        what = f"has {foreign[0]}" if foreign else f"has only the trunk {known.name}"
        raise SrnError(f"{source} is no {system.title}: it {what}", "train it: tools/run_stage.py --system msrn")
    if "emb_vectors" not in weights:
        return Architecture(system, known.name, weights["cls_fc"][0].shape[-2], None)
    return Architecture(system, known.name, weights["emb_vectors"][0].shape[-2], _heads_of(weights))


def _heads_of(weights: Weights) -> HeadSpec:
    """Widths and structure; KeyError names a layer that is not there."""
    classes, vector = weights["emb_vectors"][0].shape[-2:]
    width = weights[f"tap_project{len(TAPS)}"][0].shape[0]
    depths = sum(f"tap_project{number}" in weights for number in range(1, len(TAPS) + 1))
    groups = {"group_rows": False}
    if "emb_gats_W" in weights:
        groups = {"pool_ratio": _ratio(weights["emb_gats_W"][0].shape[-2], classes)}
    heads = {
        "vector_width": vector,
        "label_width": weights["emb_fc"][0].shape[-2],
        "graph_width": weights["emb_gat1_W"][0].shape[-2],
        "embedding_width": width,
        "tapped_depths": depths,
        **groups,
    }
    if "fuse_class" in weights:
        if weights["fuse_class"][0].shape[1] != 2 * depths * width:
            raise ValueError("its fusion is of another width than its taps")
        return HeadSpec(**heads, fusion="per_class")
    return HeadSpec(**heads, fusion_width=weights["fuse_fc1"][0].shape[-2])


def _ratio(groups: int, classes: int) -> float:
    """A ratio that gives so many groups: the released ones where they do."""
    return next((ratio for ratio in (0.2, 0.05) if HeadSpec(pool_ratio=ratio).groups(classes) == groups),
                (groups + 0.5) / classes)  # fmt: skip
