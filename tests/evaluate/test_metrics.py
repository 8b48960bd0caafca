"""Metrics against hand-worked cases, slow loops written from the definitions, and scikit-learn.

The last part is on the whole label matrices of real test sets, with scores drawn from a stored seed.
"""

import csv
import gzip
import math
from fractions import Fraction

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
    hits, precisions = 0, []
    for rank, i in enumerate(ranking, start=1):
        hits += labels[i] == 1
        precisions.append(hits / rank)
    if not hits:
        return math.nan, math.nan
    envelope_area = plain_area = highest = 0.0
    for i, precision in zip(reversed(ranking), reversed(precisions), strict=True):
        highest = max(highest, precision)  # at this rank or below
        if labels[i] == 1:
            envelope_area += highest / hits
            plain_area += precision / hits
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


def test_eleven_point_average_precision_by_hand():
    # Ranked 1 0 0 1 1: the envelope is 1 up to a recall of 1/3 and 3/5 from there on: 4 of the 11 recalls, and 7.
    result = metrics.evaluate(column(5, 4, 3, 2, 1), column(1, 0, 0, 1, 1))
    assert result.average_precision_11_point[0] == pytest.approx((4 * 1 + 7 * 0.6) / 11, abs=1e-15)
    # Ten positives, the third and the seventh behind noise: a recall of 3 / 10 is reached with the third, exactly.
    labels = np.array([1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1])
    result = metrics.evaluate(-np.arange(13.0)[:, None], labels[:, None])
    expected = [1, 1, 1] + [6 / 7] * 4 + [10 / 13] * 4
    assert result.average_precision_11_point[0] == pytest.approx(sum(expected) / 11, abs=1e-15)
    assert np.isnan(metrics.evaluate(column(1, 2), column(0, 0)).mean_ap_11_point)


def slow_eleven_points(scores, labels, zero_is_unspecified):
    """VOC 2007 AP of one class from its definition, recalls as fractions."""
    ranking = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    counted = [labels[i] == 1 for i in ranking if labels[i] != 0 or not zero_is_unspecified]
    curve = [
        (Fraction(sum(counted[: n + 1]), sum(counted)), sum(counted[: n + 1]) / (n + 1)) for n in range(len(counted))
    ]
    return sum(max(precision for recall, precision in curve if recall >= Fraction(k, 10)) for k in range(11)) / 11


@pytest.mark.parametrize("images", [2, 11, 60, 100])
@pytest.mark.parametrize("unspecified", [False, True])
def test_eleven_point_average_precision_equals_the_slow_loop(images, unspecified):
    logits, labels = random_case(images, 12, unspecified, seed=images)
    labels[0] = 1
    result = metrics.evaluate(logits, labels, unspecified)
    expected = [slow_eleven_points(logits[:, c], labels[:, c], unspecified) for c in range(12)]
    assert result.average_precision_11_point == pytest.approx(expected, abs=1e-12)
    assert result.mean_ap_11_point == pytest.approx(np.mean(expected), abs=1e-12)
    assert images == 2 or np.abs(result.average_precision_11_point - result.average_precision).max() > 1e-2


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
    assert metrics.top_k(np.array([[1, 4, 2, 3]]), 3).tolist() == [[False, True, True, True]]


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


def as_they_come(images):
    """Score columns that are hard to rank: ties, both zeros, both signs, huge and tiny numbers, one value."""
    random = np.random.default_rng(4)
    values = random.normal(0, 2, images)
    columns = [
        values,
        values.round(0) * 0.0 + np.where(values > 1, 1.0, 0.0),
        np.where(values > 0, 0.0, -0.0),
        np.full(images, -3.25),
        np.sign(values) * 10.0 ** random.uniform(-300, 300, images),
        values.astype(np.float32).round(1),
        np.where(random.random(images) < 0.5, np.nextafter(0.7, 1), 0.7),
        np.where(np.arange(images) == 5, 5e-324, 0.0),
        random.permutation(images).astype(float),
    ]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("images", [1, 2, 41, 400])
@pytest.mark.parametrize("unspecified", [False, True])
def test_any_scores_are_ranked_as_the_slow_loop_ranks_them(images, unspecified):
    scores = as_they_come(max(images, 6))[:images]
    random = np.random.default_rng(images)
    labels = random.choice([1, -1, 0] if unspecified else [1, 0], scores.shape).astype(np.int8)
    envelope, plain = metrics.average_precision(scores, labels, unspecified)
    for c in range(labels.shape[1]):
        expected = slow_average_precision(scores[:, c].tolist(), labels[:, c].tolist(), unspecified)
        assert (envelope[c], plain[c]) == pytest.approx(expected, abs=1e-12, nan_ok=True), c


