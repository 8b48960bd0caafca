"""Which CNN-RNN weights belong to: recognised by their names and shapes, so that a lone caffemodel is enough."""

from __future__ import annotations

from pysrn.console import SrnError
from pysrn.nets.folding import Weights
from pysrn.systems.cnn_rnn.cells import GATES
from pysrn.systems.cnn_rnn.heads import HeadSpec
from pysrn.systems.cnn_rnn.trunks import TRUNKS, FeatureTrunk
from pysrn.systems.system import Architecture, System
from pysrn.systems.trunks import resnet

ELSEWHERE = ("att_", "conf_", "sr_", "emb_", "tap_", "fuse_")  # what other systems add to the same trunks


def recognise(weights: Weights, source: str, system: System) -> Architecture:
    """Recognise the net by names and shapes of its weights; SrnError where they are of another net."""
    trunk = next((trunk for trunk in TRUNKS.values() if _fits(trunk, weights)), None)
    if trunk is None:
        raise SrnError(f"{source} holds another net: it fits no trunk of {', '.join(TRUNKS)}")
    foreign = [name for name in weights if name.startswith(ELSEWHERE)]
    if foreign or not {"rnn_embed", "cls_fc"} & weights.keys():
        what = f"has {foreign[0]}" if foreign else f"has only the trunk {trunk.name}"
        raise SrnError(f"{source} is no {system.title}: it {what}", "train it: tools/run_stage.py --system cnn_rnn")
    if "rnn_embed" not in weights:
        return Architecture(system, trunk.name, weights["cls_fc"][0].shape[-2], HeadSpec())
    words, embedding = weights["rnn_embed"][0].shape[-2:]
    if "rnn_lstm" in weights:
        heads = HeadSpec(embedding, weights["rnn_lstm"][0].shape[-2] // len(GATES), "lstm")
    elif "rnn_input" in weights:
        heads = HeadSpec(embedding, weights["rnn_input"][0].shape[-2] // len(GATES), "paper")
    else:
        raise SrnError(f"{source} contradicts itself: it has an embedding of labels and no recurrent cell")
    if words < 2 or not heads.recurrent_width:
        raise SrnError(f"{source} contradicts itself: a part has no labels or no width")
    return Architecture(system, trunk.name, words - 1, heads)


def _fits(trunk: FeatureTrunk, weights: Weights) -> bool:
    if trunk.spec is None:
        return "conv5_3" in weights and "fc7" in weights
    return resnet.is_whole_in(trunk.spec, weights)
