"""A small embedded data set, and the command line of run_stage in a process of its own."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from pysrn.data.build import build_dataset
from pysrn.nets.caffemodel import read_weights
from tests.holding import HANG, Hold, wait_until

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--batch-size", "2", "--snapshot-every", "2")
WITHOUT_END = ("--iterations", "1000000")  # for stages that a test ends
MARK = "SRN_TEST_MARK"  # in the environment of a test's processes
TRAINER, COMMAND = "pysrn.train.stage.runner", "run_stage.py"  # programs that a test holds


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """48 training and 16 test images of the embedded data set, as LMDB pairs."""
    folder = tmp_path_factory.mktemp("data")
    build_dataset("shapes", folder / "shapes", counts={"train": 48, "test": 16})
    return folder / "shapes"


def call_run_stage(*arguments, runs: Path, data: Path, wait: bool = True, hold: Hold | None = None):
    """Call tools/run_stage.py as a user would; `wait=False`, or a moment to hold it at, returns the running process."""
    command = [sys.executable, str(ROOT / "tools" / "run_stage.py"), *map(str, arguments)]
    command += ["--runs", str(runs), "--data", str(data)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    if hold:
        environment |= hold.environment
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    if wait and not hold:
        return subprocess.run(command, **options, timeout=HANG)
    return subprocess.Popen(command, **options)


@pytest.fixture(scope="session")
def finished(small_data, tmp_path_factory):
    """One run of all four stages, three iterations each; its folder and what was printed."""
    runs = tmp_path_factory.mktemp("finished")
    done = call_run_stage("4", "--iterations", "3", *SHORT, runs=runs, data=small_data)
    assert done.returncode == 0, done.stderr
    return runs, done


def wait_for_iteration(folder, iteration):
    """Wait until a snapshot of at least `iteration` is on disk. What trains goes on: only for a stage without end."""
    wait_until(lambda: any(int(path.stem[5:]) >= iteration for path in folder.glob("iter_*.json")))


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


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A function: the processes (id -> words) that this test has started, and those that they have."""
    monkeypatch.setenv(MARK, str(tmp_path))
    own = f"{MARK}={tmp_path}".encode()

    def alive():
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if own in (folder / "environ").read_bytes().split(b"\0") and state != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended meanwhile
                continue
        found.pop(os.getpid(), None)
        return found

    yield alive
    for pid in alive():
        os.kill(pid, signal.SIGKILL)


def named(family, *words):
    return [pid for pid, command in family().items() if any(word in command for word in words)]


def stop(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
