"""The bootstrap of mAP against resamples that are really made and evaluated, image by image."""

import math

import numpy as np
import pytest

from pysrn.console import SrnError
from pysrn.evaluate import bootstrap, metrics


def case(images, unspecified, seed=0):
    """Scores with ties, labels with a class that is nowhere and one that is rare."""
    random = np.random.default_rng(seed)
    labels = random.choice([1, -1, 0] if unspecified else [1, 0, 0, 0], (images, 5)).astype(np.int8)
    labels[:, 3] = -1 if unspecified else 0
    labels[:, 4] = np.where(np.arange(images) < 2, 1, labels[:, 3])
    return (random.normal(-1, 2, labels.shape) + (labels == 1)).round(1).astype(np.float32), labels


def slow_resamples(logits, labels, count, seed):
    """mAP of matrices whose rows are repeated as often as they were drawn."""
    random = np.random.default_rng(seed)
    values = []
    for _ in range(count):
        rows = np.repeat(np.arange(len(labels)), bootstrap.draw(random, len(labels)))
        assert len(rows) == len(labels)
        values.append(metrics.evaluate(logits[rows], labels[rows], bool((labels == -1).any())).mean_ap)
    return np.array(values)


@pytest.mark.parametrize("unspecified", [False, True])
@pytest.mark.parametrize("images", [1, 3, 150])
def test_equals_the_slow_bootstrap(images, unspecified):
    logits, labels = case(images, unspecified)
    count = bootstrap.TOGETHER + 6  # more than are computed at once
    found = bootstrap.resampled_mean_ap(logits, labels, count, seed=5)
    expected = slow_resamples(logits, labels, count, seed=5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    if images == 150:
        assert np.std(found) > 0.005
        assert not np.allclose(found, bootstrap.resampled_mean_ap(logits, labels, count, seed=6))


def test_the_first_resamples_do_not_depend_on_how_many_there_are():
    logits, labels = case(40, False)
    many = bootstrap.resampled_mean_ap(logits, labels, 130, seed=1)
    np.testing.assert_array_equal(many[:7], bootstrap.resampled_mean_ap(logits, labels, 7, seed=1))


def test_interval_is_that_of_the_resamples_moved_onto_map():
    logits, labels = case(150, False)
    found = bootstrap.mean_ap_interval(logits, labels, 90, seed=2)
    values = sorted(slow_resamples(logits, labels, 90, seed=2))
    distance = metrics.evaluate(logits, labels).mean_ap - math.fsum(values) / 90
    # 2.5 % of the way from the 1st to the 90th: at 2.225
    assert found.low - distance == pytest.approx(values[2] + 0.225 * (values[3] - values[2]), abs=1e-12)
    assert found.high - distance == pytest.approx(values[-3] - 0.225 * (values[-3] - values[-4]), abs=1e-12)
    assert found.to_json(100) == {
        "low": 100 * found.low, "high": 100 * found.high, "level": 0.95, "resamples": 90, "seed": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("classes", "share"), [(8, 0.3), (40, 0.02)])
def test_interval_says_where_the_map_of_other_images_lies(classes, share):
    """Of 95 % intervals of 60 draws of 400 images, fewer than 50 hold what is usual in 1 of 1,000 cases.

    With 8 positives a class, intervals that are not moved onto mAP hold it 43 times only.
    """
    random = np.random.default_rng(9)
    found, values = [], []
    for seed in range(60):
        truth = (random.random((400, classes)) < share).astype(np.int8)
        logits = (random.normal(size=truth.shape) + 1.5 * truth).astype(np.float32)
        found.append(bootstrap.mean_ap_interval(logits, truth, 100, seed))
        values.append(metrics.evaluate(logits, truth).mean_ap)
    usual = np.mean(values)
    assert sum(one.low <= usual <= one.high for one in found) >= 50
    widths = [one.high - one.low for one in found]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values, ddof=1), rel=0.25)  # 2.5 deviations of the latter


def test_no_positive_gives_no_interval():
    found = bootstrap.mean_ap_interval(np.zeros((4, 2)), np.zeros((4, 2)), 10)
    assert math.isnan(found.low) and math.isnan(found.high) and found.to_json()["low"] is None


def test_a_perfect_ranking_stays_one():
    labels = np.array([[1], [1], [0], [0]])
    found = bootstrap.mean_ap_interval(np.array([[3.0], [2.0], [1.0], [0.0]]), labels, 50)
    assert (found.low, found.high) == (1, 1)


def test_bad_scores_are_refused():
    with pytest.raises(SrnError, match="not finite"):
        bootstrap.resampled_mean_ap(np.full((2, 2), np.nan), np.ones((2, 2)), 3)
