"""SIGKILL at random moments: parent, training process or both. The final weights are those of an undisturbed run."""

import contextlib
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from pysrn.train.stage import snapshots
from tests.holding import HANG, Hold, wait_until
from tests.srn import STAGE_NAMES
from tests.train.conftest import SHORT, assert_same_weights, call_run_stage

ITERATIONS = 400
LONG = ("--iterations", str(ITERATIONS), "--batch-size", "2", "--snapshot-every", "5", "--base-lr", "1e-4")
LONG += ("--validation-fraction", "0.2", "--validate-every", "25")


def children(pid):
    """Process ids of a process's children (Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def end_of(folder, target, room, iterations):
    """What a stage is held at, so that no machine is too fast to be killed in it: a regular expression.

    It is the first snapshot that is `room` iterations behind `target` and behind what is saved; where there is none,
    the stage's manifest, which is written last.
    """
    first = max([target, *snapshots.iterations(folder)]) + room + 1
    names = [f"iter_{number:06d}" for number in range(first, iterations + 1)]
    return rf"{re.escape(folder.name)}/({'|'.join([*names, 'manifest'])})\.json$"


def wait_for_moment(folder, target, since, process, rng, hold):
    """Wait until a stage's process is at work and has saved iteration `target`, then a little; or until it is held.

    Where that is saved already, the moment may be in the start of the process as well.
    """
    job, late = folder / "job.json", [0.6]

    def there():
        if hold.reached or process.poll() is not None:
            return True
        if not job.is_file() or job.stat().st_mtime <= since:
            return False
        if max(snapshots.iterations(folder), default=0) >= target:
            return True
        late[0] = 0.2
        return False

    wait_until(there)
    time.sleep(rng.uniform(0, late[0]))


def kill(process, rng):
    """SIGKILL the command, its training process, or both; True when there was something to kill."""
    if process.poll() is not None:
        return False
    victims = {"parent": [process.pid], "child": children(process.pid)}
    victims["both"] = victims["child"] + victims["parent"]
    kill_all(process, victims[rng.choice(list(victims))] or [process.pid])
    return True


def kill_all(process, victims):
    """SIGKILL processes and wait for the end of the command."""
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=HANG)


def run_through_kills(arguments, runs, data, moments, rng, room, iterations, last="4", run="shapes"):
    """Begin the run again and again, killed at `moments` (stage, saved iteration), then end it; returns the kills."""
    killed = 0
    runs.mkdir(exist_ok=True)
    for stage, target in moments:
        started, folder = time.time(), runs / f"{run}/stage{stage}"
        with Hold(runs, "", end_of(folder, target, room, iterations)) as hold:
            process = call_run_stage(last, *arguments, runs=runs, data=data, hold=hold)
            wait_for_moment(folder, target, started, process, rng, hold)
            killed += kill(process, rng)
    done = call_run_stage(last, *arguments, runs=runs, data=data)
    assert done.returncode == 0, done.stderr
    return killed


def assert_same_run(ours, theirs, stages=STAGE_NAMES, run="shapes"):
    for stage in stages:
        name = f"{run}/stage{stage}/weights.caffemodel"
        assert_same_weights(ours / name, theirs / name)
        logs = [(runs / f"{run}/stage{stage}/log.csv").read_text().splitlines() for runs in (ours, theirs)]
        assert [line.split(",")[:3] for line in logs[0]] == [line.split(",")[:3] for line in logs[1]]


def test_three_kills_change_nothing(finished, small_data, tmp_path):
    moments = [(1, 0), (2, 2), (4, 0)]
    arguments = ("--iterations", "3", *SHORT)
    assert run_through_kills(arguments, tmp_path, small_data, moments, random.Random(1), 0, 3) == 3
    assert_same_run(tmp_path, finished[0])


@pytest.mark.slow
def test_thirty_kills_in_all_four_stages_change_nothing(small_data, tmp_path):
    rng = random.Random(2026)
    moments = sorted((1 + number % 4, rng.randrange(ITERATIONS * 3 // 4)) for number in range(30))
    assert call_run_stage("4", *LONG, runs=tmp_path / "straight", data=small_data).returncode == 0
    assert run_through_kills(LONG, tmp_path / "killed", small_data, moments, rng, 20, ITERATIONS) == 30
    assert_same_run(tmp_path / "killed", tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("system", ["cnn_rnn", "msrn"])
def test_thirty_kills_in_the_last_stage_of_another_system_change_nothing(system, small_data, tmp_path):
    """With dropout, RMSProp and shared weights; with the label branch and its constants."""
    rng, run, iterations = random.Random(7), f"{system}-shapes", 200
    words = ("--system", system, "--iterations", f"2,{iterations}", "--batch-size", "2", "--snapshot-every", "5")
    moments = sorted((2, rng.randrange(iterations * 3 // 4)) for _ in range(30))
    assert call_run_stage("2", *words, runs=tmp_path / "straight", data=small_data).returncode == 0
    kills = run_through_kills(words, tmp_path / "killed", small_data, moments, rng, 20, iterations, "2", run)
    assert kills == 30
    assert_same_run(tmp_path / "killed", tmp_path / "straight", (1, 2), run)
