"""One rank of a stage that several processes train together: `mpiexec -n N python -m pysrn.train.stage.rank FOLDER`.

`launch.py` makes that command line; the work is that of `runner.py`, with a `Team` of `parallel.py`. This file only
does what has to come before Caffe is loaded.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pysrn.console import FAILED, MISSING
from pysrn.processes import end_with_parent, send
from pysrn.train.stage.pulse import Pulse

if TYPE_CHECKING:  # they load Caffe and MPI
    from mpi4py.MPI import Comm

    from pysrn.train.stage.parallel import Team

SHARED_MEMORY = Path("/dev/shm")  # where it is full, an MPI ends with SIGBUS, or without a word
ROOM = 1 << 23  # bytes; assumed: four times what a rank of MPICH has there


def main(argv: list[str]) -> int:
    """Run this rank of the stage prepared in the folder argv[0]."""

    def work(team) -> int:
        from pysrn.train.stage import runner

        return runner.main(argv, team)

    return as_rank(work)


def as_rank(work: Callable[[Team], int]) -> int:
    """Do what a team's rank does, and return its exit code; MISSING where mpi4py or MPI cannot be used."""
    # A killed launcher takes its ranks along, but MPICH's helper that starts the ranks of a machine does not: they hold
    # each other's ends of its pipes open, so none sees them close, and wait in the next exchange without end.
    end_with_parent(os.getppid())  # whom a launcher has start its ranks is known to it alone
    pulse = Pulse()
    if SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(SHARED_MEMORY).free) < ROOM:
        what = f"{socket.gethostname()}: {SHARED_MEMORY} has {free >> 10} KiB free, MPI needs {ROOM >> 20} MiB"
        send(error=what, cure="make room there, or mount it larger", exit_code=FAILED)
        return FAILED
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no MPI library
        print(f"{socket.gethostname()}: mpi4py cannot be used: {error}", file=sys.stderr, flush=True)
        return MISSING
    neighbours = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    share_cores(neighbours)
    forget_names(neighbours)
    neighbours.Free()
    if MPI.COMM_WORLD.rank:  # Caffe would describe the same net once a rank
        os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112 - glog's own spelling
    from pysrn.train.stage.parallel import Team

    team = Team(pulse)
    with team.ending_together():
        code = work(team)
        pulse.end()
        return code


def share_cores(neighbours: Comm) -> None:
    """Give each of a machine's ranks its part of the cores, unless the user set OMP_NUM_THREADS.

    Read when OpenBLAS and OpenMP are loaded, so this comes before Caffe. A launcher may have bound each rank to cores
    of its own: the cores of all of them are what the ranks of a machine share.
    """
    cores = set().union(*neighbours.allgather(os.sched_getaffinity(0)))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(cores) // neighbours.size)))


def forget_names(neighbours: Comm) -> None:
    """Take away the names of the memory that MPICH shares among a machine's ranks, once all of them have it.

    The memory goes with the last of them then, however they end: MPICH itself deletes it in a good end alone. A later
    job could not: it does not see the processes of other containers that use the same /dev/shm.
    """
    neighbours.Barrier()
    if neighbours.rank == 0:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            names = set(re.findall(rf"{SHARED_MEMORY}/mpich_shm_\w+$", maps.read(), re.MULTILINE))
        for name in names:
            Path(name).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
