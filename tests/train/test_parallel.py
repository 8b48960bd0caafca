"""Several ranks, started by a real launcher: the gradients and losses of one process, and one end for all of them."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pysrn.console import MissingError, UsageError
from pysrn.nets.caffemodel import read_weights
from pysrn.train.launch import Launch, broken_rank, refuse_launched_command
from pysrn.train.stage import snapshots
from tests.holding import HANG, Hold, wait_until
from tests.train.conftest import WITHOUT_END, assert_same_weights, call_run_stage, wait_for_iteration
from tests.train.first_gradients import first_gradients, largest_difference

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
HAS_MPI = MPIEXEC is not None and find_spec("mpi4py") is not None
needs_mpi = pytest.mark.skipif(not HAS_MPI, reason="no MPI: pip install mpi4py mpich")
SHORT = ("--batch-size", "4", "--snapshot-every", "2")
PLATEAU = ("--schedule", "plateau", "--validation-fraction", "0.25", "--validate-every", "3", "--patience", "2")


def losses(stage: Path) -> np.ndarray:
    with open(stage / "log.csv", newline="") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def rank_processes(folder: Path) -> list[int]:
    """Process ids of the ranks that train in a stage folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        is_python = Path(os.fsdecode(words[0])).name.startswith("python")  # and not their launcher
        if b"pysrn.train.stage.rank" in words and words[-2] == bytes(folder) and is_python:
            found.append(int(path.parent.name))
    return sorted(found)


def rank_of(process: int) -> int:
    """Which rank a process is; a launcher tells it in the environment."""
    return int(re.search(rb"\0PMI_RANK=(\d+)\0", b"\0" + Path(f"/proc/{process}/environ").read_bytes())[1])


def ranks_are_gone(folder: Path) -> bool:
    """Wait until none of them is left."""
    wait_until(lambda: not rank_processes(folder))
    return not rank_processes(folder)


@pytest.fixture(scope="module")
def begun(small_data, tmp_path_factory):
    """A run with stages 1 and 2 done by one process."""
    runs = tmp_path_factory.mktemp("begun")
    done = call_run_stage("2", "--iterations", "2", *SHORT, runs=runs, data=small_data)
    assert done.returncode == 0, done.stderr
    return runs


@needs_mpi
def test_two_ranks_do_what_one_does(begun, run_stage, tmp_path):
    """Stage 3, which has no batch statistics: gradients and losses are those of one process with the whole batch."""
    found = {}
    for ranks in (1, 2):
        runs = tmp_path / str(ranks)
        shutil.copytree(begun, runs)
        for iterations in ("1", "5"):
            arguments = ("3", "--iterations", f"2,2,{iterations},2", *SHORT, "--ranks", ranks)
            done = run_stage(*arguments, *(["--restart"] if iterations == "5" else []), runs=runs)
            assert done.returncode == 0, done.stderr
        found[ranks] = first_gradients(runs / "shapes/stage3.old1"), losses(runs / "shapes/stage3")
    assert largest_difference(found[2][0], found[1][0]) < 1e-5  # issue: 1e-5, norm of each blob
    np.testing.assert_allclose(found[2][1], found[1][1], rtol=1e-3)
    assert np.ptp(found[1][1]) > 0.01


@needs_mpi
def test_running_statistics_are_the_mean_over_the_ranks(run_stage, tmp_path):
    """The first BN layer sees conv1's output of the same images; the mean of two halves is the mean of the whole."""
    weights = {}
    for ranks in (1, 2):
        done = run_stage("1", "--iterations", "1", *SHORT, "--ranks", ranks, runs=tmp_path / str(ranks))
        assert done.returncode == 0, done.stderr
        weights[ranks] = read_weights(tmp_path / f"{ranks}/shapes/stage1/weights.caffemodel")
    (mean, variance, count), (whole_mean, whole_variance, whole_count) = (weights[n]["bn_conv1"] for n in (2, 1))
    np.testing.assert_allclose(mean, whole_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, whole_variance, rtol=0.2)  # of halves: about the same
    assert count == whole_count


