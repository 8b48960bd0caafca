"""SIGKILL at random moments: parent, training process or both. The final weights are those of an undisturbed run."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from pysrn.train.stage import snapshots
from tests.srn import STAGE_NAMES
from tests.train.conftest import SHORT, assert_same_weights, call_run_stage

# Long enough that a fast machine is still in the stage when it is to be killed there again.
ITERATIONS = 400
LONG = ("--iterations", str(ITERATIONS), "--batch-size", "2", "--snapshot-every", "5", "--base-lr", "1e-4")
LONG += ("--validation-fraction", "0.2", "--validate-every", "25")


def children(pid):
    """Process ids of a process's children (Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_moment(folder, target, since, process, rng, seconds=120):
    """Wait until a stage's process is at work and has saved iteration `target`, then a little; or until it ended.

    Where that is saved already, the moment may be in the start of the process as well.
    """
    job, end, late = folder / "job.json", time.monotonic() + seconds, 0.6
    while time.monotonic() < end and process.poll() is None:
        if job.is_file() and job.stat().st_mtime > since:
            if max(snapshots.iterations(folder), default=0) >= target:
                time.sleep(rng.uniform(0, late))
                return
            late = 0.2
        time.sleep(0.005)


def kill(process, rng):
    """SIGKILL the command, its training process, or both; True when there was something to kill."""
    if process.poll() is not None:
        return False
    victims = {"parent": [process.pid], "child": children(process.pid)}
    victims["both"] = victims["child"] + victims["parent"]
    for pid in victims[rng.choice(list(victims))] or [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=120)
    return True


def run_through_kills(arguments, runs, data, moments, rng):
    """Begin the run again and again, killed at `moments` (stage, saved iteration), then end it; returns the kills."""
    killed = 0
    for stage, target in moments:
        started = time.time()
        process = call_run_stage("4", *arguments, runs=runs, data=data, wait=False)
        wait_for_moment(runs / f"shapes/stage{stage}", target, started, process, rng)
        killed += kill(process, rng)
    done = call_run_stage("4", *arguments, runs=runs, data=data)
    assert done.returncode == 0, done.stderr
    return killed


def assert_same_run(ours, theirs):
    for stage in STAGE_NAMES:
        name = f"shapes/stage{stage}/weights.caffemodel"
        assert_same_weights(ours / name, theirs / name)
        logs = [(runs / f"shapes/stage{stage}/log.csv").read_text().splitlines() for runs in (ours, theirs)]
        assert [line.split(",")[:3] for line in logs[0]] == [line.split(",")[:3] for line in logs[1]]


def test_three_kills_change_nothing(finished, small_data, tmp_path):
    moments = [(1, 0), (2, 2), (4, 0)]
    assert run_through_kills(("--iterations", "3", *SHORT), tmp_path, small_data, moments, random.Random(1)) >= 2
    assert_same_run(tmp_path, finished[0])


@pytest.mark.slow
def test_thirty_kills_in_all_four_stages_change_nothing(small_data, tmp_path):
    rng = random.Random(2026)
    moments = sorted((1 + number % 4, rng.randrange(ITERATIONS * 3 // 4)) for number in range(30))
    assert call_run_stage("4", *LONG, runs=tmp_path / "straight", data=small_data).returncode == 0
    assert run_through_kills(LONG, tmp_path / "killed", small_data, moments, rng) == 30
    assert_same_run(tmp_path / "killed", tmp_path / "straight")
