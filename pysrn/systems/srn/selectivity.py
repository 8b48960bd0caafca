"""What the regulariser's neurons tell on images whose places are known: where a label is, and how two stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pysrn.claims.claim import Measure, Trained
from pysrn.claims.places import boxes_of_test
from pysrn.evaluate.selectivity import selectivity
from pysrn.predict.deploy import DeployNet
from pysrn.predict.splits import batches, whole_views

READ, NEURONS, CHANCE = "sr_conv3", "sr_conv4", 0.5
RELATION = " above "  # between the names of two labels, in that of the one that says how they stand: `shapes`
FEWEST = 20  # images that a question is asked of; assumed
BATCH = 16

Questions = Callable[[np.ndarray, Sequence[str], list], list[tuple[np.ndarray, np.ndarray]]]


def places(labels: np.ndarray, classes: Sequence[str], boxes: Sequence[Mapping[int, Sequence]]) -> list:
    """For each label with boxes of its own: is it in the right half, is it in the lower half?

    Questions are (N: the images that are asked, N: whether it is so), N booleans each. Labels of a relation are left
    out: their boxes are two objects'.
    """
    questions = []
    for label, name in enumerate(classes):
        if RELATION in name:
            continue
        asked = np.array([len(image.get(label, ())) == 1 for image in boxes])
        middles = np.array([_middle(image[label][0]) if on else (0, 0) for image, on in zip(boxes, asked, strict=True)])
        questions += [(asked, middles[:, axis] > 0.5) for axis in (0, 1)]
    return questions


def configurations(labels: np.ndarray, classes: Sequence[str], boxes: Sequence) -> list:
    """For each label `A above B`, of the images that have A and B: does it hold? The objects alone do not tell."""
    questions = []
    for label, name in enumerate(classes):
        upper, between, lower = name.partition(RELATION)
        if between and {upper, lower} <= set(classes):
            asked = (labels[:, [classes.index(upper), classes.index(lower)]] == 1).all(axis=1)
            questions.append((asked, labels[:, label] == 1))
    return questions


def mean_selectivity(answers: np.ndarray, questions: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over the questions of how well one neuron answers each (N x K), less chance; NaN where none can be asked."""
    found = [selectivity(answers[asked], truth[asked]) for asked, truth in questions if asked.sum() >= FEWEST]
    found = [value for value in found if not np.isnan(value)]
    return float(np.mean(found)) - CHANCE if found else float("nan")


def answers_of(channels: np.ndarray, kernels: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """N x K: what conv4's neurons, rectified, make of N x W x 14 x 14 channels; kernels are K x 1 x 14 x 14."""
    grouped = kernels.reshape(channels.shape[1], -1, kernels[0].size)
    found = np.einsum("nwp,wkp->nwk", channels.reshape(*channels.shape[:2], -1), grouped, optimize=True)
    return np.maximum(found.reshape(len(channels), -1) + bias, 0)


def measure(title: str, questions: Questions, stage: int, shuffled: bool = False) -> Measure:
    """The mean selectivity of the neurons of a stage's weights, less chance.

    `shuffled`: with the places of each kernel dealt out anew: as much weight on the same labels, and no arrangement.
    """

    def measured(trained: Trained) -> float:
        pair, boxes = boxes_of_test(trained)
        net = DeployNet(trained.run.weights(stage), BATCH, folded=True, kept=[READ])
        kernels, bias = (blob.data.copy() for blob in net.net.params[NEURONS])
        if shuffled:
            kernels = (
                np.random.default_rng(0).permuted(kernels.reshape(len(kernels), -1), axis=1).reshape(kernels.shape)
            )
        parts = [
            answers_of(net.forward(whole_views(pair, part, net.architecture.input), [READ])[READ], kernels, bias)
            for part in batches(len(pair), BATCH)
        ]
        return mean_selectivity(np.concatenate(parts), questions(pair.all_labels(), pair.classes, boxes))

    return Measure(title + ", kernels shuffled" * shuffled, measured, boxes=True)


def _middle(box: Sequence[float]) -> tuple[float, float]:
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2
