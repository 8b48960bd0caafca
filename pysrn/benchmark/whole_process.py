"""A command from its start to its end: its seconds, and the memory that it and its children take at their peak."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pysrn.console import SrnError

LOOK_EVERY = 0.05  # seconds between two looks at the memory; assumed: no peak that matters is shorter


@dataclass(frozen=True)
class Ended:
    """What a command took. `peak_mb`: of the proportional set size (proc(5), Pss) of all its processes, or None."""

    seconds: float
    peak_mb: float | None


def run_to_end(
    words: Sequence[str], environment: Mapping[str, str] | None = None, name: str = "", weighed: bool = False
) -> Ended:
    """Run a command; `weighed`: look at its memory meanwhile, which costs some of its time.

    Raises SrnError with its last words when it fails.
    """
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        ) as process:
            scale = Scale(process.pid) if weighed else None
            process.wait()
            seconds = time.perf_counter() - started
            peak = scale.end() if scale else None
        if process.returncode:
            errors.seek(0)
            what = name or Path(words[0]).name
            raise SrnError(f"{what} ended with exit code {process.returncode}: {errors.read()[-500:].strip()}")
    return Ended(seconds, peak)


class Scale:
    """Looks at the memory of a process and its children until `end`, which gives the most that it saw, in MB."""

    def __init__(self, process: int) -> None:
        self._process, self._most, self._over = process, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> float:
        """The peak so far."""
        self._over.set()
        self._thread.join()
        return self._most

    def _look(self) -> None:
        while True:
            self._most = max(self._most, sum(map(_proportional_mb, family(self._process))))
            if self._over.wait(LOOK_EVERY):
                return


def family(process: int) -> list[int]:
    """A process and all below it."""
    found = [process]
    for one in found:
        try:
            tasks = os.listdir(f"/proc/{one}/task")
            found += [
                int(child) for task in tasks for child in Path(f"/proc/{one}/task/{task}/children").read_text().split()
            ]
        except OSError:  # it has ended
            continue
    return found


def _proportional_mb(process: int) -> float:
    """Each page divided by the processes that share it."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
