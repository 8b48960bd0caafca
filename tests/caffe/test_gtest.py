"""Caffe's own unit tests (googletest), and ours beside them, with every part of the engine and with none.

CAFFE_TESTS names a folder that `docker/caffe/build.sh --tests` has made; without it the test makes one, which takes
some ten minutes on two cores.
"""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest

from tests.caffe import engine

BUILD = engine.ROOT / "docker/caffe/build.sh"
# Names of tests that may fail. These sleep for 300 ms and expect 330 at most: on a busy machine it is more.
TIMED = frozenset(f"BenchmarkTest/{n}.TestTimer{unit}" for n in (0, 1) for unit in ("MilliSeconds", "Seconds"))
EXPECTED_FAILURES: dict[str, frozenset[str]] = {engine.STOCK: TIMED, engine.ALL: TIMED}
FEWEST = 1164  # tests that need no GPU: Caffe's 1138 and 26 of ours; none may get lost on the way
# Tests of what is on a GPU: they end a program that was built without CUDA.
WITHOUT_GPU = "--gtest_filter=-*GPU*"


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder made by build.sh --tests."""
    if named := os.environ.get("CAFFE_TESTS"):
        if not Path(named, "test/test.testbin").is_file():
            pytest.fail(f"CAFFE_TESTS={named} has no test/test.testbin: docker/caffe/build.sh --tests FOLDER makes it")
        return Path(named)
    missing = subprocess.run([engine.ROOT / "docker/missing-packages"], capture_output=True, text=True, check=False)
    if missing.returncode or missing.stdout.strip():
        pytest.skip(f"Debian packages are missing: {missing.stdout or missing.stderr}")
    made = tmp_path_factory.mktemp("gtest") / "caffe"
    built = subprocess.run([BUILD, "--tests", made], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return made


def run_tests(prefix: Path, report: Path, setting: str) -> tuple[int, dict[str, str]]:
    """How many tests ran, and the message of each that failed."""
    command = [prefix / "test/test.testbin", WITHOUT_GPU, f"--gtest_output=xml:{report}"]
    # The tests look for their files below the current folder.
    done = subprocess.run(
        command, cwd=prefix / "test", env=engine.environment(setting), capture_output=True, text=True, check=False
    )
    # A failed CHECK ends the program, and leaves no report.
    assert report.is_file(), f"exit code {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    cases = [case for case in xml.etree.ElementTree.parse(report).iter("testcase") if case.get("status") == "run"]
    failures = {
        f"{case.get('classname')}.{case.get('name')}": "\n".join(one.get("message", "") for one in case.iter("failure"))
        for case in cases
        if case.find("failure") is not None
    }
    assert bool(failures) == bool(done.returncode), done.stdout[-1500:]
    return len(cases), failures


@pytest.mark.slow
@pytest.mark.parametrize("setting", [engine.STOCK, engine.ALL])
def test_caffes_own_tests(setting: str, prefix: Path, tmp_path: Path) -> None:
    count, failures = run_tests(prefix, tmp_path / "report.xml", setting)
    assert count >= FEWEST
    unexpected = {name: message for name, message in failures.items() if name not in EXPECTED_FAILURES[setting]}
    assert not unexpected
