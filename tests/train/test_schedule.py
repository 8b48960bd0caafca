"""The plateau schedule against PyTorch's, its state through JSON, and when it ends a stage."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pysrn.train.stage.schedule import Rules, Schedule, State, rules_of
from tests.srn import RECIPES

RULES = Rules("plateau", gamma=0.1, patience=2, min_lr=1e-5, validate_every=10)


def rates(schedule, losses):
    """The rate after each of the losses, validated every ten iterations, until the stage ends."""
    seen = []
    for number, loss in enumerate(losses, start=1):
        schedule.observe(10 * number, loss)
        if schedule.state.ended:
            break
        seen.append(schedule.state.lr)
    return seen


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_rates_are_those_of_torch_reduce_on_plateau(patience, gamma):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(patience)
    for _ in range(20):
        losses = np.cumsum(rng.normal(-0.02, 0.3, 60)) + 10
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
        reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=gamma, patience=patience - 1, threshold=0, min_lr=1e-5, eps=0
        )
        expected = []
        for loss in losses:
            reference.step(loss)
            expected.append(optimizer.param_groups[0]["lr"])
        ours = rates(Schedule(replace(RULES, gamma=gamma, patience=patience), State(1e-3)), losses)
        np.testing.assert_allclose(ours, expected[: len(ours)], rtol=1e-12)


def test_a_plateau_at_the_lowest_rate_ends_the_stage():
    schedule = Schedule(RULES, State(1e-3))
    told = [line for number in range(1, 8) for line in schedule.observe(10 * number, 5.0)]
    assert schedule.state.ended and schedule.state.best_iteration == 10
    assert [line.partition(":")[0] for line in told] == ["iteration 30", "iteration 50", "iteration 70"]
    assert "learning rate 0.0001 " in told[0] and "learning rate 1e-05 " in told[1] and "ends here" in told[2]


def test_the_state_goes_through_json_in_the_middle():
    losses = [5.0, 4.0, 4.5, 4.4, 4.3, 3.0, 3.1, 3.2, 3.3]
    whole = Schedule(RULES, State(1e-3))
    expected = rates(whole, losses)
    for cut in range(1, len(losses)):
        first = Schedule(RULES, State(1e-3))
        rates(first, losses[:cut])
        second = Schedule(
            Rules(**json.loads(json.dumps(RULES.__dict__))), State(**json.loads(json.dumps(first.record())))
        )
        after = []
        for number, loss in enumerate(losses[cut:], start=cut + 1):
            second.observe(10 * number, loss)
            after.append(second.state.lr)
        assert after == expected[cut:] and second.record() == whole.record()


def test_when_a_validation_is_due():
    schedule = Schedule(RULES, State(1e-3))
    assert [n for n in range(31) if schedule.due(n, last=False)] == [10, 20, 30]
    assert schedule.due(7, last=True)
    schedule.observe(20, 1.0)
    assert not schedule.due(20, last=False) and not schedule.due(20, last=True)
    assert not Schedule(replace(RULES, validate_every=None), State(1e-3)).due(10, last=True)


def test_multistep_keeps_the_best_figure_and_changes_nothing():
    schedule = Schedule(replace(RULES, kind="multistep"), State(1e-3))
    assert rates(schedule, [3.0, 2.0, *[4.0] * 50]) == [1e-3] * 52
    assert schedule.state.best_iteration == 20 and not schedule.state.ended


def test_rules_come_from_the_recipe():
    coco = RECIPES["coco"]
    rules, plan = rules_of(coco, 1), coco.stages[0]
    assert rules == Rules("plateau", plan.gamma, plan.patience, plan.min_lr, plan.validate_every)
    assert rules_of(replace(coco, validation_fraction=0.0), 1).validate_every is None
