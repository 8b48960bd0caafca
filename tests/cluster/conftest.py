"""Two hosts, and the tools on them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import hosts as hosts_module
from tests.systems.toy import STORED

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
