"""What the regulariser's neurons tell on images whose places are known: where a label is, and how two stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pysrn.claims.claim import Measure, Trained
from pysrn.claims.places import boxes_of_test
from pysrn.evaluate.selectivity import selectivity
from pysrn.predict.deploy import DeployNet
from pysrn.predict.splits import batches, whole_views

NEURONS, CHANCE = "sr_conv4", 0.5
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


def measure(title: str, questions: Questions, stage: int) -> Measure:
    """The mean selectivity of the neurons of a stage's weights, less chance."""

    def measured(trained: Trained) -> float:
        pair, boxes = boxes_of_test(trained)
        net = DeployNet(trained.run.weights(stage), BATCH, folded=True, kept=[NEURONS])
        parts = [
            net.forward(whole_views(pair, part, net.architecture.input), [NEURONS])[NEURONS]
            for part in batches(len(pair), BATCH)
        ]
        answers = np.concatenate(parts).reshape(len(pair), -1)
        return mean_selectivity(answers, questions(pair.all_labels(), pair.classes, boxes))

    return Measure(title, measured, boxes=True)


def _middle(box: Sequence[float]) -> tuple[float, float]:
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2
