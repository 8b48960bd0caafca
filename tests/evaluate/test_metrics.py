"""Metrics against hand-worked cases, a slow loop written from the definitions, and scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from pysrn.console import SrnError
from pysrn.evaluate import metrics


def column(*values):
    return np.array(values, dtype=float)[:, None]


def logit(probability):
    return np.log(probability / (1 - probability))


def slow_average_precision(scores, labels, zero_is_unspecified):
    """VOC 2012 and non-interpolated AP of one class, rank by rank, from the definition."""
    ranking = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if zero_is_unspecified:
        ranking = [i for i in ranking if labels[i] != 0]
    hits, precisions, recalls = 0, [], []
    for rank, i in enumerate(ranking, start=1):
        hits += labels[i] == 1
        precisions.append(hits / rank)
        recalls.append(hits)
    if not hits:
        return math.nan, math.nan
    envelope_area = plain_area = 0.0
    for rank, i in enumerate(ranking):
        if labels[i] == 1:
            envelope_area += max(precisions[rank:]) / hits
            plain_area += precisions[rank] / hits
    return envelope_area, plain_area


def random_case(images=60, classes=7, unspecified=False, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 2, (images, classes)).round(1)  # rounding makes ties
    labels = random.choice([1, -1, 0] if unspecified else [1, 0], (images, classes)).astype(np.int8)
    return logits.astype(np.float32), labels


def test_average_precision_by_hand():
    # Ranked labels 0 1 0 1: precision 0, 1/2, 1/3, 1/2; the envelope lifts nothing at the two positives.
    both = metrics.average_precision(column(0.9, 0.8, 0.7, 0.6), column(0, 1, 0, 1), False)
    assert [float(ap[0]) for ap in both] == [0.5, 0.5]
    # Ranked 1 0 0 1 1: precision 1, 1/2, 1/3, 2/4, 3/5; the envelope lifts the fourth to 3/5.
    envelope, plain = metrics.average_precision(column(5, 4, 3, 2, 1), column(1, 0, 0, 1, 1), False)
    assert envelope[0] == pytest.approx((1 + 0.6 + 0.6) / 3, abs=1e-15)
    assert plain[0] == pytest.approx((1 + 0.5 + 0.6) / 3, abs=1e-15)


def test_unspecified_labels_are_skipped_by_average_precision_and_negative_in_f1():
    scores, labels = column(4, 3, 2, 1), column(0, 1, -1, 1)
    assert metrics.average_precision(scores, labels, True)[1][0] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision(scores, labels, False)[1][0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    result = metrics.evaluate(scores, labels)  # every logit > 0: four predictions, two right
    assert result.zero_is_unspecified
    assert result.precision[0] == pytest.approx(0.5)
    assert result.average_precision_non_interpolated[0] == pytest.approx(5 / 6)


def test_zero_means_no_where_there_is_no_minus_one():
    result = metrics.evaluate(column(4, 3, 2, 1), column(0, 1, 0, 1))
    assert not result.zero_is_unspecified
    assert result.average_precision_non_interpolated[0] == pytest.approx(0.5)


def test_equal_scores_keep_the_order_of_the_images():
    assert metrics.average_precision(column(1, 1), column(1, 0), False)[0][0] == 1.0
    assert metrics.average_precision(column(1, 1), column(0, 1), False)[0][0] == 0.5


def test_class_without_positive_has_no_ap_and_is_left_out_of_the_mean():
    logits = np.array([[2.0, 2.0], [-2.0, -2.0]])
    result = metrics.evaluate(logits, np.array([[1, 0], [0, 0]]))
    assert math.isnan(result.average_precision[1])
    assert result.mean_ap == 1.0
    assert result.positives.tolist() == [1, 0]


def test_epsilon_rule():
    truth = np.array([[0, 1, 1], [0, 1, 0]], bool)
    predicted = np.array([[0, 0, 1], [0, 0, 1]], bool)
    precision, recall, f1 = metrics.precision_recall_f1(truth, predicted)
    # nothing there and nothing said; two there and nothing said; one of two right
    assert precision == pytest.approx([1, 1, 0.5], abs=1e-12)
    assert recall == pytest.approx([1, 0, 1], abs=1e-12)
    assert f1 == pytest.approx([1, 0, 2 / 3], abs=1e-12)


def test_f1_c_is_the_mean_of_class_f1_and_the_harmonic_stands_beside_it():
    truth = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], bool)
    predicted = np.array([[1, 1], [0, 1], [0, 1], [0, 1]], bool)
    result = metrics.decision_metrics(truth, predicted)
    # class 0: P 1, R 1/4, F1 0.4; class 1: P 1/4, R 1, F1 0.4; together 2 of 5 predictions, 2 of 5 positives
    assert result["F1-C"] == pytest.approx(0.4)
    assert result["P-C"] == result["R-C"] == pytest.approx(0.625)
    assert result["F1-C_harmonic"] == pytest.approx(0.625)
    assert [result["F1-O"], result["P-O"], result["R-O"]] == pytest.approx([0.4, 0.4, 0.4])


def test_probability_must_be_strictly_greater_than_half():
    result = metrics.evaluate(column(0.0, 1e-3), column(1, 1))
    assert result.recall[0] == pytest.approx(0.5)


def test_top_three_forced_and_thresholded():
    logits = np.array([[3.0, -1.0, -2.0, -3.0, 2.0]])
    assert metrics.top_k(logits, 3).tolist() == [[True, True, False, False, True]]
    result = metrics.evaluate(logits, np.array([[1, 1, 0, 0, 0]]))
    assert result.decisions["top3_forced"]["P-O"] == pytest.approx(2 / 3)
    assert result.decisions["top3_thresholded"]["P-O"] == pytest.approx(1 / 2)
    assert result.decisions["top3_forced"]["R-O"] == pytest.approx(1)
    assert result.decisions["top3_thresholded"]["R-O"] == pytest.approx(1 / 2)
    assert metrics.top_k(np.zeros((1, 5)), 3).tolist() == [[True, True, True, False, False]]
    assert metrics.top_k(np.zeros((1, 2)), 3).tolist() == [[True, True]]


@pytest.mark.parametrize("unspecified", [False, True])
def test_average_precision_equals_the_slow_loop(unspecified):
    logits, labels = random_case(unspecified=unspecified)
    result = metrics.evaluate(logits, labels)
    for c in range(labels.shape[1]):
        envelope, plain = slow_average_precision(metrics.sigmoid(logits[:, c]), labels[:, c], unspecified)
        assert result.average_precision[c] == pytest.approx(envelope, abs=1e-12)
        assert result.average_precision_non_interpolated[c] == pytest.approx(plain, abs=1e-12)
    assert result.mean_ap == pytest.approx(np.mean(result.average_precision))


def test_agrees_with_scikit_learn():
    random = np.random.default_rng(3)
    logits, labels = random.normal(size=(300, 6)), random.integers(0, 2, (300, 6))
    result = metrics.evaluate(logits, labels)
    expected = average_precision_score(labels, logits, average=None)
    assert result.average_precision_non_interpolated == pytest.approx(expected, abs=1e-12)
    macro = precision_recall_fscore_support(labels, logits > 0, average="macro")[:3]
    micro = precision_recall_fscore_support(labels, logits > 0, average="micro")[:3]
    ours = result.decisions["threshold"]
    assert [ours["P-C"], ours["R-C"], ours["F1-C"]] == pytest.approx(macro, abs=1e-12)
    assert [ours["P-O"], ours["R-O"], ours["F1-O"]] == pytest.approx(micro, abs=1e-12)


def test_very_small_probabilities_stay_apart():
    # In 1 - sigmoid(-x) arithmetic both would round to the same number and the first image would win.
    assert metrics.evaluate(column(-36.2, -36.1), column(0, 1)).mean_ap == 1.0
    assert metrics.sigmoid(np.array([-800.0, 800.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        (np.array([[0.0, np.nan]]), np.ones((1, 2)), "1 of 2 are not finite, the first of image 0, class 1"),
        (np.zeros((2, 3)), np.zeros((2, 4)), "2 x 3 .* 2 x 4"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "nothing to evaluate"),
        (np.zeros(3), np.zeros(3), "images x classes"),
        (np.zeros((1, 1)), np.full((1, 1), 2), "1, 0 or -1"),
    ],
)
def test_bad_input_is_refused(logits, labels, reason):
    with pytest.raises(SrnError, match=reason):
        metrics.evaluate(logits, labels)