@needs_mpi
def test_going_on_with_another_number_of_ranks_is_said_and_recorded(begun, run_stage, tmp_path):
    shutil.copytree(begun, tmp_path / "runs")
    folder = tmp_path / "runs/shapes/stage2"
    assert json.loads((folder / "manifest.json").read_text())["ranks"] == [1]
    (folder / "manifest.json").unlink()
    done = run_stage("2", "--ranks", "2")
    assert done.returncode == 0 and "stage 2 was begun with --ranks 1 and goes on with 2" in done.stderr, done.stderr
    assert json.loads((folder / "manifest.json").read_text())["ranks"] == [1, 2]


@needs_mpi
def test_a_killed_rank_ends_the_job_and_the_same_command_goes_on_bit_for_bit(run_stage, tmp_path):
    """With a rate that depends on the validation loss, which rank 0 alone finds."""
    arguments = ("1", "--iterations", "30", *SHORT, "--ranks", "2", *PLATEAU)
    assert run_stage(*arguments, runs=tmp_path / "straight").returncode == 0
    folder = tmp_path / "runs/shapes/stage1"
    reached = 0
    for victim in (1, 0, None):  # None: Ctrl-C
        moment = reached + 4 - reached % 2  # a snapshot, and one at least before it
        with Hold(tmp_path, "pysrn.train.stage.rank", rf"stage1/iter_{moment:06d}\.json$", stdin=True) as hold:
            process = run_stage(*arguments, hold=hold)
            hold.wait(process)
            own = rank_processes(folder)
            assert len(own) == 2
            if victim is None:
                hold.interrupt(process, signal.SIGINT)
            else:  # the other one does nothing more: rank 0 is held, or 1 waits for rank 0
                os.kill(next(pid for pid in own if rank_of(pid) == victim), signal.SIGKILL)
            said = process.communicate(timeout=HANG)[1]
        assert "Traceback" not in said
        if victim is None:
            assert process.returncode == 130 and f"iteration {moment + 1} is saved" in said, said
        else:
            assert reached < snapshots.iterations(folder)[0] < moment
            assert process.returncode == 1 and re.search(rf"error: .*rank {victim} \(process \d+ on .*Killed", said), (
                said
            )
        assert ranks_are_gone(folder)
        reached = snapshots.iterations(folder)[0]
    done = run_stage(*arguments)
    assert done.returncode == 0 and "resume" in done.stderr, done.stderr
    assert_same_weights(folder / "weights.caffemodel", tmp_path / "straight/shapes/stage1/weights.caffemodel")
    assert (losses(folder) == losses(tmp_path / "straight/shapes/stage1")).all()
    validated = (folder / "validation.csv").read_text()
    assert validated == (tmp_path / "straight/shapes/stage1/validation.csv").read_text()
    assert len({line.split(",")[2] for line in validated.splitlines()[1:]}) > 1  # the rate has dropped


@needs_mpi
@pytest.mark.parametrize("victim", ["the command", "what the launcher starts on each machine"])
def test_whatever_is_killed_no_rank_is_left_behind(run_stage, tmp_path, victim):
    folder = tmp_path / "runs/shapes/stage1"
    process = run_stage("1", *WITHOUT_END, *SHORT, "--ranks", "2", wait=False)
    wait_for_iteration(folder, 2)
    first, _ = rank_processes(folder)
    helper = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])  # its parent
    os.kill(process.pid if victim == "the command" else helper, signal.SIGKILL)
    process.communicate(timeout=HANG)
    assert process.returncode != 0
    assert ranks_are_gone(folder)


@needs_mpi
def test_the_error_of_one_rank_alone_reaches_the_user(small_data, tmp_path, monkeypatch):
    """Rank 1 runs where the run's folder is not, as on a machine that does not share it."""
    (tmp_path / "elsewhere").mkdir()
    rank = f"{shlex.quote(sys.executable)} -m pysrn.train.stage.rank runs/shapes/stage1"
    launcher = f"mpiexec -n 1 {rank} : -n 1 -wdir {shlex.quote(str(tmp_path / 'elsewhere'))}"
    monkeypatch.chdir(tmp_path)
    done = call_run_stage("1", *SHORT, "--ranks", "2", "--launcher", launcher, runs="runs", data=small_data)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: rank 1 on {socket.gethostname()}: runs/shapes/stage1/job.json: No such file" in done.stderr


