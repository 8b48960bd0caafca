"""MSRN's recipes: every number of its trainings, once, with its source.

Sources are files of the released code (chehao2628/MSRN); the paper's text could not be had. `assumed`: none has it.
"""

from __future__ import annotations

from dataclasses import replace

from pysrn.recipes import (
    CORNERS_AND_CENTRE,
    DATASETS,
    EMBEDDED,
    OWN,
    OWN_DATASET,
    STORED_SIZE,
    Augmentation,
    DatasetSpec,
    Input,
    Recipe,
    StageSpec,
)
from pysrn.systems.msrn.heads import HeadSpec
from pysrn.systems.system import System

MEAN = (104.0, 117.0, 123.0)  # BGR; torchvision's mean and deviation are folded into its weights (trunks/imagenet.py)
INPUT = Input(
    # assumed: then the view in testing is the original image warped to 448 once, as Warp does. Differs from the
    # released code: that crops from the original image, here the crop is of the warped one.
    stored_size=448,
    size=448,  # README: evaluation of all four data sets
    mean=MEAN,
    # util.py, fill_fix_offset: corners and centre, middles of the sides, middles of the quarters
    places=(*CORNERS_AND_CENTRE, (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)),
)
# With the small trunk of the embedded data set: ours. As SRN's, so that both share data and main net.
SMALL_INPUT = Input(stored_size=STORED_SIZE, size=224, mean=MEAN, places=CORNERS_AND_CENTRE)
AUGMENTATION = Augmentation(
    scale_ratios=(1.0, 0.9, 0.8, 0.7, 0.6),  # engine.py: init_learning
    max_distort=2,  # engine.py: init_learning
)
# The released default is 0.1, at which the label branch diverges (docs/msrn.md); what the paper used is not known.
SAFE_RATE = 0.01
MAIN = StageSpec(
    epochs=20,  # assumed
    base_lr=1e-3,  # assumed, as SRN's main net
)
MSRN = StageSpec(
    epochs=40,  # assumed: the released loop runs 200 and keeps what was best on the test images
    base_lr=SAFE_RATE,
    drops=(0.75,),  # demo_*.py, epoch_step: after 30 epochs
    gamma=0.1,  # engine.py: adjust_learning_rate
    train_bn=True,  # engine.py: model.train()
)
LEFT_OUT = replace(MAIN, left_out=True)  # the released code trains end to end from ImageNet
FEW_LABELS, MANY_LABELS = HeadSpec(pool_ratio=0.2), HeadSpec(pool_ratio=0.05)  # demo_*.py


def recipes(system: System) -> dict[str, Recipe]:
    """Data set -> recipe of MSRN on it."""
    plain = Recipe(
        system,
        DATASETS["coco"],
        trunk="resnet101_v15",  # ResNet.py: torchvision's
        heads=MANY_LABELS,
        augmentation=AUGMENTATION,
        batch_size=16,  # demo_*.py
        iter_size=1,
        momentum=0.9,  # demo_*.py
        weight_decay=1e-4,  # demo_*.py
        stages=(LEFT_OUT, MSRN),
    )
    published = {"coco": MANY_LABELS, "nus_wide": MANY_LABELS, "voc2007": FEW_LABELS, "apparel": FEW_LABELS}
    return {name: _on(plain, DATASETS[name], heads) for name, heads in published.items()} | {
        OWN_DATASET: replace(_on(plain, OWN, FEW_LABELS), stages=(MAIN, MSRN)),
        # The embedded data set is ours: its numbers are chosen for a CPU run of a few minutes from scratch. Those of
        # stage 1 are SRN's, so that both begin with the same main net. The two rates of stage 2 were chosen on 300
        # training images held out (docs/msrn.md): at small ones the trunk stands still, because this loss is a mean
        # over the labels.
        EMBEDDED: replace(
            _on(plain, DATASETS[EMBEDDED], replace(FEW_LABELS, embedding_width=64, fusion_width=256)),
            trunk="resnet14",
            augmentation=Augmentation(scale_ratios=(1.0, 0.875), max_distort=1),
            weight_decay=5e-4,
            stages=(
                replace(MAIN, epochs=0.0, base_lr=0.03, iterations=650, train_bn=True, drops=(0.7, 0.9)),
                replace(MSRN, epochs=0.0, iterations=750, base_lr=4.0, new_layer_lr=SAFE_RATE / 4, drops=(0.6, 0.85)),
            ),
        ),
    }


def _on(plain: Recipe, dataset: DatasetSpec, heads: HeadSpec) -> Recipe:
    return replace(plain, dataset=dataset, heads=heads)
