"""SRN's recipes: every published or assumed number of its trainings, once, with its source.

Sources: `Eq.`, `Fig.` and `Sec.` are those of the SRN paper (arXiv 1702.05891); `official repo` is
zhufengx/SRN_multilabel; `assumed` marks a value that no source gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pysrn.console import UsageError
from pysrn.later import later
from pysrn.recipes import (
    BEST,
    DATASETS,
    EMBEDDED,
    MULTISTEP,
    OWN,
    OWN_DATASET,
    PLATEAU,
    STORED_SIZE,
    Augmentation,
    DatasetSpec,
    Input,
    Recipe,
    StageSpec,
)
from pysrn.systems.srn.heads import PRIOR, VARIANTS, ZERO, HeadSpec
from pysrn.systems.system import System
from pysrn.systems.trunks.resnet import PREACT, PREACT_FB, RELEASE, TRUNKS

np = later("numpy")

if TYPE_CHECKING:  # reads images
    from pysrn.data.pair.pair_reader import PairReader

INPUT = Input(
    stored_size=STORED_SIZE,  # official repo: images are resized to 256 x 256 before the crop
    size=224,  # official repo, tools/model_test.py
    mean=(104.0, 117.0, 123.0),  # BGR, official repo, tools/model_test.py; range 0-255, no division
    places=((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),  # official repo, fix_crop: four corners and the centre
)
AUGMENTATION = Augmentation(
    # 256, 224, 192, 168, 128 pixels. assumed: the transformer's default ends at 0.66, the nets' own list is lost.
    scale_ratios=(1.0, 0.875, 0.75, 0.66, 0.5),
    max_distort=1,  # assumed: the default of the official data transformer; the nets' value is lost
)
STAGE = StageSpec(
    base_lr=1e-3,  # author, official repo issue 14
    gamma=0.1,  # assumed, as in the supplement of Sarafianos et al. (ECCV 2018) for the same data
)


def in_variant(recipe: Recipe, variant: str) -> Recipe:
    """The recipe in another variant: its heads, and with them the losses of stage 4 and the trunk's family."""
    trunk = TRUNKS[recipe.trunk]
    if variant != "released" and trunk.preact:
        trunk = trunk.counterpart(RELEASE)
    return settle(replace(recipe, trunk=trunk.name, heads=replace(recipe.heads, variant=variant)))


def settle(recipe: Recipe) -> Recipe:
    """Let the trunk follow the heads: variant `released` has a pre-activation trunk of the same depth.

    UsageError for a trunk that only `released` has: another would be trained than was asked for. Likewise where stages
    are left out that others build on: what they would have learned would be fixed as it was drawn.
    """
    left = [number for number, plan in enumerate(recipe.stages, 1) if plan.left_out]
    if left not in ([], [1], [1, 2, 3]):
        raise UsageError(
            f"stages {', '.join(map(str, left))} cannot be left out: those behind them build on them",
            "give --left-out 1,2,3 (all at once from the start), or 1",
        )
    trunk = TRUNKS[recipe.trunk]
    if recipe.heads.variant == "released":
        trunk = trunk if trunk.preact else trunk.counterpart(PREACT)
    elif trunk.family == PREACT_FB:
        raise UsageError(f"trunk {trunk.name} is one of variant released", "--variant released")
    elif trunk.preact:
        trunk = trunk.counterpart(RELEASE)
    return replace(recipe, trunk=trunk.name)


def fit(recipe: Recipe, pair: PairReader) -> Recipe:
    """The recipe with the logit that scores begin with, from the labels that are trained with."""
    if recipe.heads.starts_at == ZERO:
        return recipe
    labels = pair.all_labels()[slice(*recipe.training_records)] > 0
    share = np.clip(labels.mean(), 1 / (labels.size + 1), labels.size / (labels.size + 1))
    return replace(recipe, heads=replace(recipe.heads, first_logit=round(float(np.log(share / (1 - share))), 3)))


