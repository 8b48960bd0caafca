"""A small embedded data set, and the command line of run_stage in a process of its own."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pysrn.data.build import build_dataset
from pysrn.nets.caffemodel import read_weights

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--batch-size", "2", "--snapshot-every", "2")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """48 training and 16 test images of the embedded data set, as LMDB pairs."""
    folder = tmp_path_factory.mktemp("data")
    build_dataset("shapes", folder / "shapes", counts={"train": 48, "test": 16})
    return folder / "shapes"


def call_run_stage(*arguments, runs: Path, data: Path, wait: bool = True):
    """Call tools/run_stage.py as a user would; `wait=False` returns the running process."""
    command = [sys.executable, str(ROOT / "tools" / "run_stage.py"), *map(str, arguments)]
    command += ["--runs", str(runs), "--data", str(data)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    if wait:
        return subprocess.run(command, **options, timeout=300)
    return subprocess.Popen(command, **options)


@pytest.fixture(scope="session")
def finished(small_data, tmp_path_factory):
    """One run of all four stages, three iterations each; its folder and what was printed."""
    runs = tmp_path_factory.mktemp("finished")
    done = call_run_stage("4", "--iterations", "3", *SHORT, runs=runs, data=small_data)
    assert done.returncode == 0, done.stderr
    return runs, done


def wait_for_iteration(folder, iteration, seconds=120):
    """Wait until a snapshot of at least `iteration` is on disk."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(int(path.stem[5:]) >= iteration for path in folder.glob("iter_*.json")):
            return
        time.sleep(0.02)
    raise AssertionError(f"no snapshot of iteration {iteration} in {folder}")


def assert_same_weights(first, second):
    """Two caffemodels hold the same layers, bit by bit."""
    ours, theirs = read_weights(first), read_weights(second)
    assert list(ours) == list(theirs)
    for name in ours:
        for mine, their in zip(ours[name], theirs[name], strict=True):
            assert mine.tobytes() == their.tobytes(), name


@pytest.fixture
def run_stage(small_data, tmp_path):
    """`call_run_stage` with the test's own runs folder and the small data set."""
    return partial(call_run_stage, runs=tmp_path / "runs", data=small_data)