def test_no_label_that_counts_and_no_positive_at_all():
    result = metrics.evaluate(np.ones((3, 2)), np.array([[0, -1], [0, -1], [0, -1]]))
    assert np.isnan(result.average_precision).all() and math.isnan(result.mean_ap)
    assert result.decisions["threshold"]["F1-C"] == pytest.approx(0, abs=1e-12)
    nothing_said = metrics.evaluate(-np.ones((3, 2)), np.zeros((3, 2)))
    assert nothing_said.decisions["threshold"]["F1-C"] == nothing_said.decisions["threshold"]["F1-O"] == 1


def slow_decisions(truth, predicted):
    """`DECISION_METRICS` by counting pair by pair, with the authors' eps."""
    eps = 2.0**-52
    counts = [[0, 0, 0] for _ in truth[0]]  # right, predicted, there
    for true_row, row in zip(truth, predicted, strict=True):
        for count, there, said in zip(counts, true_row, row, strict=True):
            count[0] += there and said
            count[1] += said
            count[2] += there

    def of(right, said, there):
        p, r = (right + eps) / (said + eps), (right + eps) / (there + eps)
        return p, r, 2 * p * r / (p + r)

    p_c, r_c, f_c = (math.fsum(values) / len(counts) for values in zip(*(of(*count) for count in counts), strict=True))
    p_o, r_o, f_o = of(*(sum(values) for values in zip(*counts, strict=True)))
    values = (f_c, p_c, r_c, f_o, p_o, r_o, 2 * p_c * r_c / (p_c + r_c))
    return dict(zip(metrics.DECISION_METRICS, values, strict=True))


def slow_top_three(logits):
    """For each image, whether a label is among its three highest; the first of equal ones wins."""
    chosen = []
    for row in logits:
        best = sorted(range(len(row)), key=lambda c: (-row[c], c))[:3]
        chosen.append([c in best for c in range(len(row))])
    return chosen


@pytest.mark.parametrize("unspecified", [False, True])
def test_every_rule_of_decision_equals_the_slow_count(unspecified):
    logits, labels = random_case(unspecified=unspecified, seed=8)
    labels[:, 2], logits[:, 3] = -1 if unspecified else 0, -5  # a class that is nowhere, one that is never said
    result = metrics.evaluate(logits, labels)
    truth, top = (labels == 1).tolist(), slow_top_three(logits.tolist())
    above = [[1 / (1 + math.exp(-x)) > 0.5 for x in row] for row in logits.tolist()]
    both = [[a and b for a, b in zip(*rows, strict=True)] for rows in zip(above, top, strict=True)]
    for block, predicted in (("threshold", above), ("top3_forced", top), ("top3_thresholded", both)):
        assert result.decisions[block] == pytest.approx(slow_decisions(truth, predicted), abs=1e-12), block


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        (np.array([[0.0, np.inf]]), np.ones((1, 2)), "1 of 2 are not finite, the first of image 0, class 1"),
        (np.array([[-np.inf, 0.0], [np.nan, 0.0]]), np.ones((2, 2)), "2 of 4 are not finite, the first of image 0"),
        (np.zeros((1, 1)), np.full((1, 1), 0.5), "1, 0 or -1"),
        (np.zeros((1, 1)), np.full((1, 1), np.nan), "1, 0 or -1"),
        (np.zeros((3, 0)), np.zeros((3, 0)), "nothing to evaluate"),
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


def label_rows(path, labels_of):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return np.array([labels_of(line) for line in lines], np.int8)


def coco_labels(data):
    labels = label_rows(data / "coco2014_labels/val2014_labels.txt.gz", lambda line: line.split()[1:])
    return np.vstack([labels, np.zeros((40_504 - len(labels), 80), np.int8)])  # images without any object


def nus_wide_labels(data):
    return label_rows(data / "nuswide_labels/nus_wide_test_label.txt.gz", str.split)


def wider_labels(data):
    stored = label_rows(
        data / "wider_attribute_labels/WIDER_test_list.txt.gz",
        lambda line: line.split()[-1].rstrip(",").split(","),
    )
    return np.select([stored == 1, stored == 0], [1, -1], 0).astype(np.int8)  # 4: unspecified


