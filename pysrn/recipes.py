"""What a recipe is made of: data set, input, views, stages, numbers. The numbers stand in `systems/*/recipes.py`.

A field with a flag (`option`) can be set on the command line of tools/run_stage.py, which is made of these fields.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a system holds recipes, and each recipe says whose it is
    from pysrn.systems.system import System

OWN_DATASET = "folder"  # a user's own images; labels and counts are those of the LMDB pair
EMBEDDED = "shapes"  # the data set that is drawn here, and the default of every command
STORED_SIZE = 256  # pixels of a side in an LMDB pair, unless a system's `Input` says otherwise
PLATEAU, MULTISTEP = "plateau", "multistep"
LAST, BEST = "last", "best"


def option(default: Any = MISSING, **flag: Any) -> Any:
    """A dataclass field with a flag: `kind` (see `train/flags.py`), `help`, `metavar`, `choices`."""
    return field(default=default, metadata={"flag": flag})


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: its published sizes and, through `classes`, its labels in their documented order."""

    name: str
    train_images: int
    test_images: int
    title: str
    labels: tuple[str, ...] | None = None  # of `folder`, as its LMDB pair has them; None: those in git

    @property
    def classes(self) -> tuple[str, ...]:
        """The label names, in the order of the label vector."""
        return self.labels or class_names(self.name)


QUARTERS = 4  # places of a crop are told in quarters of the room that it leaves
CORNERS_AND_CENTRE = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))  # SRN's official repo, data_transformer.cpp: fix_crop


