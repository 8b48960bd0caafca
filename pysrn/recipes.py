"""Every published or assumed number of the reproduction, once, with its source.

The nets, solvers, data layer and tools read their hyper-parameters from here and hold none themselves.
Sources: `Eq.`, `Fig.` and `Sec.` are those of the SRN paper (arXiv 1702.05891); `official repo` is
zhufengx/SRN_multilabel; `assumed` marks a value that no source gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

CROP_SIZE = 224  # official repo, tools/model_test.py
IMAGE_SIZE = 256  # official repo: images are resized to 256 x 256 before the crop
MEAN_BGR = (104.0, 117.0, 123.0)  # official repo, tools/model_test.py; range 0-255, no division
FEATURE_SIZE = 14  # X is the output of res4b22_relu (official repo issue 15)
SCORE_WEIGHT = 0.5  # alpha of the final score, on logits; two re-implementations by others agree on it
# `paper` is the net that the paper's text describes, `released` the one of the authors' published models, which differs
# (author, official repo issue 15).
VARIANTS = ("paper", "released")
PREACT = "_preact"  # ending of a pre-activation trunk's name: the trunks of variant `released`
V15 = "_v15"  # ending of the post-activation trunks that take torchvision's weights ("ResNet v1.5")
OWN_DATASET = "folder"  # a user's own images; labels and counts are those of the LMDB pair
STAGE_NAMES = {1: "main", 2: "attention", 3: "regulariser", 4: "joint"}  # step_1 ... step_4 of the release


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


@dataclass(frozen=True)
class TrunkSpec:
    """A residual trunk of bottleneck blocks.

    Post-activation as in the public Caffe release, or pre-activation ("identity mappings", v2: BN, ReLU, convolution)
    as the authors used (official repo issue 14). What a pre-activation trunk leaves open follows the v2 nets in PyTorch
    whose weights people can still get (timm's `resnetv2_*`): no BN between conv1 and pool1.
    """

    name: str
    blocks: tuple[int, int, int, int]  # bottleneck blocks of res2, res3, res4, res5
    width: int  # channels of conv1; stage s has width * 2^s inside and four times that outside
    numbered: bool  # True: long stages are named a, b1, b2 ... as in the release of 101 and 152 layers
    title: str  # the net's name in the public release
    preact: bool = False
    # Place of a stage's stride: the first 1x1 convolution (public Caffe release) or the 3x3 (PyTorch's nets and the
    # training code that the authors refer to).
    stride_in_3x3: bool = False
    # 0: Caffe's ceil rule, windows from pixel 0. 1: PyTorch's, windows from pixel -1 and the floor rule; both end at
    # 56 x 56, one pixel apart.
    pool1_pad: int = 0

    @property
    def conv1_bias(self) -> bool:
        """Whether conv1 has a bias, although BN follows: it tells the two post-activation families apart.

        In the release the net of 50 layers alone has one. Place of stride and padding of pool1 leave no trace in
        weights; so the v1.5 trunk of the same depth has a bias where the release has none, and the reverse, and a
        weight file fits one of the two only.
        """
        return not self.preact and self.numbered == self.stride_in_3x3

    @property
    def feature_channels(self) -> int:
        """Channels of X, the end of res4."""
        return 16 * self.width


@dataclass(frozen=True)
class HeadSpec:
    """Structure and widths of the attention and regularisation heads (Sec. 3.2, Fig. 4)."""

    attention_width: int = 512  # f_att: 1x1x512 and 3x3x512, Sec. 3.2
    regulariser_width: int = 512  # conv2 and conv3, Fig. 4
    neurons_per_channel: int = 4  # conv4: 2048 kernels in 512 groups, Fig. 4
    attended_cells: int = 4  # assumed: over how many of the 196 positions an attention map is spread (initialisation)
    # Variant `released` (official repo issue 15): two residual blocks on X, a confidence branch of two layers, BN and
    # ReLU after each hidden convolution.
    variant: str = "paper"
    confidence_width: int = 512  # official repo issue 15: the hidden layer of the confidence branch
    # Whether the confidence branch reads the residual blocks' output or X itself. Sources differ: the TensorFlow
    # transcription feeds both branches from the blocks, a PyTorch one the attention alone. The former follows the
    # released prototxt layer by layer (names, pre-activation), the latter changes trunk and blocks: so True.
    confidence_sees_blocks: bool = True


@dataclass(frozen=True)
class Augmentation:
    """The multi-scale corner crop of the official data transformer."""

    # 256, 224, 192, 168, 128 pixels. assumed: the transformer's default ends at 0.66, the nets' own list is lost.
    scale_ratios: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66, 0.5)
    max_distort: int = 1  # assumed: the default of the official data transformer; the nets' value is lost
    mirror: bool = True


@dataclass(frozen=True)
class StageSpec:
    """One training stage.

    `schedule` says when the rate is multiplied by `gamma`: `multistep` at `drops`, fractions of the stage's iterations;
    `plateau` when `patience` validations in a row brought no lower loss, down to `min_lr`; a plateau there ends the
    stage. Epochs or iterations are then only the upper bound.
    """

    epochs: float = 0.0
    base_lr: float = 1e-3  # author, official repo issue 14
    drops: tuple[float, ...] = (0.5, 0.8)  # assumed: where the rate is multiplied by `gamma`
    gamma: float = 0.1  # assumed, as in the supplement of Sarafianos et al. (ECCV 2018) for the same data
    new_layer_lr: float = 1.0  # assumed: rate of layers that the stage adds, as a multiple of base_lr
    # assumed: stored ImageNet statistics, usual in Caffe for small batches. True: of the batch. In stages 2 and 3 what
    # is fixed has stored statistics and what the stage adds follows the batch in any case.
    train_bn: bool = False
    iterations: int | None = None  # solver iterations, where they are given instead of epochs
    schedule: str = "multistep"  # or "plateau"
    patience: int = 3  # validations without improvement before a drop; assumed
    validate_every: int = 500  # iterations; assumed
    # Views that an image has, one an epoch, again and again; None: a new one in every epoch. For stages 2 and 3, whose
    # trunk features can be cached (ours: no source caches anything).
    views: int | None = None
    min_lr: float = 1e-5  # supplement of Sarafianos et al. (ECCV 2018), their recipe for the same data; not SRN's own


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run of one data set needs to know."""

    dataset: DatasetSpec
    trunk: str = "resnet101"  # official repo issue 14; the variant decides the family, see `__post_init__`
    heads: HeadSpec = field(default_factory=HeadSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)
    batch_size: int = 96  # assumed: no source gives it
    iter_size: int = 1
    momentum: float = 0.9  # assumed: three later works on the same data and protocol use it
    weight_decay: float = 5e-4  # assumed: likewise
    stages: tuple[StageSpec, StageSpec, StageSpec, StageSpec] = (  # assumed lengths: no source gives them
        StageSpec(epochs=30),
        StageSpec(epochs=10),
        StageSpec(epochs=10),
        StageSpec(epochs=20),
    )
    seed: int = 0
    variant: str = "paper"  # or "released": decides the heads, the losses of stage 4 and the trunk's family
    # Part of the training records held out for the validation loss; never of the test split.
    # Differs from paper: later works say that SRN was watched on a part of the test set.
    validation_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Let trunk and heads follow the variant: `released` has the pre-activation trunk of the same depth."""
        if self.variant not in VARIANTS:
            raise ValueError(f"no variant {self.variant}")
        trunk = self.trunk.removesuffix(PREACT)
        if self.variant == "released":
            trunk = trunk.removesuffix(V15) + PREACT
        object.__setattr__(self, "trunk", trunk)
        object.__setattr__(self, "heads", replace(self.heads, variant=self.variant))

    @property
    def validation_images(self) -> int:
        """How many of the training records are held out for validation."""
        return round(self.validation_fraction * self.dataset.train_images)

    def iterations(self, stage: int) -> int:
        """Solver iterations of stage 1-4, at most: its epochs over what is not held out, rounded up."""
        plan = self.stages[stage - 1]
        if plan.iterations is not None:
            return plan.iterations
        samples = plan.epochs * (self.dataset.train_images - self.validation_images)
        return max(1, math.ceil(samples / (self.batch_size * self.iter_size)))


@cache
def class_names(dataset: str) -> tuple[str, ...]:
    """Label names of a data set from `pysrn/data/class_names/<dataset>.txt`, in label vector order."""
    text = resources.files("pysrn.data").joinpath("class_names", f"{dataset}.txt").read_text("utf-8")
    return tuple(text.splitlines())


def _families(*specs: TrunkSpec) -> dict[str, TrunkSpec]:
    """Each trunk of the public release, its v1.5 and its pre-activation counterpart, by name.

    Both counterparts have PyTorch's stride and pooling, because their ImageNet weights come from there.
    """
    counterparts = [
        replace(
            spec,
            name=spec.name + ending,
            title=f"{spec.title}{words}",
            preact=ending == PREACT,
            stride_in_3x3=True,
            pool1_pad=1,
        )
        for ending, words in ((V15, " v1.5"), (PREACT, ", pre-activation"))
        for spec in specs
    ]
    return {spec.name: spec for spec in (*specs, *counterparts)}


TRUNKS = _families(
    TrunkSpec("resnet101", (3, 4, 23, 3), 64, True, "ResNet-101"),
    TrunkSpec("resnet50", (3, 4, 6, 3), 64, False, "ResNet-50"),
    TrunkSpec("resnet152", (3, 8, 36, 3), 64, True, "ResNet-152"),
    # The embedded data set's trunk: same topology, small enough to be trained from scratch on two cores.
    TrunkSpec("resnet14", (1, 1, 1, 1), 8, False, "ResNet-14"),
)

DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec("coco", 82_783, 40_504, "MS-COCO 2014"),  # official repo, README
        DatasetSpec("nus_wide", 119_986, 80_283, "NUS-WIDE"),  # official repo, README
        DatasetSpec("wider_attribute", 28_340, 29_177, "WIDER-Attribute"),  # official repo, README
        DatasetSpec("voc2007", 5_011, 4_952, "PASCAL VOC 2007"),  # Everingham et al., VOC 2007: trainval and test
        DatasetSpec("shapes", 1_500, 600, "embedded shapes"),  # ours
    )
}


def _published(dataset: str, validate_every: int) -> Recipe:
    """The recipe of a data set of the paper: the rate follows the plateaus of a validation loss.

    The schedule is the one that the supplement of Sarafianos et al. (ECCV 2018) states for their own training on
    WIDER-Attribute (from 1e-3 by tens on a validation plateau until 1e-5); SRN's own is not known. Only the 1e-3 is
    SRN's. `validate_every` is about once an epoch, assumed.
    """
    plan = StageSpec(schedule="plateau", validate_every=validate_every)
    return Recipe(
        DATASETS[dataset],
        stages=tuple(replace(plan, epochs=epochs) for epochs in (30, 10, 10, 20)),  # assumed upper bounds
        validation_fraction=0.05,  # assumed
    )


RECIPES = {
    "coco": _published("coco", 800),
    "nus_wide": _published("nus_wide", 1200),
    "wider_attribute": _published("wider_attribute", 280),
    "voc2007": _published("voc2007", 50),  # not in the paper: its recipe for the other sets
    OWN_DATASET: replace(_published("coco", 100), dataset=DatasetSpec(OWN_DATASET, 0, 0, "own images")),
    # The embedded data set is ours: its numbers are chosen for a CPU run of a few minutes from scratch.
    "shapes": Recipe(
        DATASETS["shapes"],
        trunk="resnet14",
        heads=HeadSpec(attention_width=64, regulariser_width=64, confidence_width=64),
        augmentation=Augmentation(scale_ratios=(1.0, 0.875)),
        batch_size=16,
        stages=(
            StageSpec(base_lr=0.03, iterations=650, train_bn=True, drops=(0.7, 0.9)),
            StageSpec(base_lr=0.003, iterations=130, drops=(0.6, 0.85)),
            StageSpec(base_lr=0.01, iterations=450, drops=(0.6, 0.85)),
            StageSpec(base_lr=0.003, iterations=170, drops=(0.6, 0.85)),
        ),
    ),
}
