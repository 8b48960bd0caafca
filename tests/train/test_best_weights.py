"""A stage that ends with its best weights: whose they are, that a harmful joint stage changes none, and resuming."""

import csv
import json
import shutil
import signal

import pytest

from pysrn.nets.caffemodel import read_weights
from pysrn.train.stage import snapshots
from tests.holding import HANG, Hold
from tests.train.conftest import SHORT, TRAINER, assert_same_weights, call_run_stage

HELD_OUT = ("--validation-fraction", "0.25", "--validate-every", "1")
BEST = (*SHORT, *HELD_OUT, "--ends-with", "best", "--keep", "1")


def manifest_of(stage):
    return json.loads((stage / "manifest.json").read_text())


def validated(stage):
    """Iteration -> validation loss."""
    with open(stage / "validation.csv", newline="") as file:
        return {int(row["iteration"]): float(row["loss"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def three_stages(small_data, tmp_path_factory):
    """Stages 1 to 3, which are of their best weights."""
    runs = tmp_path_factory.mktemp("best")
    done = call_run_stage(
        "3", "--iterations", "4", "--base-lr", "0.03,0.01,0.01,0.005", *BEST, runs=runs, data=small_data
    )
    assert done.returncode == 0, done.stderr
    return runs


def test_a_stage_ends_with_the_weights_of_its_lowest_validation_loss(small_data, tmp_path):
    arguments = ("1", "--iterations", "6", "--base-lr", "0.1", *BEST)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    done = call_run_stage(*arguments, runs=straight, data=small_data)
    assert done.returncode == 0 and "ends with its best weights" in done.stderr, done.stderr
    stage = straight / "shapes/stage1"
    losses = validated(stage)
    best = min(losses, key=losses.get)
    assert best < 6 and 0 not in losses, "the case shows nothing: give it a rate that harms sooner"
    assert manifest_of(stage)["weights_of"] == best and manifest_of(stage)["iterations"] == 6
    assert f"of iteration {best}" in done.stderr
    assert_same_weights(stage / "weights.caffemodel", snapshots.file_of(stage, best, snapshots.WEIGHTS))
    with pytest.raises(AssertionError):
        assert_same_weights(stage / "weights.caffemodel", snapshots.file_of(stage, 6, snapshots.WEIGHTS))

    with Hold(tmp_path, TRAINER, r"stage1/iter_000006\.json$") as hold:
        process = call_run_stage(*arguments, runs=broken, data=small_data, hold=hold)
        hold.wait(process)
        hold.interrupt(process, signal.SIGKILL)
        process.communicate(timeout=HANG)
    assert call_run_stage(*arguments, runs=broken, data=small_data).returncode == 0
    assert_same_weights(stage / "weights.caffemodel", broken / "shapes/stage1/weights.caffemodel")


def test_a_joint_stage_that_only_harms_ends_with_what_it_began_with(three_stages, small_data, tmp_path):
    shutil.copytree(three_stages / "shapes", tmp_path / "shapes")
    done = call_run_stage("4", runs=tmp_path, data=small_data)
    assert done.returncode == 0, done.stderr
    stage = tmp_path / "shapes/stage4"
    losses = validated(stage)
    assert min(losses, key=losses.get) == 0 and len(losses) == 5, "the case shows nothing: its rate must harm at once"
    assert manifest_of(stage)["weights_of"] == 0 and "those that it began with" in done.stderr
    ours, before = (read_weights(tmp_path / f"shapes/stage{number}/weights.caffemodel") for number in (4, 3))
    assert set(ours) == set(before)
    assert all(a.tobytes() == b.tobytes() for name in ours for a, b in zip(ours[name], before[name], strict=True))
    # its weights can be made again
    (stage / "weights.caffemodel").unlink()
    assert call_run_stage("4", runs=tmp_path, data=small_data).returncode == 0
    assert_same_weights(stage / "weights.caffemodel", three_stages / "shapes/stage3/weights.caffemodel")


def test_a_damaged_best_snapshot_is_named(three_stages, small_data, tmp_path):
    shutil.copytree(three_stages / "shapes", tmp_path / "shapes")
    stage = tmp_path / "shapes/stage1"
    best = manifest_of(stage)["weights_of"]
    if best == manifest_of(stage)["iterations"]:
        pytest.skip("the last weights were the best")
    snapshots.file_of(stage, best, snapshots.WEIGHTS).write_bytes(b"damaged")
    (stage / "weights.caffemodel").unlink()
    done = call_run_stage("1", runs=tmp_path, data=small_data)
    assert done.returncode == 1 and "of the lowest validation loss, is damaged" in done.stderr, done.stderr
    assert "--restart" in done.stderr
