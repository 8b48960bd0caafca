"""What SRN's paper claims, as experiments: S1 to S9 (abstract, Sec. 1, 3 and 4 of arXiv 1702.05891)."""

from __future__ import annotations

from dataclasses import replace

from pysrn.claims.claim import ALONE, AS_IT_IS, WHOLE, Claim, Fact, Measure, Row, Side, Training, Try
from pysrn.claims.measures import mean_ap
from pysrn.claims.places import mean_overlap, of_activation_map, of_map, pointing_above_chance, pointing_accuracy
from pysrn.claims.verdict import NO_LOSS
from pysrn.console import UsageError
from pysrn.recipes import Recipe
from pysrn.systems.parameters import count_layers, count_parts
from pysrn.systems.srn import selectivity
from pysrn.systems.srn.heads import ATTENTION, POOLED, RANKED, HeadSpec
from pysrn.systems.srn.system import SYSTEM
from pysrn.systems.stage_nets import recipe_deploy_net

MAIN, LAST = 1, 4
MILLION = 1e6
ABOUT_SIX = 5.0, 7.0  # "about 6 million": assumed, what rounds to it within one
PERCENT = 100
FEW = 0.0, 1.0  # percent of the weights of a dense conv4; assumed
DEEPER = {"resnet14": "resnet20", "resnet101": "resnet107"}
# Labels on drawn pictures, concepts on film posters, objects on photos.
DRAWN, POSTERS, PHOTOS = "shapes", "posters", "coco_photos"
EVERYWHERE, PLACED = (DRAWN, POSTERS, PHOTOS), (DRAWN, PHOTOS)

# What is tried when a recipe is chosen: as many for the main net as for SRN. Stage 3 is often too short; the joint
# stage may harm the main net.
TRIES = {
    WHOLE: (
        AS_IT_IS,
        Try("long stage 3", lengths=(1, 1, 3, 1)),
        Try("slow stage 4", rates=(1, 1, 1, 0.3)),
        Try("long stage 3, slow stage 4", lengths=(1, 1, 3, 1), rates=(1, 1, 1, 0.3)),
    ),
    ALONE: (
        AS_IT_IS,
        Try("slow", rates=(0.3, 1, 1, 1)),
        Try("half as fast", rates=(0.5, 1, 1, 1)),
        Try("twice as fast", rates=(2, 1, 1, 1)),
    ),
}


def _input(name: str, what: str) -> Training:
    return Training(f"{name}-input", f"f_sr on {what}", ("--regulariser-input", name))


def _deeper(recipe: Recipe) -> tuple[str, ...]:
    if recipe.trunk not in DEEPER:
        raise UsageError(f"no trunk with two more blocks than {recipe.trunk}", f"--trunk {', '.join(DEEPER)}")
    return "--trunk", DEEPER[recipe.trunk]


def _at_once(recipe: Recipe) -> tuple[str, ...]:
    """Stage 4 from the start, with the rate, drops and batch statistics of stage 1, which begins from the same."""
    first = recipe.stages[0]
    drops = ",".join(f"{one:g}" for one in first.drops)
    own = ("--train-bn", str(LAST) if first.train_bn else "none", "--base-lr", f"{first.base_lr:g}", "--drops", drops)
    own += ("--new-layer-lr", f"{first.new_layer_lr:g}")
    return "--left-out", "1,2,3", *own


SRN = Training(WHOLE, "SRN")
MAIN_NET = Training(ALONE, "main net alone", stage=MAIN, budget=True, family=ALONE)
DEEP_NET = Training("deeper", "main net with two more blocks", _deeper, stage=MAIN, budget=True, family=ALONE)
PLAIN, SUMS, RANKS = _input(ATTENTION, "A"), _input(POOLED, "sums of U"), _input(RANKED, "ranked places of U")
DENSE = Training("dense", "dense conv4", ("--no-regulariser-grouped",))
AT_ONCE = Training("at-once", "all at once from the start", _at_once, budget=True)
RESULT, CLS = mean_ap(LAST, score=1), mean_ap(MAIN, score_cls=1)
OF_CLS, OF_ATT, OF_SR = (mean_ap(LAST, **{name: 1}) for name in ("score_cls", "score_att", "score_sr"))
WITH_ATT = mean_ap(LAST, score_cls=0.5, score_att=0.5)