@needs_mpi
def test_too_high_a_rate_stops_all_ranks_with_one_error(run_stage, tmp_path):
    done = run_stage("1", *SHORT, "--iterations", "20", "--base-lr", "1e30", "--ranks", "2")
    assert done.returncode == 1 and done.stderr.count("error:") == 1, done.stderr
    assert "the loss became" in done.stderr and "rank" not in done.stderr.partition("error:")[2]


@needs_mpi
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--ranks", "3"), 2, "cannot be shared evenly by 3 ranks"),
        (("--launcher", "mpiexec -n 2"), 2, "--ranks N"),
        (("--ranks", "2", "--launcher", " "), 2, "is no command"),
        (("--ranks", "2", "--launcher", 'mpiexec "'), 2, "is no command"),
        (("--gpu", "0,1"), 2, "--ranks 2"),
        (("--gpu", "0,1", "--ranks", "2"), 3, "CUDA device 0 cannot be used"),
        (("--ranks", "2", "--launcher", "no-such-launcher -n 2"), 3, "no-such-launcher is not installed"),
        (("--ranks", "2", "--launcher", "mpiexec -n 1"), 1, "the launcher and mpi4py make it 1"),
        # a launcher of another MPI: each process takes itself for the only one
        (("--ranks", "2", "--launcher", "env OMP_NUM_THREADS=1"), 1, "the launcher and mpi4py make it 1"),
        (("--ranks", "2", "--launcher", "false"), 1, "exit code 1"),
    ],
)
def test_wrong_calls_end_with_one_clear_line(run_stage, tmp_path, arguments, code, words):
    done = run_stage("1", *SHORT, *arguments)
    assert done.returncode == code and words in done.stderr and done.stderr.count("error:") == 1, done.stderr
    assert "Traceback" not in done.stderr


@needs_mpi
def test_a_launched_command_names_ranks_and_trains_nothing(small_data, tmp_path):
    tool = Path(__file__).resolve().parents[2] / "tools/run_stage.py"
    command = [MPIEXEC, "-n", "2", sys.executable, tool, "1", "--runs", tmp_path / "runs", "--data", small_data]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tool.parents[1]), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=HANG)
    assert done.returncode == 2 and done.stderr.count("error:") == 1 and "--ranks 2" in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"PMI_SIZE": "2", "PMI_RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
    ],
)
def test_every_launcher_is_noticed(variables):
    with pytest.raises(UsageError) as caught:
        refuse_launched_command(variables)
    assert "--ranks 2" in caught.value.cure
    one = {name: value.replace("2", "1") for name, value in variables.items()}
    refuse_launched_command(one | {"SLURM_NTASKS": "8"})  # a batch script of 8 tasks is no launched command


def test_without_mpi_only_ranks_complain(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Launch().command(tmp_path)[0] == sys.executable
    with pytest.raises(MissingError, match="mpi4py") as caught:
        Launch(2).command(tmp_path)
    assert "docker/local" in caught.value.cure


def test_last_words_of_other_launchers():
    """As Open MPI 5.0.11 printed them, and as Slurm's documentation has them (not run)."""
    open_mpi = ["prterun noticed that process rank 1 with PID 14517 on node vm exited on", "signal 9 (Killed)."]
    assert broken_rank(["-----", *open_mpi, "-----"], []) == "rank 1 on vm ended the job: signal 9 (Killed)"
    assert broken_rank(["srun: error: node12: task 3: Killed"], []) == "rank 3 on node12 ended the job: Killed"
    assert broken_rank(["something"], []) is None


@needs_mpi
def test_ranks_of_a_machine_share_its_cores():
    script = (
        "import os; from mpi4py import MPI; from pysrn.train.stage.rank import share_cores;"
        "share_cores(MPI.COMM_WORLD); os.write(1, os.environ['OMP_NUM_THREADS'].encode() + b'\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("OMP_NUM_THREADS", None)
    command = [MPIEXEC, "-n", "2", sys.executable, "-c", script]
    for wanted, variables in ((max(1, len(os.sched_getaffinity(0)) // 2), {}), (7, {"OMP_NUM_THREADS": "7"})):
        done = subprocess.run(command, capture_output=True, text=True, env=environment | variables, timeout=HANG)
        assert done.stdout.split() == [str(wanted)] * 2, done.stderr
