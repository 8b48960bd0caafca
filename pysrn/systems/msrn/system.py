"""MSRN, the multi-layered semantic representation network (Qu et al., arXiv 2106.11596), as a value (D14)."""

from __future__ import annotations

from pysrn.nets.folding import Weights
from pysrn.systems.msrn import fidelity, looks, nets, recipes
from pysrn.systems.msrn import recognise as recognising
from pysrn.systems.msrn.labels import constants
from pysrn.systems.msrn.paper import PUBLISHED
from pysrn.systems.system import Activation, Architecture, Baseline, Part, Score, Stage, System
from pysrn.systems.trunks.resnet import IMAGENET_CLASSIFIER, PREACT, TRUNKS

TRUNK = Part("trunk")
CLASSIFIER = Part("main net's fc", ("cls_",))
LABELS = Part("label branch", ("emb_",), extra=True)
TAPS = Part("taps", ("tap_",), extra=True)
FUSION = Part("fusion", ("fuse_",), extra=True)


def _recognise(weights: Weights, source: str) -> Architecture:
    return recognising.recognise(weights, source, SYSTEM)


SYSTEM = System(
    name="msrn",
    title="MSRN",
    input=recipes.INPUT,
    small_input=recipes.SMALL_INPUT,
    parts=(TRUNK, CLASSIFIER, LABELS, TAPS, FUSION),
    stages=(
        Stage(nets.MAIN, "main", (CLASSIFIER,)),
        Stage(nets.MSRN, "msrn", (LABELS, TAPS, FUSION), drops=(CLASSIFIER,)),
    ),
    scores=(
        Score("score_cls", "the main net of stage 1", early=True),
        Score("score", "all that labels and groups see at three depths: the result"),
    ),
    maps=looks.maps(nets.MSRN),
    baseline=Baseline(nets.MAIN, "score_cls", "main net"),
    trunks={name: spec for name, spec in TRUNKS.items() if spec.family != PREACT},
    offered=tuple(name for name, spec in TRUNKS.items() if spec.family != PREACT),
    recipes={},
    add_stage=nets.add_stage,
    add_deploy=nets.add_deploy,
    recognise=_recognise,
    leaves=(IMAGENET_CLASSIFIER,),
    activation=Activation("pool5", "cls_fc"),
    torch_model="pysrn.systems.msrn.torch_model:MSRN",
    published=PUBLISHED,
    against_paper=fidelity.against_the_paper,
    constants=constants.constants,
    warnings=constants.warnings,
    modules={
        "authors": "pysrn.systems.msrn.released",
        "benchmark": "pysrn.systems.msrn.benchmark",
        "claims": "pysrn.systems.msrn.claims",
        "labels": "pysrn.systems.msrn.labels.picture",
    },
)
SYSTEM.recipes.update(recipes.recipes(SYSTEM))  # each of which says whose it is
