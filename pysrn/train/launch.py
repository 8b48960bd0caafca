"""Where and how a stage runs: its devices, and how the processes (ranks) that train it together are started and ended.

The process of `tools/run_stage.py` stays a single one; `stage_process.py` asks here for the command of its child.
Nothing here needs MPI: without `--ranks` no part of it has to be installed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pysrn.console import WRONG_USAGE, MissingError, UsageError
from pysrn.processes import python_module
from pysrn.train.stage.pulse import NUMBERS
from pysrn.train.watch import HANG_AFTER

if TYPE_CHECKING:  # it reads images, which a lean bundle cannot
    from pysrn.train.fixed.feature_room import Caching

# What MPICH (and Intel MPI), Open MPI and Slurm's srun tell each process: how many there are.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_FIRST_SPEAKS = 1.0  # seconds that the others wait, because a launcher ends all when one ends

# How launchers say which process broke the job.
_MPICH_PROCESS = re.compile(r"PID (\d+) RUNNING AT (\S+)")
_MPICH_END = re.compile(r"EXIT STRING: (.+)")
_OPEN_MPI = re.compile(r"process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+ \([^)]*\))")
_UNREACHED = re.compile(r"(ssh: .+|.*Permission denied \(.+|Host key verification failed.*)")  # ssh's own words
_SLURM = re.compile(r"error: (\S+): task (\d+): (.+)")


@dataclass(frozen=True)
class Launch:
    """How many ranks a stage has, and what starts them; the default is one plain process."""

    ranks: int = 1
    launcher: str | None = None  # None: `mpiexec -n RANKS`
    hang_after: float = HANG_AFTER  # seconds behind which a rank that does nothing ends the job

    def __post_init__(self) -> None:
        """Raises UsageError for a launcher without ranks, or one that is no command."""
        if self.launcher is not None and self.ranks == 1:
            raise UsageError("--launcher starts several ranks", "give their number too: --ranks N")
        if self.launcher is not None and not _words(self.launcher):
            raise UsageError(f"--launcher {self.launcher!r} is no command", 'give one, as "mpiexec -n 8"')

    def command(self, folder: Path) -> list[str]:
        """The child's command line for a prepared stage folder.

        Raises as `started`.
        """
        if self.ranks == 1:
            return python_module("pysrn.train.stage.runner", folder)
        return self.started("pysrn.train.stage.rank", folder)

    def started(self, module: str, *arguments: object) -> list[str]:
        """The command line that starts a module in each of the ranks.

        Raises MissingError when mpi4py or the launcher is not installed.
        """
        if importlib.util.find_spec("mpi4py") is None:
            raise MissingError(
                "--ranks needs the Python package mpi4py, which is not installed",
                "run the command through docker/local, or: pip install mpi4py mpich",
            )
        words = _words(self.launcher) if self.launcher else ["mpiexec", "-n", str(self.ranks)]
        return [_program(words[0]), *words[1:], *python_module(module, *arguments)]


PLAIN = Launch()


@dataclass(frozen=True)
class Machine:
    """Devices, processes, snapshots and caching of a training run; changes no result but for rounding."""

    gpus: tuple[int, ...] = ()  # of each machine, shared out among its ranks; empty: CPU
    workers: int = 1
    snapshot_every: int = 200
    keep: int = 2  # newest snapshots that stay on disk, besides the best
    tensorboard: bool = False
    launch: Launch = PLAIN
    whole_net: bool = False  # train all stages as their checked-in nets are: in one piece, nothing folded
    caching: Caching | None = None  # of the trunk's features in stages with a fixed trunk

    def __post_init__(self) -> None:
        """Raises UsageError for devices that no rank would use, and a cache for a net that computes all itself."""
        if self.whole_net and self.caching:
            raise UsageError("--whole-net computes the trunk in every iteration: it has no use for --cache-features")
        if len(self.gpus) > self.launch.ranks:
            raise UsageError(
                f"--gpu names {len(self.gpus)} devices, but --ranks is {self.launch.ranks}",
                f"give --ranks {len(self.gpus)}, or fewer devices",
            )


def _words(command: str) -> list[str]:
    """The words of a command line; none where it cannot be read."""
    try:
        return shlex.split(command)
    except ValueError:  # an open quotation
        return []


def _program(name: str) -> str:
    """Path of a launcher; the one beside this Python first, because it belongs to the same MPI as mpi4py."""
    here = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise MissingError(
            f"the launcher {name} is not installed",
            "run the command through docker/local, or: pip install mpich; or name another one with --launcher",
        )
    return found


def refuse_launched_command(environment: Mapping[str, str] = os.environ) -> None:
    """Raise UsageError in a command that a launcher started several times: each would train on its own.

    One process speaks for all; the others exit without a word.
    """
    sizes = [int(environment[name]) for name in _SIZES if environment.get(name, "").isdecimal()]
    if max(sizes, default=1) == 1:
        return
    if any(environment.get(name, "0") != "0" for name in NUMBERS):
        time.sleep(_FIRST_SPEAKS)
        sys.exit(WRONG_USAGE)
    raise UsageError(
        f"a launcher (mpirun, srun) has started this command {max(sizes)} times, but it starts its ranks itself",
        f"start it once, without the launcher: --ranks {max(sizes)} (and --launcher for several machines)",
    )


def broken_rank(lines: list[str], processes: list[list]) -> str | None:
    """What a launcher's last words say about the rank that ended the job; None when they say nothing.

    `processes` has the host name and process id of each rank, in order of the ranks.
    """
    text = " ".join(lines)  # Open MPI wraps its sentences
    if process := _MPICH_PROCESS.search(text):
        number, host = int(process[1]), process[2]
        rank = next((i for i, known in enumerate(processes) if known == [host, number]), None)
        who = f"process {number} on {host}" if rank is None else f"rank {rank} (process {number} on {host})"
        end = next((match[1] for line in lines if (match := _MPICH_END.search(line))), "it is gone")
        return f"{who} ended the job: {end}"
    if found := _OPEN_MPI.search(text):
        return f"rank {found[1]} on {found[2]} ended the job: signal {found[3]}"
    for line in lines:
        if found := _UNREACHED.fullmatch(line):
            return f"a host cannot be reached: {found[1]}"
        if found := _SLURM.search(line):
            return f"rank {found[2]} on {found[1]} ended the job: {found[3]}"
    return None
