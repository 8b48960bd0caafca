"""A system that lives outside the package: one convolution, one stage, one score, images of its own size.

Everything in it is unlike SRN: pictures are stored with 72 pixels a side and eaten with 64, with a mean and a scale of
its own; the loss is a softmax; the solver is RMSProp; there are no heads, no maps, no batch normalisation.
The target of the softmax is the last label that an image has: Caffe's ArgMax takes the last of equal values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pysrn.console import SrnError
from pysrn.nets.layers import Learning, add_layer, convolution, inner_product, relu
from pysrn.recipes import DATASETS, Augmentation, Input, Recipe, StageSpec
from pysrn.systems.system import Architecture, Baseline, Part, Score, Stage, System

STORED, SIZE = 72, 64
MEAN, SCALE = (90.0, 100.0, 110.0), 0.0078125
RATE, BATCH = 0.01, 8
RMS_DECAY, WEIGHT_DECAY = 0.9, 0.01
KERNEL, STRIDE = 5, 4


@dataclass(frozen=True)
class Sieve:
    """The trunk: a convolution, rectified, and its mean over the image."""

    name: str
    title: str
    channels: int
    small: bool = True
    features: Any = None


TRUNKS = {"sieve6": Sieve("sieve6", "a sieve of 6 channels", 6), "sieve9": Sieve("sieve9", "a sieve of 9 channels", 9)}
TELLER = Part("teller", ("tell_",), extra=True)
INPUT = Input(stored_size=STORED, size=SIZE, mean=MEAN, places=((2, 2), (0, 0)), scale=SCALE)


def _add_score(net, trunk: str, classes: int, learning: Learning) -> str:
    top = convolution(net, "sieve", "data", TRUNKS[trunk].channels, KERNEL, learning, stride=STRIDE)
    relu(net, "sieve_relu", top)
    add_layer(net, "sieve_mean", "Pooling", top, pooling_param={"pool": "AVE", "global_pooling": True})
    return inner_product(net, "tell_fc", "sieve_mean", classes, learning, "verdict", 0.1)


def add_stage(net, recipe: Recipe, stage: int) -> None:
    """The one stage: everything learns."""
    score = _add_score(net, recipe.trunk, len(recipe.dataset.classes), Learning())
    add_layer(net, "target", "ArgMax", "label", argmax_param={"axis": 1})
    add_layer(net, "loss_verdict", "SoftmaxWithLoss", [score, "target"])
    net.layer[-1].propagate_down.extend([True, False])


def add_deploy(net, architecture: Architecture, learning: Learning) -> None:
    """The net for prediction."""
    _add_score(net, architecture.trunk, architecture.classes, learning)


def recognise(weights, source: str) -> Architecture:
    """By names and shapes."""
    if set(weights) != {"sieve", "tell_fc"}:
        raise SrnError(f"{source} is no toy", "train one: tools/run_stage.py --system toy")
    channels, classes = weights["sieve"][0].shape[0], weights["tell_fc"][0].shape[-2]
    for trunk in TRUNKS.values():
        if trunk.channels == channels:
            return Architecture(SYSTEM, trunk.name, classes, None)
    raise SrnError(f"{source}: no trunk of {channels} channels")


SYSTEM = System(
    name="toy",
    title="Toy",
    input=INPUT,
    parts=(Part("trunk"), TELLER),
    stages=(Stage(1, "only", (TELLER,)),),
    scores=(Score("verdict", "what the sieve makes of an image"),),
    baseline=Baseline(1, "verdict", "sieve"),
    trunks=TRUNKS,
    offered=tuple(TRUNKS),
    solver={"type": "RMSProp", "rms_decay": RMS_DECAY},
    recipes={},
    add_stage=add_stage,
    add_deploy=add_deploy,
    recognise=recognise,
    torch_model="tests.systems.toy_torch:ToyNet",
    modules={"claims": "tests.systems.toy_claims"},
)
SYSTEM.recipes["shapes"] = Recipe(
    SYSTEM,
    DATASETS["shapes"],
    trunk="sieve6",
    heads=None,
    augmentation=Augmentation(scale_ratios=(1.0, 0.875), max_distort=1),
    batch_size=BATCH,
    iter_size=1,
    momentum=0.0,  # RMSProp takes no other
    weight_decay=WEIGHT_DECAY,
    stages=(StageSpec(base_lr=RATE, iterations=12, drops=(0.5,)),),
)