def voc_labels(data):
    with open(data / "voc2007_labels/classification_test.csv", encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return np.array([row[-20:] for row in rows], np.int8)


REAL = {  # reader, shape, unspecified labels, every how manieth class is ranked by the slow loop
    "coco": (coco_labels, (40_504, 80), False, 9),
    "nus_wide": (nus_wide_labels, (107_859, 81), False, 27),
    "wider_attribute": (wider_labels, (29_177, 14), True, 3),
    "voc2007": (voc_labels, (4_952, 20), True, 1),
}


def scores_for(labels, seed=20_161):
    """Logits of a middling net: a label that is there has 3 more; all are different numbers."""
    return np.random.default_rng(seed).normal(-2.5, 1.5, labels.shape) + 3.0 * (labels == 1)


@pytest.fixture(scope="module", params=REAL)
def real_case(request, shared_data):
    read, shape, unspecified, step = REAL[request.param]
    labels = read(shared_data)
    assert labels.shape == shape
    logits = scores_for(labels)
    return logits, labels, unspecified, step, metrics.evaluate(logits, labels)


def test_full_size_agrees_with_scikit_learn(real_case):
    logits, labels, unspecified, _, result = real_case
    assert result.zero_is_unspecified == unspecified and (labels == 0).any()
    counted = labels != 0 if unspecified else np.ones(labels.shape, bool)
    expected = [average_precision_score(labels[rows, c] == 1, logits[rows, c]) for c, rows in enumerate(counted.T)]
    assert result.average_precision_non_interpolated == pytest.approx(expected, abs=1e-12)
    assert result.mean_ap_non_interpolated == pytest.approx(np.mean(expected), abs=1e-12)
    assert 0.2 < result.mean_ap < 0.9  # not a figure that anything would reach
    assert (logits > 0).any(axis=0).all() and (labels == 1).any(axis=0).all()
    order = np.argsort(-logits, axis=1)[:, :3]
    top = np.zeros(labels.shape, bool)
    np.put_along_axis(top, order, True, axis=1)
    for block, predicted in (
        ("threshold", logits > 0), ("top3_forced", top), ("top3_thresholded", top & (logits > 0))
    ):  # fmt: skip
        for average, letter in (("macro", "C"), ("micro", "O")):
            values = precision_recall_fscore_support(labels == 1, predicted, average=average, zero_division=1)[:3]
            ours = [result.decisions[block][f"{name}-{letter}"] for name in ("P", "R", "F1")]
            assert ours == pytest.approx(values, abs=1e-12), (block, average)


def test_full_size_agrees_with_the_slow_loop(real_case):
    logits, labels, unspecified, step, result = real_case
    for c in range(0, labels.shape[1], step):
        both = slow_average_precision(logits[:, c].tolist(), labels[:, c].tolist(), unspecified)
        found = result.average_precision[c], result.average_precision_non_interpolated[c]
        assert found == pytest.approx(both, abs=1e-12), c
    part = slice(None, 6000)
    few = metrics.evaluate(logits[part], labels[part], unspecified)
    truth, above, top = (x.tolist() for x in (labels[part] == 1, logits[part] > 0, metrics.top_k(logits[part], 3)))
    assert top[:500] == slow_top_three(logits[:500].tolist())
    assert few.decisions["threshold"] == pytest.approx(slow_decisions(truth, above), abs=1e-12)
    assert few.decisions["top3_forced"] == pytest.approx(slow_decisions(truth, top), abs=1e-12)


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_optimistic_threshold_is_the_best_of_twenty(spread):
    """As MSRN's released code sweeps it, written out threshold by threshold and class by class."""
    random = np.random.default_rng(3)
    truth = random.random((70, 6)) < 0.3
    logits = (random.normal(0, spread, truth.shape) + truth - 0.5).astype(np.float32)
    logits[:, 4] = -9  # never predicted
    best = None
    for step in range(20):
        threshold, precision, recall, hits, said = -1 + 0.1 * step, [], [], 0, 0
        for k in range(6):
            chosen = logits[:, k] >= round(threshold, 1)
            both, count = int((chosen & truth[:, k]).sum()), max(int(chosen.sum()), 1)
            precision.append(both / count)
            recall.append(both / truth[:, k].sum())
            hits, said = hits + both, said + count
        p, r, po, ro = np.mean(precision), np.mean(recall), hits / said, hits / truth.sum()
        f1_c, f1_o = 2 * p * r / (p + r), 2 * po * ro / (po + ro)
        if best is None or f1_c + f1_o > best[0] + best[1]:
            best = f1_c, f1_o, p, r, po, ro, threshold
    found = metrics.evaluate(logits, truth.astype(int)).optimistic
    names = ("F1-C", "F1-O", "P-C", "R-C", "P-O", "R-O", "threshold")
    np.testing.assert_allclose([found[name] for name in names], best, rtol=1e-12)
