"""The toy system of `toy.py` at work: its data, its runs, and the command line tools that know it by PYSRN_SYSTEMS."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pysrn.data.build import build_dataset
from pysrn.data.pair.lmdb_pair import Encoding
from tests.systems.toy import STORED

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 500


def environment(systems="tests.systems.toy"):
    """The environment of a user who has the toy beside the package."""
    paths = os.pathsep.join([str(ROOT), *sys.path])
    return {**os.environ, "PYSRN_SYSTEMS": systems, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}


def command(name, *arguments):
    """The command line of a tool."""
    return [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """The folder that all commands are called in."""
    return tmp_path_factory.mktemp("toys")


@pytest.fixture(scope="session")
def call(place):
    """Calls a tool; asserts its exit code and that it never ends in a traceback."""

    def calling(name, *arguments, code=0, systems="tests.systems.toy"):
        options = {"capture_output": True, "text": True, "timeout": 120, "check": False}
        done = subprocess.run(command(name, *arguments), cwd=place, env=environment(systems), **options)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return calling


@pytest.fixture(scope="session")
def data(place):
    """40 training and 20 test images of the embedded data set in the size that the toy stores."""
    build_dataset("shapes", place / "data", counts={"train": 40, "test": 20}, encoding=Encoding(size=STORED), workers=2)
    return place / "data"


@pytest.fixture(scope="session")
def trained(call, data, place):
    """A finished run in runs/toy-shapes; what the plan, the training and the status said."""
    asked = ("run_stage", "--system", "toy", "--data", "data", "--iterations", ITERATIONS, "--snapshot-every", "100")
    plan = call(*asked, "--dry-run")
    assert not (place / "runs").exists()
    training = call(*asked)
    status = call("run_stage", "--run", "toy-shapes", "--status")
    run = place / "runs" / "toy-shapes"
    return SimpleNamespace(
        run=run, stage=run / "stage1", weights=run / "stage1" / "weights.caffemodel",
        plan=plan, training=training, status=status,
    )  # fmt: skip


@pytest.fixture(scope="session")
def resumed(data, place):
    """The same run under another name, interrupted once it has a snapshot, and told to go on."""
    asked = ("run_stage", "--system", "toy", "--data", "data", "--iterations", ITERATIONS, "--snapshot-every", "20")
    words = command(*asked, "--runs", "interrupted")
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(), "cwd": place}
    stage = place / "interrupted" / "toy-shapes" / "stage1"
    begun = subprocess.Popen(words, **options)
    end = time.monotonic() + 60
    while not list(stage.glob("iter_*.json")) and begun.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130, said
    reached = max(int(path.stem[5:]) for path in stage.glob("iter_*.json"))
    again = subprocess.run(words, **options, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    return SimpleNamespace(weights=stage / "weights.caffemodel", reached=reached, said=again.stderr)


@pytest.fixture(scope="session")
def predicted(call, trained):
    """The predictions file of the finished run's test split."""
    call("predict")  # the run finished last, its own data
    return trained.stage / "predictions_test.npz"
