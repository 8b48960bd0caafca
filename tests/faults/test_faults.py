"""Every tool fails at every call that changes or reads a disk: one clear line, nothing that passes for whole, goes on.

`shim.c` lets a call fail, `power_cut.py` loses what was not synced, `cases.py` has the tools, `points.py` tries.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.cases import CASES

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")  # a disk would take longer for what is brought to it
MODES = 9  # ways to fail; `points.py` has them


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The built library."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    words = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, ROOT / "tests/faults/shim.c", "-ldl"]
    subprocess.run(words, check=True)
    return library


@pytest.fixture
def room(tmp_path):
    """A folder in memory where there is one."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def try_points(shim, room, *words):
    """What `points.py` finds, a case each."""
    own = {"PYSRN_SYSTEMS": "tests.systems.toy", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    own |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "LD_PRELOAD": str(shim), "GLOG_minloglevel": "2"}
    command = [sys.executable, "-m", "tests.faults.points", room, *words]
    done = subprocess.run(list(map(str, command)), env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("stride", [149, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_call_fails(shim, room, stride):
    found = try_points(shim, room, *CASES, "--stride", stride)
    assert [one["case"] for one in found] == list(CASES)
    print(*found, sep="\n")
    assert not [(one["case"], fault) for one in found for fault in one["faults"]]
    assert sum(one["points"] for one in found) > 3000
    assert all(len(one["tried"]) == MODES for one in found)
    if stride == 1:
        assert sum(sum(one["tried"].values()) for one in found) == sum(one["points"] for one in found)


def test_what_a_power_cut_takes_from_files_that_got_their_name(shim, room):
    """Weights of PyTorch were renamed before they were on the disk, and rows of log.csv came behind their snapshot."""
    for case, stride in (("to_torch", 5), ("train", 13)):
        [found] = try_points(shim, room, case, "--modes", "power data", "--stride", stride)
        assert found["tried"]["power data"] > 5 and not found["faults"], found["faults"]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "stride"), [("build", 11), ("train", 17), ("cache", 5), ("to_torch", 7)])
def test_what_helps_depends_on_what_failed(shim, room, case, stride):
    """A disk that fails with EIO was told to be a full one; `points.check_words` looks for advice on room."""
    [found] = try_points(shim, room, case, "--modes", "eio", "edquot", "enospc", "--stride", stride)
    assert min(found["tried"].values()) > 2 and not found["faults"], found["faults"]


def test_the_shim_itself(shim, tmp_path):
    """What it lets fail fails; a run without a check would hold for any tool."""
    program = (
        "import os, sys\n"
        "path = sys.argv[1] + '/file'\n"
        "try:\n"
        "    with open(path, 'wb', buffering=0) as file:\n"
        "        wrote = file.write(b'12345678')\n"
        "        os.fsync(file.fileno())\n"
        "    os.rename(path, path + '2')\n"
        "    print(wrote, open(path + '2', 'rb', buffering=0).read(3))\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
    )

    def said(mode, number):
        place, notes = tmp_path / "place", tmp_path / "notes"
        for folder in (place, notes):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        own = {"LD_PRELOAD": str(shim), "SRN_FAULT_FOLDERS": str(place), "SRN_FAULT_NOTES": str(notes)}
        own |= {"SRN_FAULT_MODE": mode, "SRN_FAULT_NUMBER": str(number)}
        words = [sys.executable, "-c", program, str(place)]
        done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.returncode

    assert [said("eio", number) for number in range(1, 6)] == ["Input/output error"] * 4 + ["8 b'123'"]
    assert said("edquot", 2) == "Disk quota exceeded"
    assert said("enospc", 2) == "No space left on device"  # of the fsync behind half a write
    assert said("short", 1) == "4 b'123'"
    assert [said("read", number) for number in (1, 2)] == ["Input/output error"] * 2
    assert [said("kill", number) for number in (1, 4)] == [-9, -9]