@dataclass(frozen=True)
class Input:
    """What a system's nets eat: square BGR images, 0 to 255, minus `mean`, times `scale`.

    `stored_size`: pixels of a side in the LMDB pair, `size`: of the net's input. `places`: where a crop may lie, as
    (row, column) in quarters of the room that it leaves.
    """

    stored_size: int
    size: int
    mean: tuple[float, float, float]  # BGR
    places: tuple[tuple[int, int], ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Augmentation:
    """A multi-scale crop: its sides are ratios of the stored image's, at most `max_distort` apart in their list."""

    scale_ratios: tuple[float, ...]
    max_distort: int
    mirror: bool = True


@dataclass(frozen=True)
class StageSpec:
    """The numbers of one training stage.

    `schedule` says when the rate is multiplied by `gamma`: `multistep` at `drops`, fractions of the stage's iterations;
    `plateau` when `patience` validations in a row brought no lower loss, down to `min_lr`; a plateau there ends the
    stage. Epochs or iterations are then only the upper bound.
    """

    epochs: float = option(0.0, kind="positive", metavar="X", help="of each stage, in rounds through the images")
    base_lr: float = option(1e-3, kind="positive", metavar="X")
    drops: tuple[float, ...] = option(
        (0.5, 0.8),  # assumed: where the rate is multiplied by `gamma`
        kind="fractions",
        metavar="F,F,...",
        help="multistep: where, as parts of a stage",
    )
    gamma: float = option(0.1, kind="positive", metavar="X", help="what the rate is multiplied by")
    new_layer_lr: float = option(
        1.0,  # assumed: rate of layers that the stage adds, as a multiple of base_lr
        kind="positive",
        metavar="X",
        help="rate of the layers a stage adds, times --base-lr",
    )
    # assumed: stored ImageNet statistics, usual in Caffe for small batches. True: of the batch. With a fixed trunk,
    # what is fixed has stored statistics and what the stage adds follows the batch in any case.
    train_bn: bool = option(
        False,
        kind="stages",
        metavar="STAGES",
        help="none, or numbers of stages: those whose BN statistics follow the batch; the others keep the stored ones",
    )
    iterations: int | None = option(  # where they are given instead of epochs
        None, kind="count", metavar="N", help="of each stage (plateau: at most)"
    )
    schedule: str = option(
        MULTISTEP, kind="choice", choices=(PLATEAU, MULTISTEP), help="when the rate drops, in all stages"
    )
    patience: int = option(  # assumed
        3, kind="count", metavar="N", help="plateau: validations without a new best"
    )
    validate_every: int | None = option(  # assumed; None: once an epoch
        500, kind="count", metavar="N", help="iterations (own images: once an epoch)"
    )
    # Views that an image has, one an epoch, again and again; None: a new one in every epoch. For stages with a fixed
    # trunk, whose features can be cached (ours: no source caches anything).
    views: int | None = option(
        None,
        kind="views",
        metavar="K",
        help="stages with a fixed trunk: an image has K views, one an epoch, again and again (new: one in every epoch)",
    )
    # supplement of Sarafianos et al. (ECCV 2018), their recipe for SRN's data; no system's own
    min_lr: float = option(1e-5, kind="positive", metavar="X", help="plateau: the lowest rate")
    least_iterations: int = 0  # that the recipe's own epochs come to, however few images there are
    # Ours: which weights a stage ends with. A stage that adds no layers counts those that it begins with, too. Where no
    # images are held out, there is the last iteration alone.
    ends_with: str = option(
        LAST,
        kind="choice",
        choices=(LAST, BEST),
        help="which weights a stage ends with: of its last iteration, or of its lowest validation loss (own images)",
    )
    # The recipe has no such stage: the one behind it starts from what this one would have started from, and draws what
    # this one would have added.
    left_out: bool = option(
        False, kind="absent", metavar="STAGES", help="none, or numbers of stages that are not trained"
    )


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run of one data set needs to know."""

    system: System = field(repr=False)
    dataset: DatasetSpec
    trunk: str = option(kind="trunk", help="the convolutional net under all stages")
    heads: Any  # a dataclass of the system's own: structure and widths of what it adds to the trunk
    augmentation: Augmentation
    batch_size: int = option(kind="count")
    iter_size: int = option(kind="count", help="batches whose gradients are added up for one update")
    momentum: float = option(kind="fraction", metavar="F")
    weight_decay: float = option(kind="fraction", metavar="F")
    stages: tuple[StageSpec, ...]
    seed: int = option(0, kind="seed")
    # Ours, for where training the whole trunk takes too long: what is cached then serves all stages.
    fixed_trunk: bool = option(
        False,
        kind="switch",
        help="the trunk, up to what stages with a fixed trunk share of it, keeps its first weights in all stages",
    )
    # Part of the training records held out for the validation loss; never of the test split.
    validation_fraction: float = option(0.0, kind="fraction", metavar="F", help="of the training images, held out")

    @property
    def input(self) -> Input:
        """What the nets eat."""
        return self.system.input_of(self.trunk)

    @property
    def stage_numbers(self) -> list[int]:
        """The stages that are trained, in order: those of the system without what this recipe leaves out."""
        return [number for number, plan in enumerate(self.stages, 1) if not plan.left_out]

    def trunk_is_fixed(self, stage: int) -> bool:
        """Whether the trunk, up to its features, learns nothing in a stage: so its features may be cached."""
        return self.fixed_trunk or self.system.stage(stage).fixed_trunk

    @property
    def validation_images(self) -> int:
        """How many of the training records are held out for validation."""
        return round(self.validation_fraction * self.dataset.train_images)

    @property
    def training_records(self) -> tuple[int, int]:
        """The records [begin, end) that are trained with."""
        return 0, self.dataset.train_images - self.validation_images

    @property
    def validation_records(self) -> tuple[int, int]:
        """The records that are held out: the last ones, a random sample because a pair is shuffled when it is built.

        Two persons of one WIDER-Attribute photograph may therefore be on both sides.
        """
        return self.training_records[1], self.dataset.train_images

    def validate_every(self, stage: int) -> int:
        """Iterations between two validations of a stage."""
        epoch = self.training_records[1] / (self.batch_size * self.iter_size)
        return self.stages[stage - 1].validate_every or math.ceil(epoch)

    def iterations(self, stage: int) -> int:
        """Solver iterations of a stage, at most: its epochs over what is not held out, rounded up."""
        plan = self.stages[stage - 1]
        if plan.iterations is not None:
            return plan.iterations
        samples = plan.epochs * (self.dataset.train_images - self.validation_images)
        return max(1, plan.least_iterations, math.ceil(samples / (self.batch_size * self.iter_size)))


@cache
def class_names(dataset: str) -> tuple[str, ...]:
    """Label names of a data set from `pysrn/data/class_names/<dataset>.txt`, in label vector order."""
    text = resources.files("pysrn.data").joinpath("class_names", f"{dataset}.txt").read_text("utf-8")
    return tuple(text.splitlines())


def split_counts(dataset: str) -> dict[str, int]:
    """Images of each split of a data set."""
    spec = DATASETS[dataset]
    return {"train": spec.train_images, "test": spec.test_images}


def flags_of(kind: type) -> dict[str, dict]:
    """Fields of a dataclass that have a flag, with what `option` said of it."""
    return {one.name: one.metadata["flag"] for one in fields(kind) if "flag" in one.metadata}


DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec("coco", 82_783, 40_504, "MS-COCO 2014"),  # SRN's official repo, README
        DatasetSpec("nus_wide", 119_986, 80_283, "NUS-WIDE"),  # SRN's official repo, README
        DatasetSpec("wider_attribute", 28_340, 29_177, "WIDER-Attribute"),  # SRN's official repo, README
        DatasetSpec("voc2007", 5_011, 4_952, "PASCAL VOC 2007"),  # Everingham et al., VOC 2007: trainval and test
        # MSRN's released code, DataLoader/apparel.py: 11,384 images, split in halves
        DatasetSpec("apparel", 5_692, 5_692, "Apparel images"),
        DatasetSpec(EMBEDDED, 1_500, 600, "embedded shapes"),  # ours
    )
}
OWN = DatasetSpec(OWN_DATASET, 0, 0, "own images")