def variants() -> dict[str, Callable[[Recipe], Recipe]]:
    """Name -> recipe in this variant."""
    return {name: lambda recipe, name=name: in_variant(recipe, name) for name in VARIANTS}


def recipes(system: System) -> dict[str, Recipe]:
    """Data set -> recipe of SRN on it, in variant `paper`."""
    plain = Recipe(
        system,
        DATASETS["coco"],
        trunk="resnet101",  # official repo issue 14; variant `released` has another family of it
        heads=HeadSpec(),
        augmentation=AUGMENTATION,
        batch_size=96,  # assumed: no source gives it
        iter_size=1,
        momentum=0.9,  # assumed: three later works on the same data and protocol use it
        weight_decay=5e-4,  # assumed: likewise
        stages=(),
    )
    return {
        "coco": _published(plain, DATASETS["coco"], 800),
        "nus_wide": _published(plain, DATASETS["nus_wide"], 1200),
        "wider_attribute": _published(plain, DATASETS["wider_attribute"], 280),
        "voc2007": _published(plain, DATASETS["voc2007"], 50),  # not in the paper: its recipe for the other sets
        OWN_DATASET: _own(plain),
        # The embedded data set is ours: its numbers are chosen for a CPU run of a few minutes from scratch.
        EMBEDDED: replace(
            plain,
            dataset=DATASETS[EMBEDDED],
            trunk="resnet14",
            heads=HeadSpec(attention_width=64, regulariser_width=64, confidence_width=64),
            augmentation=replace(AUGMENTATION, scale_ratios=(1.0, 0.875)),
            batch_size=16,
            stages=(
                replace(STAGE, base_lr=0.03, iterations=650, train_bn=True, drops=(0.7, 0.9)),
                replace(STAGE, base_lr=0.003, iterations=130, drops=(0.6, 0.85)),
                replace(STAGE, base_lr=0.01, iterations=450, drops=(0.6, 0.85)),
                replace(STAGE, base_lr=0.003, iterations=170, drops=(0.6, 0.85)),
            ),
        ),
    }


def _own(plain: Recipe) -> Recipe:
    """The recipe of a user's own images, which may be few (D21): ours, chosen on held-out training images.

    With few images the paper's 0.001 in the joint stage takes from the trunk what it has learned, and few updates do
    not bring it back. Heads of so few updates from a logit of 0 learn no more than how rare labels are.
    """
    plan = replace(STAGE, schedule=MULTISTEP, validate_every=None, ends_with=BEST)
    heads = replace(plan, views=4)
    return replace(
        plain,
        dataset=OWN,
        heads=replace(plain.heads, starts_at=PRIOR),
        batch_size=16,
        stages=(
            replace(plan, epochs=6, least_iterations=100, base_lr=3e-4, new_layer_lr=10.0),
            replace(heads, epochs=3, least_iterations=60, base_lr=0.003),
            replace(heads, epochs=5, least_iterations=100, base_lr=0.005),
            replace(plan, epochs=2, least_iterations=40, base_lr=1e-4),
        ),
        validation_fraction=0.1,
    )


def _published(plain: Recipe, dataset: DatasetSpec, validate_every: int) -> Recipe:
    """The recipe of a data set of the paper: the rate follows the plateaus of a validation loss.

    The schedule is the one that the supplement of Sarafianos et al. (ECCV 2018) states for their own training on
    WIDER-Attribute (from 1e-3 by tens on a validation plateau until 1e-5); SRN's own is not known. Only the 1e-3 is
    SRN's. `validate_every` is about once an epoch, assumed.
    Differs from paper: later works say that SRN was watched on a part of the test set.
    """
    plan = replace(STAGE, schedule=PLATEAU, validate_every=validate_every)
    return replace(
        plain,
        dataset=dataset,
        stages=tuple(replace(plan, epochs=epochs) for epochs in (30, 10, 10, 20)),  # assumed upper bounds
        validation_fraction=0.05,  # assumed
    )
