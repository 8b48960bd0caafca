"""CNN-RNN (Wang et al., CVPR 2016, arXiv 1604.04573) as a value (D14)."""

from __future__ import annotations

from pysrn.nets.folding import Weights
from pysrn.systems.cnn_rnn import nets, paths, recipes
from pysrn.systems.cnn_rnn import recognise as recognising
from pysrn.systems.cnn_rnn.paper import PUBLISHED
from pysrn.systems.cnn_rnn.trunks import TRUNKS
from pysrn.systems.system import Architecture, Baseline, Part, Score, Stage, System
from pysrn.systems.trunks import resnet, vgg

TRUNK = Part("trunk")
CLASSIFIER = Part("main net's fc", ("cls_",))
RECURRENT = Part("recurrent part", ("rnn_",), extra=True)


def _recognise(weights: Weights, source: str) -> Architecture:
    return recognising.recognise(weights, source, SYSTEM)


SYSTEM = System(
    name="cnn_rnn",
    title="CNN-RNN",
    input=recipes.INPUT,
    parts=(TRUNK, CLASSIFIER, RECURRENT),
    stages=(
        Stage(nets.MAIN, "main", (CLASSIFIER,)),
        Stage(nets.RECURRENT, "recurrent", (RECURRENT,), fixed_trunk=True, drops=(CLASSIFIER,), solver=recipes.SOLVER),
    ),
    scores=(
        Score("score_cls", "the main net of stage 1", early=True),
        Score("score_first", "the first step of a path alone"),
        Score("score_greedy", "the greatest probability over the greedy path"),
        Score("score_visits", "expected visits of the paths that the search found"),
        Score("score", "the best path, its labels first: the result"),
    ),
    baseline=Baseline(nets.MAIN, "score_cls", "main net"),
    trunks=TRUNKS,
    offered=tuple(TRUNKS),
    recipes={},
    add_stage=nets.add_stage,
    add_deploy=nets.add_deploy,
    recognise=_recognise,
    leaves=(resnet.IMAGENET_CLASSIFIER, vgg.IMAGENET_CLASSIFIER),
    torch_model="pysrn.systems.cnn_rnn.torch_model:CNNRNN",
    published=PUBLISHED,
    fit=paths.fit,
    probable="score_visits",
    searching="pysrn.systems.cnn_rnn.searching:Searching",
    modules={
        "claims": "pysrn.systems.cnn_rnn.claims",
        "labels": "pysrn.systems.cnn_rnn.pictures.labels",
        "steps": "pysrn.systems.cnn_rnn.pictures.looks",
        "benchmark": "pysrn.systems.cnn_rnn.benchmark",
    },
)
SYSTEM.recipes.update(recipes.recipes(SYSTEM))  # each of which says whose it is