def _extra_weights(variant: str) -> float:
    counts = count_parts(recipe_deploy_net(SYSTEM.recipe("coco", variant)), SYSTEM)
    return sum(counts[part].weights for part in SYSTEM.parts if part.extra) / MILLION


def _share_of_dense() -> float:
    recipe = SYSTEM.recipe("coco")
    nets = (replace(recipe, heads=HeadSpec(regulariser_grouped=grouped)) for grouped in (True, False))
    grouped, dense = (count_layers(recipe_deploy_net(one))["sr_conv4"].weights for one in nets)
    return PERCENT * grouped / dense


def _against(other: Training, *measures: Measure) -> tuple[Row, ...]:
    return tuple(Row(Side(SRN, measure), Side(other, measure)) for measure in measures)


def _of(measure: Measure) -> Side:
    return Side(SRN, measure)


CLAIMS = (
    Claim(
        "S1", "SRN beats its main net alone", "equal iterations, equal search of a recipe on held-out training images",
        EVERYWHERE, (Row(Side(SRN, RESULT), Side(MAIN_NET, CLS)),),
    ),
    Claim(
        "S2", "weighted maps U are better for the regulariser than A", "the same net with A in place of U",
        EVERYWHERE, _against(PLAIN, OF_SR, RESULT),
    ),
    Claim(
        "S3", "semantic and spatial relations are captured, not co-occurrence alone",
        "f_sr on U, on sums of U (no places), on places whose order is lost (a fixed shuffle changes nothing: "
        "conv4 sees all places); sums against the main net",
        EVERYWHERE,
        (*_against(SUMS, OF_SR), *_against(RANKS, OF_SR), Row(Side(SUMS, RESULT), Side(MAIN_NET, CLS))),
    ),
    Claim(
        "S4", "averaging with the main net helps; attention alone is less", "the scores of stage 4, and means of two",
        EVERYWHERE, tuple(Row(_of(RESULT), _of(other)) for other in (OF_CLS, OF_SR, OF_ATT, WITH_ATT)),
    ),
    Claim(
        "S5", "image-level labels suffice to learn where labels are",
        "pointing game and box overlap, against chance and class-activation maps of stage 1",
        PLACED,
        (
            Row(_of(of_map("att_map", LAST, "pointing above chance", pointing_above_chance)), None),
            Row(
                _of(of_map("att_map", LAST, "pointing", pointing_accuracy)),
                _of(of_activation_map(MAIN, "pointing", pointing_accuracy)),
            ),
            Row(
                _of(of_map("att_map", LAST, "box overlap", mean_overlap)),
                _of(of_activation_map(MAIN, "box overlap", mean_overlap)),
            ),
        ),
    ),
    Claim(
        "S6", "about 6 million more weights; depth alone does not give the gain",
        "the counted nets at 80 labels; the main net with two more blocks, equal iterations",
        (DRAWN,), (Row(Side(SRN, RESULT), Side(DEEP_NET, CLS)),),
        tuple(
            Fact(f"extra weights of variant {name}", lambda name=name: _extra_weights(name), *ABOUT_SIX, "million")
            for name in SYSTEM.variants
        ),
    ),
    Claim(
        "S7", "decoupled, grouped 14x14 convolution: few weights without loss",
        "conv4 with one channel a kernel against all; its weights at 80 labels",
        (DRAWN, POSTERS), (Row(Side(SRN, RESULT), Side(DENSE, RESULT), NO_LOSS),),
        (Fact("weights of conv4, of those of a dense one", _share_of_dense, *FEW, "%"),),
    ),
    Claim(
        "S8", "neurons of f_sr respond to places of labels and to configurations of several",
        "how well the best neuron, chosen on half of the images, tells on the others: half of the picture; A above B; "
        "against the same neurons with the places of their kernels shuffled",
        (DRAWN,),
        tuple(
            Row(*(_of(selectivity.measure(title, questions, LAST, shuffled)) for shuffled in (False, True)))
            for title, questions in (
                ("selectivity for places above chance", selectivity.places),
                ("selectivity for configurations above chance", selectivity.configurations),
            )
        ),
    ),
    Claim(
        "S9", "four stages are better than training all at once", "stage 4 from the start, equal iterations",
        EVERYWHERE, _against(AT_ONCE, RESULT),
    ),
)  # fmt: skip
