"""What says that a rank lives: a small process beside each, `python -m pysrn.train.stage.pulse RANK DESCRIPTOR`.

A rank cannot say so itself: Caffe holds Python for a whole iteration. The one beside it looks once a second whether
the rank and its children (they load images) have used the CPU, and sends that as an event on the rank's stdout, which
launchers pass on. Who waits for the others is not idle by its own fault; the rank notes that in memory both see.
`train/watch.py` hears all that.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pysrn.processes import end_with_parent, python_module, send

EVERY = 1.0  # seconds between two looks
ASLEEP = 5.0  # assumed: seconds between two looks behind which this process was stopped itself, or the machine was
WORKS, WAITS, BEGINS = range(3)  # what a rank does: computes; waits in an exchange; begins or ends, with waits in it
NUMBERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")  # which rank a process is, as launchers tell it
_SIZE = 9  # bytes in common: what the rank does, and how often that has changed


class Pulse:
    """The rank's end: it notes what it does."""

    def __init__(self) -> None:
        descriptor = os.memfd_create("pysrn-pulse")
        os.ftruncate(descriptor, _SIZE)
        self._memory, self._changes = mmap.mmap(descriptor, _SIZE), 0
        self.does(BEGINS)
        command = python_module(__name__, os.getpid(), descriptor)
        subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[descriptor])
        os.close(descriptor)

    def does(self, what: int) -> None:
        """Note what this rank does from now on."""
        self._changes += 1
        self._memory[:] = bytes([what]) + self._changes.to_bytes(_SIZE - 1, "little")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While active, this rank waits for the others."""
        self.does(WAITS)
        try:
            yield
        finally:
            self.does(WORKS)

    def end(self) -> None:
        """Say that this rank has done its part."""
        self.does(BEGINS)
        send(pulse=[socket.gethostname(), os.getpid()], ended=True)


def main(arguments: list[str]) -> int:
    """Look and tell until the rank ends."""
    rank, descriptor = map(int, arguments)
    end_with_parent(rank)
    for number in (signal.SIGINT, signal.SIGTERM):  # batch systems send them to every process of a job
        signal.signal(number, signal.SIG_IGN)
    memory = mmap.mmap(descriptor, _SIZE, prot=mmap.PROT_READ)
    who, number = [socket.gethostname(), rank], next((os.environ[name] for name in NUMBERS if name in os.environ), None)
    looked = busy = since = time.monotonic()
    used, noted = -1, b""
    with suppress(BrokenPipeError):
        while True:
            now = time.monotonic()
            if now - looked > ASLEEP:
                busy = since = now
            looked = now
            state, ticks = _look(rank)
            if ticks != used:
                used, busy = ticks, now
            if memory[:] != noted:
                noted, since = memory[:], now
            send(pulse=who, rank=number, stopped=state in "Tt", idle=now - busy, does=noted[0], since=now - since)
            time.sleep(EVERY)
    os._exit(0)  # Python would complain once more when it flushes


def _look(process: int) -> tuple[str, int]:
    """The state of a process, and the CPU ticks that it and its children have used; but for this one."""
    state, ticks = _stat(process)
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            ticks += sum(_stat(int(child))[1] for child in path.read_text().split() if int(child) != os.getpid())
    return state, ticks


def _stat(process: int) -> tuple[str, int]:
    """proc(5): state, and utime + stime."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
