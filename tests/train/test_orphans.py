"""SIGKILL of one process alone: none is left behind, not even one that can do nothing itself, because it is stopped."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.holding import HANG, Hold, wait_until
from tests.train.conftest import SHORT, TRAINER, WITHOUT_END, named, stop, wait_for_iteration
from tests.train.test_parallel import MPIEXEC, needs_mpi, rank_processes

ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_command_leaves_no_stage(run_stage, tmp_path, family):
    process = run_stage("1", *WITHOUT_END, *SHORT, wait=False)
    wait_for_iteration(tmp_path / "runs/shapes/stage1", 2)
    trainer = named(family, TRAINER)
    stop(trainer)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG)
    wait_until(lambda: not family())
    assert trainer


@pytest.mark.parametrize("victim", [TRAINER, "pysrn.data.feed.worker"])
def test_a_killed_child_ends_the_command_and_all_others(run_stage, tmp_path, family, victim):
    process = run_stage("1", *WITHOUT_END, *SHORT, "--workers", "2", wait=False)
    wait_for_iteration(tmp_path / "runs/shapes/stage1", 2)
    os.kill(named(family, victim)[0], signal.SIGKILL)
    said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 1 and "Traceback" not in said and "SIGKILL" in said, said
    wait_until(lambda: not family())


@needs_mpi
@pytest.mark.parametrize("victim", ["run_stage.py", "mpiexec", "hydra_pmi_proxy"])
def test_a_killed_launcher_leaves_no_rank(run_stage, tmp_path, family, victim):
    folder = tmp_path / "runs/shapes/stage1"
    process = run_stage("1", *WITHOUT_END, *SHORT, "--ranks", "2", wait=False)
    wait_for_iteration(folder, 2)
    ranks = rank_processes(folder)
    stop(ranks)
    memory = shared_memory(ranks[0])
    victims = [pid for pid in named(family, victim) if pid not in ranks]
    for pid in victims if victim != "mpiexec" else victims[:1]:
        if victim != "run_stage.py" or pid == process.pid:
            os.kill(pid, signal.SIGKILL)
    said = process.communicate(timeout=HANG)[1]
    assert process.returncode != 0 and "Traceback" not in said, said
    wait_until(lambda: not family())
    assert len(ranks) == 2
    assert not [name for name in memory if Path(name).exists()]
    if "HYDRA" in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=True).stdout:
        assert memory


def shared_memory(process):
    """The files of MPICH's that a process shares with others; it says so of those that have no name any more."""
    return set(re.findall(r"/dev/shm/mpich_shm_\w+", Path(f"/proc/{process}/maps").read_text()))


@pytest.mark.parametrize("victim", ["the command", "a worker"])
def test_a_killed_prediction_leaves_no_worker(finished, small_data, tmp_path, family, victim):
    """Held in the first chunk that a worker writes."""
    words = [ROOT / "tools/predict.py", finished[0] / "shapes/stage1/weights.caffemodel", "--data", small_data]
    words += ["--workers", "2", "--batch-size", "2", "-o", tmp_path / "p.npz"]
    with Hold(tmp_path, "pysrn.predict.workers", r"chunk_\d+\.npz") as hold:
        environment = os.environ | hold.environment
        process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True, env=environment)
        hold.wait(process)
        workers = named(family, "pysrn.predict.workers")
        if victim == "the command":
            stop(workers)
        os.kill(process.pid if victim == "the command" else workers[0], signal.SIGKILL)
        said = process.communicate(timeout=HANG)[1]
    assert process.returncode == (-signal.SIGKILL if victim == "the command" else 1), said
    assert "Traceback" not in said and len(workers) == 2, said
    wait_until(lambda: not family())
