"""Nothing grows in a long run, and a hundred interruptions change nothing."""

import contextlib
import os
import signal
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pysrn.benchmark.whole_process import family
from pysrn.train.run_folder import RunFolder
from tests.systems.toy import STORED
from tests.toy_tool import start

ITERATIONS, RESUMES = 50_000, 100
GROWTH = 1.02  # assumed: what memory may differ by within a run; a leak of 100 bytes an iteration would be 5 MB
SHARED, MADE_THERE = Path("/dev/shm"), ("psm_", "sem.")  # by Python; other jobs may use MPI meanwhile


@dataclass(frozen=True)
class Taken:
    """What the processes of a command hold at one moment: bytes of memory, open files, threads, processes."""

    memory: int
    files: int
    threads: int
    processes: int
    shared: int


def taken(command: int) -> Taken:
    """Of the processes of a command; raises OSError where one has just ended."""
    processes = family(command)
    folders = [Path(f"/proc/{process}") for process in processes]
    memory = sum(int((folder / "statm").read_text().split()[1]) for folder in folders) * os.sysconf("SC_PAGE_SIZE")
    files = sum(len(list((folder / "fd").iterdir())) for folder in folders)
    threads = sum(len(list((folder / "task").iterdir())) for folder in folders)
    return Taken(memory, files, threads, len(processes), len(shared_files()))


def shared_files() -> list[str]:
    """What lies in the memory that processes share, of programs such as ours."""
    return sorted(path.name for path in SHARED.iterdir() if path.name.startswith(MADE_THERE))


def training(folder, runs):
    words = ("--system", "toy", "--data", folder / "data", "--runs", folder / runs, "--batch-size", 2, "--workers", 1)
    return start("run_stage", *words, "--iterations", ITERATIONS, "--snapshot-every", ITERATIONS // RESUMES // 2)


def iteration_of(folder, runs) -> int:
    """The last one that the log has."""
    log = RunFolder(folder / runs / "toy-shapes").stage(1) / "log.csv"
    rows = log.read_text().splitlines()[1:] if log.is_file() else []
    return int(rows[-1].partition(",")[0]) if rows and "," in rows[-1] else 0


@pytest.mark.slow
def test_nothing_grows_and_interruptions_change_nothing(tmp_path):
    words = ("--train", 16, "--test", 4, "--image-size", STORED, "--workers", 1)
    assert start("make_lmdb", "shapes", "--out", tmp_path / "data", *words).wait() == 0
    process, samples = training(tmp_path, "whole"), []
    while process.poll() is None:
        time.sleep(0.5)
        if iteration_of(tmp_path, "whole"):
            with contextlib.suppress(OSError):
                samples.append(taken(process.pid))
    assert process.returncode == 0
    tenth = len(samples) // 10
    early, late = samples[tenth : 2 * tenth], samples[-2 * tenth : -tenth]
    print(f"{ITERATIONS} iterations: at first {early[0]}, at last {late[-1]}")
    for name in ("files", "threads", "processes", "shared"):
        first, last = (statistics.median(getattr(one, name) for one in part) for part in (early, late))
        assert first == last, name
    first, last = (statistics.median(one.memory for one in part) for part in (early, late))
    assert last < GROWTH * first

    before = shared_files()
    for number in range(RESUMES):
        process = training(tmp_path, "interrupted")
        until = (number + 1) * ITERATIONS // (RESUMES + 1)
        while process.poll() is None and iteration_of(tmp_path, "interrupted") < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130, number
    assert training(tmp_path, "interrupted").wait() == 0
    whole, interrupted = (RunFolder(tmp_path / runs / "toy-shapes") for runs in ("whole", "interrupted"))
    assert whole.weights(1).read_bytes() == interrupted.weights(1).read_bytes()
    assert before == shared_files()
    rows = (interrupted.stage(1) / "log.csv").read_text().splitlines()
    assert len(rows) == len((whole.stage(1) / "log.csv").read_text().splitlines())
    names = ({path.name for path in run.stage(1).iterdir()} for run in (whole, interrupted))
    assert next(names) == next(names)
