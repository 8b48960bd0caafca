"""Exact sets and MAP@10 against plain loops, and against values by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, label_ranking_average_precision_score

from pysrn.evaluate.by_image import exact_sets, map_at
from pysrn.evaluate.metrics import evaluate


def by_hand(logits, truth, depth):
    found = []
    for row, labels in zip(logits, truth, strict=True):
        ranked = sorted(range(len(row)), key=lambda number: (-row[number], number))[:depth]
        if labels.any():
            hits = [labels[number] for number in ranked]
            total = sum(sum(hits[: rank + 1]) / (rank + 1) for rank in range(len(hits)) if hits[rank])
            found.append(total / min(depth, labels.sum()))
    return sum(found) / len(found)


def test_against_loops_and_scikit_learn():
    generator = np.random.default_rng(0)
    for classes in (1, 4, 10, 25):
        logits = np.round(generator.normal(size=(60, classes)), 1)  # with ties
        truth = generator.random((60, classes)) < 0.3
        truth[0, 0] = True
        assert map_at(logits, truth) == pytest.approx(by_hand(logits, truth, 10), abs=1e-12)
        assert exact_sets(truth, logits > 0) == accuracy_score(truth, logits > 0)
    logits, truth = generator.normal(size=(40, 8)), generator.random((40, 8)) < 0.5
    truth[:, 0] = True
    assert map_at(logits, truth, 8) == pytest.approx(label_ranking_average_precision_score(truth, logits))


def test_by_hand():
    truth = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-1.0, -1.0, -1.0]])
    assert map_at(logits, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert exact_sets(truth, logits > 0) == pytest.approx(1 / 3)
    assert math.isnan(map_at(logits, truth * False))


def test_they_stand_in_an_evaluation():
    labels = np.array([[1, 0, 1], [0, 1, 0]])
    found = evaluate(np.array([[3.0, -2.0, 1.0], [3.0, 2.0, -1.0]]), labels)
    assert found.exact_sets == 0.5 and found.map_at_10 == pytest.approx((1 + 1 / 2) / 2)
