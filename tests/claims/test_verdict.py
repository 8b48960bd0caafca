"""The statistics of the claims on made data whose truth is known, and the rule word by word."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pysrn.claims.claim import ALONE, WHOLE, Try, claims, tries
from pysrn.claims.page import page
from pysrn.claims.record import Record
from pysrn.claims.verdict import (
    FAILS,
    FEWEST,
    GAIN,
    HOLDS,
    NO_LOSS,
    NOT_RUN,
    QUANTILES,
    RULE,
    UNDECIDED,
    of_fact,
    t_interval,
    together,
    verdict,
)
from tests.srn import RECIPES

SURE = [30.0, 31.0, 29.5]  # far above chance


def test_quantiles_are_students():
    for freedom, quantile in enumerate(QUANTILES, 1):
        assert quantile == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-4)


def test_interval_is_scipys():
    for values in ([1.4, 0.03, 2.66, 1.63, 0.37, 2.32], [1.0, 2.0], list(range(31))):
        found = t_interval(values)
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-4)
        assert found.mean == pytest.approx(np.mean(values)) and found.count == len(values)


@pytest.mark.parametrize("count", [3, 5, 12])
def test_interval_has_the_truth_in_95_of_100_cases(count):
    """4,000 made experiments: the share that holds the true difference is 95 %, give or take three of its errors."""
    random, truth, cases = np.random.default_rng(0), 1.3, 4000
    inside = 0
    for _ in range(cases):
        found = t_interval(truth + random.normal(0, 2, count))
        inside += found.low <= truth <= found.high
    assert abs(inside / cases - 0.95) < 3 * np.sqrt(0.95 * 0.05 / cases)


def test_pairs_see_what_unpaired_runs_hide():
    """A seed lifts both nets alike: the difference is sure in pairs, and lost between two independent means."""
    random = np.random.default_rng(1)
    seeds = random.normal(80, 5, 8)
    ours, theirs = seeds + 1 + random.normal(0, 0.2, 8), seeds + random.normal(0, 0.2, 8)
    found = t_interval(ours - theirs)
    assert found.low > 0.7 and found.high < 1.3
    assert verdict(GAIN, ours - theirs, ours - 30) == HOLDS
    assert stats.ttest_ind(ours, theirs).pvalue > 0.3
    apart = t_interval(ours - random.permutation(theirs))  # paired wrongly: as wide as the seeds are apart
    assert apart.high - apart.low > 5 * (found.high - found.low)


@pytest.mark.parametrize(
    ("kind", "differences", "expected"),
    [
        (GAIN, [1.4, 1.5, 1.6], HOLDS),
        (GAIN, [1.4, -1.5, 1.6], UNDECIDED),
        (GAIN, [0.0, 0.1, -0.1], FAILS),  # a tie, and surely no gain of half a point
        (GAIN, [0.0, 0.0, 0.0], FAILS),  # equal to the last bit
        (GAIN, [0.3, 0.31, 0.29], FAILS),  # sure, and too small to count
        (GAIN, [0.6, 0.6, 0.6], HOLDS),
        (GAIN, [-2.0, -2.1, -1.9], FAILS),
        (NO_LOSS, [0.0, 0.1, -0.1], HOLDS),
        (NO_LOSS, [-0.5, -0.6, -0.4], HOLDS),  # a loss within the margin
        (NO_LOSS, [-2.0, -2.1, -1.9], FAILS),
        (NO_LOSS, [-2.0, 2.0, 0.0], UNDECIDED),
        (NO_LOSS, [3.0, 3.1, 2.9], HOLDS),
    ],
)
def test_rule(kind, differences, expected):
    assert verdict(kind, differences, SURE) == expected


@pytest.mark.parametrize("count", range(1, FEWEST))
def test_few_seeds_give_no_verdict(count):
    assert verdict(GAIN, [5.0] * count, SURE[:count]) == UNDECIDED
    assert t_interval([5.0]).low == -np.inf and t_interval([5.0]).high == np.inf


@pytest.mark.parametrize("kind", [GAIN, NO_LOSS])
def test_a_net_that_learned_nothing_fails_whatever_the_difference(kind):
    assert verdict(kind, [3.0, 3.1, 2.9], [0.2, -0.3, 0.1]) == FAILS
    assert verdict(kind, [3.0, 3.1, 2.9], [0.0, 0.0, 0.0]) == FAILS
    assert verdict(kind, [3.0, 3.1, 2.9], SURE) == HOLDS


def test_what_is_no_number_never_holds():
    nan = float("nan")
    assert verdict(GAIN, [1.0, nan, 1.1], SURE) != HOLDS
    assert verdict(GAIN, [1.0, 1.2, 1.1], [nan, 3.0, 3.0]) == FAILS


def test_true_ties_seldom_hold():
    """Of made ties at most 2.5 % look like a gain; of gains of 3 points with this spread most do."""
    random, cases = np.random.default_rng(2), 2000
    share = {
        gain: np.mean(
            [verdict(GAIN, gain + random.normal(0, 1, 5), [30.0] * 4 + [31.0]) == HOLDS for _ in range(cases)]
        )
        for gain in (0.0, 3.0)
    }
    assert share[0.0] < 0.035 and share[3.0] > 0.9


def test_facts_and_claims():
    assert of_fact(6.586, 5, 7) == HOLDS and of_fact(3.875, 5, 7) == FAILS and of_fact(5, 5, 7) == HOLDS
    assert together([]) == NOT_RUN and together([HOLDS, HOLDS]) == HOLDS
    assert together([HOLDS, UNDECIDED]) == UNDECIDED and together([UNDECIDED, FAILS, HOLDS]) == FAILS


def test_the_page_is_made_of_the_record_and_has_every_claim():
    docs = Path(__file__).resolve().parents[2] / "docs"
    written = (docs / "claims.md").read_text("utf-8")
    assert written == page(Record(docs)) and RULE in written
    keys = [f"{letter}{number}" for letter, most in (("S", 9), ("C", 5), ("M", 3)) for number in range(1, most + 1)]
    assert list(claims()) == keys
    assert all(f"\n| {key} | " in written for key in keys)


def test_contestants_of_a_choice_get_as_many_tries():
    for system in dict.fromkeys(system for system, _ in claims().values()):
        found = tries(system)
        assert {WHOLE, ALONE} == found.keys() and len({len(several) for several in found.values()}) == 1


def test_a_try_multiplies_what_the_recipe_has():
    recipe = RECIPES["shapes"]
    words = Try("x", lengths=(1, 1, 3, 1), rates=(1, 1, 1, 0.5)).words(recipe)
    assert words == ["--iterations", "650,130,1350,170", "--base-lr", "0.03,0.003,0.01,0.0015"]
    assert Try("as it is").words(recipe) == []
