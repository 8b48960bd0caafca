"""Two hosts, and the tools on them."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cluster import hosts as hosts_module
from tests.systems.toy import STORED
from tests.train.first_gradients import first_gradients, largest_difference

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    "PYSRN_SYSTEMS": "tests.systems.toy",
}


def tool(name, *words):
    """The command line of a tool."""
    return [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, words)]


def call(name, *words):
    """Call a tool on this machine."""
    done = subprocess.run(tool(name, *words), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def hosts(tmp_path_factory):
    """The hosts `node-a` and `node-b`."""
    if absent := hosts_module.missing():
        pytest.skip(absent)
    with hosts_module.Hosts(tmp_path_factory.mktemp("hosts")) as both:
        yield both


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    """A pair for the toy system."""
    folder = tmp_path_factory.mktemp("toys") / "data"
    call("make_lmdb", "shapes", "--out", folder, "--train", 16, "--test", 8, "--image-size", STORED)
    return folder


SRN = ("--batch-size", "4", "--snapshot-every", "2")


@pytest.fixture(scope="session")
def begun(tmp_path_factory):
    """A small set, and a run with stages 1 and 2 done by one process."""
    folder = tmp_path_factory.mktemp("begun")
    call("make_lmdb", "shapes", "--out", folder / "data", "--train", 16, "--test", 4)
    call("run_stage", 2, "--iterations", "1", *SRN, "--data", folder / "data", "--runs", folder / "runs")
    return folder


def losses(stage: Path) -> np.ndarray:
    with open(stage / "log.csv", newline="") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def like_one_process(begun: Path, folder: Path, ranks: Callable) -> str:
    """Stage 3, which has no batch statistics, by one process and by `ranks(words)`; how far they are apart."""
    found = []
    for name, run in (("one", lambda *words: call("run_stage", *words)), ("ranks", ranks)):
        runs = shutil.copytree(begun / "runs", folder / name)
        for iterations, more in ((1, ()), (5, ("--restart",))):
            words = ("--iterations", f"1,1,{iterations},1", *SRN, *more, "--data", begun / "data", "--runs", runs)
            run(3, *words)
        found.append((first_gradients(runs / "shapes/stage3.old1"), losses(runs / "shapes/stage3")))
    (expected, expected_losses), (gradients, of_ranks) = found
    largest, apart = largest_difference(gradients, expected), np.abs(of_ranks / expected_losses - 1).max()
    assert largest < 1e-5 and apart < 1e-3, (largest, apart)
    assert np.ptp(expected_losses) > 0.01
    return f"gradients {largest:.1e}, losses {apart:.1e}"
