"""SRN, the Spatial Regularization Network (Zhu et al., CVPR 2017, arXiv 1702.05891), as a value (D14)."""

from __future__ import annotations

from pysrn.nets.folding import Weights
from pysrn.systems.srn import fidelity, nets, recipes
from pysrn.systems.srn import recognise as recognising
from pysrn.systems.srn.paper import PUBLISHED
from pysrn.systems.system import Activation, Architecture, Baseline, Map, Part, Score, Stage, System
from pysrn.systems.trunks.resnet import IMAGENET_CLASSIFIER, PREACT, TRUNKS

TRUNK = Part("trunk")
CLASSIFIER = Part("f_cls's fc", ("cls_",))
RESIDUAL = Part("residual blocks", ("att_conf_", "att_input", "att_res"), extra=True)  # of variant `released`
ATTENTION = Part("attention", ("att_",), extra=True)
CONFIDENCE = Part("confidence", ("conf_",), extra=True)
REGULARISER = Part("regulariser", ("sr_",), extra=True)


def _recognise(weights: Weights, source: str) -> Architecture:
    return recognising.recognise(weights, source, SYSTEM)


SYSTEM = System(
    name="srn",
    title="SRN",
    input=recipes.INPUT,
    parts=(TRUNK, CLASSIFIER, RESIDUAL, ATTENTION, CONFIDENCE, REGULARISER),
    stages=(  # step_1 ... step_4 of the release
        Stage(1, "main", (CLASSIFIER,)),
        Stage(2, "attention", (RESIDUAL, ATTENTION, CONFIDENCE), fixed_trunk=True),
        Stage(3, "regulariser", (REGULARISER,), fixed_trunk=True),
        Stage(4, "joint", ()),
    ),
    scores=(
        Score("score_cls", "the main net"),
        Score("score_att", "the attention branch"),
        Score("score_sr", "the spatial regulariser"),
        Score("score", "the mean of the main net's and the regulariser's logits: the result"),
    ),
    maps=(
        Map("att_map", "attention A", 2),
        Map("conf_map", "confidence S", 2, shown=False),
        Map("sr_map", "weighted attention U", 2),
    ),
    baseline=Baseline(1, "score_cls", "main net"),
    trunks=TRUNKS,
    offered=tuple(name for name, spec in TRUNKS.items() if spec.family != PREACT),  # those follow the variant
    recipes={},
    variants=recipes.variants(),
    settle=recipes.settle,
    fit=recipes.fit,
    add_stage=nets.add_stage,
    add_deploy=nets.add_deploy,
    recognise=_recognise,
    leaves=(IMAGENET_CLASSIFIER,),
    activation=Activation("pool5", "cls_fc"),
    torch_model="pysrn.systems.srn.torch_model:SRN",
    published=PUBLISHED,
    against_paper=fidelity.against_the_paper,
    modules={
        "benchmark": "pysrn.systems.srn.benchmark",
        "claims": "pysrn.systems.srn.claims",
        "neurons": "pysrn.systems.srn.neurons",
        "official": "pysrn.systems.srn.official",
        "selectivity": "pysrn.systems.srn.selectivity",
    },
)
SYSTEM.recipes.update(recipes.recipes(SYSTEM))  # each of which says whose it is
