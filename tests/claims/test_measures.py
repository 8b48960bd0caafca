"""The measures of single claims on made data whose truth is known."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pysrn.claims.claim import Trained
from pysrn.claims.measures import exact_sets, mean_ap
from pysrn.evaluate.kinds_of_labels import large_and_small, relatedness, typical_area
from pysrn.evaluate.metrics import evaluate
from pysrn.evaluate.rank_correlation import of_pairs, rank_correlation, together
from pysrn.evaluate.selectivity import areas_under_curves, selectivity
from pysrn.nets.map_places import Places, Side
from pysrn.pictures.overlap import box_overlap, own_less_other
from pysrn.predict.deploy import DeployNet
from pysrn.predict.predictions import Predictions
from pysrn.systems.srn.selectivity import answers_of, configurations, mean_selectivity, places
from pysrn.train.run_folder import RunFolder
from tests.srn import SYSTEM, check_images

GRID = Places(*[Side(56, 56)] * 2)  # a cell a pixel


def square(top, left, size=14):
    """A map that is 1 in a square, and its box."""
    values = np.zeros((56, 56))
    values[top : top + size, left : left + size] = 1
    return values, [(left / 56, top / 56, (left + size) / 56, (top + size) / 56)]


def test_box_overlap_by_hand():
    (one, box), (half, _), (far, _) = square(14, 14), square(14, 21), square(42, 42)
    maps = np.stack([[one, one], [half, 0 * one], [far, one - 3]])
    found = box_overlap(maps, [{0: box, 1: box}, {0: box}, {0: box}], GRID)
    # the same square 1; half a square aside 1/3; elsewhere 0
    np.testing.assert_allclose(found, [(1 + 1 / 3 + 0) / 3, 1.0])
    assert np.isnan(box_overlap(maps[:1, :1], [{}], GRID)).all()
    assert box_overlap(0 * maps[:1, :1] + 0.3, [{0: box}], GRID).tolist() == [0.0]  # a level map shows nothing


def test_overlap_does_not_depend_on_the_maps_resolution_or_scale():
    coarse = Places(*[Side(56, 14, 4, 0, 3)] * 2)
    values, box = np.zeros((14, 14)), square(16, 16, 24)[1]
    values[4:10, 4:10] = 1
    fine = box_overlap(np.kron(values, np.ones((4, 4)))[None, None], [{0: box}], GRID)
    assert fine[0] == 1
    assert box_overlap(5 * values[None, None] - 7, [{0: box}], coarse)[0] == pytest.approx(1, abs=0.1)


def test_steps_that_move_and_steps_that_do_not():
    (one, box_one), (two, box_two) = square(0, 0), square(42, 42)
    boxes = {3: box_one, 5: box_two}
    assert own_less_other([one, two], [3, 5], boxes, GRID) == [1, 1]
    assert own_less_other([one, one], [3, 5], boxes, GRID) == [1, -1]  # stays: nothing in the mean
    assert own_less_other([two, one], [3, 5], boxes, GRID) == [-1, -1]
    assert own_less_other([one, two], [3, 4], boxes, GRID) == []  # one label has no box


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    for values in (random.normal(size=(2, 40)), random.integers(0, 5, (2, 40)), [[1, 2, 3], [9, 4, 1]]):
        assert rank_correlation(*map(np.asarray, values)) == pytest.approx(stats.spearmanr(*values).statistic)
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4)))


def test_labels_that_come_together():
    labels = np.array([[1, 1, -1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]])
    expected = [[1, 2 / 3, 0], [2 / 3, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(together(labels), expected)
    assert of_pairs(together(labels)).tolist() == [2 / 3, 0, 0]


def test_large_related_labels_are_told_from_small_ones_that_are_alone():
    """Labels 0 and 1 are large and always together, 2 and 3 small and alone; 4 is large and alone, 5 has no box."""
    labels = -np.ones((12, 6), int)
    labels[:3, :2] = 1
    for image, label in ((4, 2), (5, 3), (6, 4), (7, 5), (8, 2), (9, 3)):
        labels[image, label] = 1
    big, small = [(0.0, 0.0, 0.8, 0.5)], [(0.1, 0.1, 0.2, 0.2)]
    boxes = [
        {label: big if label in (0, 1, 4) else small for label in np.flatnonzero(row == 1) if label != 5}
        for row in labels
    ]
    area, related = typical_area(boxes, 6), relatedness(labels)
    np.testing.assert_allclose(area[:5], [0.4, 0.4, 0.01, 0.01, 0.4])
    assert np.isnan(area[5]) and related[0] == pytest.approx(1 - 3 / 12) and related[2] < 0
    large, little = large_and_small(area, related)
    assert large.tolist() == [0, 1, 4] and little.tolist() == [2, 3]  # label 4 is the median of both


def test_areas_under_curves_are_sklearns():
    random = np.random.default_rng(0)
    answers, truth = random.integers(0, 6, (50, 4)).astype(float), random.random(50) < 0.4
    expected = [roc_auc_score(truth, answers[:, neuron]) for neuron in range(4)]
    np.testing.assert_allclose(areas_under_curves(answers, truth), expected)


def test_a_selective_neuron_is_found_and_many_blind_ones_are_not():
    random = np.random.default_rng(0)
    truth = random.random(400) < 0.5
    blind = random.normal(size=(400, 256))
    assert abs(selectivity(blind, truth) - 0.5) < 0.1  # the best of 256 on the same images would have 0.58 and more
    assert np.abs(areas_under_curves(blind, truth) - 0.5).max() > 0.07
    for sign in (1, -1):
        seeing = blind.copy()
        seeing[:, 17] = sign * truth + random.normal(0, 0.1, 400)
        assert selectivity(seeing, truth) > 0.99
    assert np.isnan(selectivity(blind, np.ones(400, bool)))


def test_questions_on_places_and_configurations():
    classes = ("a", "b", "a above b")
    left, right = [(0.0, 0.0, 0.2, 0.4)], [(0.7, 0.6, 0.9, 0.9)]
    boxes = [{0: left, 1: right, 2: [(0, 0, 1, 1)]}, {0: right}, {0: left * 2}]
    labels = np.array([[1, 1, 1], [1, -1, -1], [1, 1, -1]])
    questions = places(labels, classes, boxes)
    assert len(questions) == 4  # two of a, two of b, none of the relation
    asked, is_right = questions[0]
    assert asked.tolist() == [True, True, False]  # twice in the picture is no place
    assert is_right[asked].tolist() == [False, True]
    ((asked, holds),) = configurations(labels, classes, boxes)
    assert asked.tolist() == [True, False, True] and holds[asked].tolist() == [True, False]


def test_mean_selectivity_of_made_neurons():
    random = np.random.default_rng(0)
    truths = [random.random(200) < 0.5 for _ in range(2)]
    questions = [(np.ones(200, bool), truth) for truth in truths] + [(np.arange(200) < 5, truths[0])]  # too few images
    answers = np.stack([truths[0], truths[1], random.random(200)], 1).astype(float)
    assert mean_selectivity(answers, questions) == 0.5
    assert abs(mean_selectivity(random.normal(size=(200, 3)), questions)) < 0.15
    assert np.isnan(mean_selectivity(answers, questions[2:]))


def test_answers_are_those_of_the_net(shapes_model):
    net = DeployNet(shapes_model, folded=True, kept=["sr_conv3", "sr_conv4"])
    found = net.forward(check_images(3)[:1], ["sr_conv3", "sr_conv4"])
    kernels, bias = (blob.data for blob in net.net.params["sr_conv4"])
    expected = found["sr_conv4"].reshape(1, -1)
    np.testing.assert_allclose(answers_of(found["sr_conv3"], kernels, bias), expected, rtol=1e-3, atol=1e-5)
    assert (expected > 0).mean() > 0.1


def trained(folder, scores, labels):
    """A run whose stage 1 has predicted."""
    stage = folder / "stage1"
    stage.mkdir(parents=True, exist_ok=True)
    keys, classes = tuple(map(str, range(len(labels)))), tuple("abcdef"[: labels.shape[1]])
    Predictions(keys, classes, scores, labels.astype(np.int8)).save(stage / "predictions_test.npz")
    return Trained(RunFolder(folder), SYSTEM, folder)


def test_chance_is_what_labels_dealt_out_anew_give(tmp_path):
    """mAP of random scores on few positives is above their share: chance is measured, not taken from the share."""
    random = np.random.default_rng(0)
    labels = np.where(random.random((60, 6)) < 0.1, 1, -1)
    labels[:3] = 1
    noise, good = random.normal(size=(60, 6)), labels + random.normal(0, 0.1, (60, 6))
    run = trained(tmp_path, {"noise": noise.astype(np.float32), "good": good.astype(np.float32)}, labels)
    chance, share = mean_ap(1, noise=1).chance(run), evaluate(noise, labels).chance.mean()
    assert chance > share + 0.02
    assert abs(mean_ap(1, noise=1).of(run) - chance) < 0.15 and mean_ap(1, good=1).of(run) > 0.99
    assert mean_ap(1, good=1).chance(run) == pytest.approx(chance, abs=0.08)
    assert exact_sets(1, good=1).of(run) == 1 and exact_sets(1, good=1).chance(run) < 0.9


def test_means_of_scores(tmp_path):
    labels = np.array([[1, -1], [-1, 1], [1, -1], [-1, 1]])
    first, second = np.float32([[3, 0], [0, 0], [0, 0], [1, 0]]), np.float32([[0, 0], [0, 1], [4, 0], [0, 1]])
    run = trained(tmp_path, {"x": first, "y": second}, labels)
    expected = evaluate(0.75 * first + 0.25 * second, labels).mean_ap
    assert mean_ap(1, x=0.75, y=0.25).of(run) == expected != mean_ap(1, x=1).of(run)
    assert mean_ap(1, x=0.75, y=0.25).title == "mAP of 0.75 x + 0.25 y"
