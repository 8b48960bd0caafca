"""CNN-RNN's recipes: every number of its trainings, once, with its source.

Sources: STU, a student's notebook that transcribes the paper ("according to the values mentioned in the research
paper"); `assumed` marks a value that no source gives.
"""

from __future__ import annotations

from dataclasses import replace

from pysrn.recipes import (
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
from pysrn.systems.cnn_rnn.heads import HeadSpec
from pysrn.systems.system import System

INPUT = Input(
    stored_size=STORED_SIZE,  # the usual preparation of VGG's nets in Caffe
    size=224,  # of the public VGG-16
    mean=(104.0, 117.0, 123.0),  # BGR; the release says 103.939, 116.779, 123.68, from which these are rounded
    places=((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),  # assumed, as SRN's
)
AUGMENTATION = Augmentation(scale_ratios=(1.0, 0.875), max_distort=1)  # assumed
MAIN = StageSpec(epochs=20, base_lr=1e-3)  # assumed: no source trains the CNN
RECURRENT = StageSpec(
    epochs=40,  # assumed
    base_lr=1e-3,  # assumed: at 3e-4 and few iterations every path ended at once
    drops=(0.6, 0.85),  # assumed
    views=1,  # assumed: the sources train on stored features
)
# Chosen by the F1-O of held-out training images (docs/cnn_rnn.md): 40 epochs of few images in batches of 64 are so few
# updates that paths end at once.
OWN_RECURRENT = replace(RECURRENT, epochs=15, least_iterations=3000)
# RMSProp: STU. Its decay and the clipping are assumed; Caffe's RMSProp takes no momentum (STU: 0.9).
SOLVER = {"type": "RMSProp", "rms_decay": 0.9, "clip_gradients": 10.0, "momentum": 0.0}


def recipes(system: System) -> dict[str, Recipe]:
    """Data set -> recipe of CNN-RNN on it."""
    plain = Recipe(
        system,
        DATASETS["coco"],
        trunk="vgg16",  # STU, 53101187923: fc7 of VGG-16
        heads=HeadSpec(),
        augmentation=AUGMENTATION,
        batch_size=64,  # assumed
        iter_size=1,
        momentum=0.9,  # of stage 1; assumed
        weight_decay=1e-4,  # STU
        stages=(replace(MAIN, left_out=True), RECURRENT),  # frozen: STU, 53101187923
    )
    nus_wide = HeadSpec(shortest_path=3)  # a minimum is enforced (paper, Sec. 4); 3 is implied by its top 3
    return {
        "coco": plain,
        "nus_wide": _on(plain, DATASETS["nus_wide"], heads=nus_wide),
        "voc2007": _on(plain, DATASETS["voc2007"]),
        OWN_DATASET: _on(plain, OWN, batch_size=16, stages=(replace(MAIN, left_out=True), OWN_RECURRENT)),
        # The embedded data set is ours: its numbers are chosen for a CPU run of a few minutes from scratch. Those of
        # stage 1 are SRN's, so that both begin with the same main net.
        EMBEDDED: _on(
            plain,
            DATASETS[EMBEDDED],
            trunk="resnet14",
            batch_size=16,
            weight_decay=5e-4,
            stages=(
                replace(MAIN, epochs=0.0, base_lr=0.03, iterations=650, train_bn=True, drops=(0.7, 0.9)),
                replace(RECURRENT, epochs=0.0, iterations=1500, views=8),
            ),
        ),
    }


def _on(plain: Recipe, dataset: DatasetSpec, **changes) -> Recipe:
    return replace(plain, dataset=dataset, **changes)
