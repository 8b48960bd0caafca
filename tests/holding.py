"""Tests that do something to a process at a moment: the process is held there, so no machine is too fast or too slow.

The test makes a `Hold` (a program, a path), starts the program with its `environment`, lets it `wait`, does what it has
to do, and calls `release`.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HANG = 1800  # seconds after which a process hangs; no test may depend on how long anything takes below that
HELD = Path(__file__).resolve().parent / "held"


class Hold:
    """A moment at which a process waits until `release`, or until the test that made this is gone.

    `program`: a part of the program's name (`python -m NAME`, `python FILE`); `path`: a regular expression. The process
    waits before it opens, makes or renames to a path that this is found in, when it does so for the `number`-th time.
    `stdin`: the process is asked to end through its standard input, not by a signal.
    """

    def __init__(self, folder: Path, program: str, path: str, number: int = 1, stdin: bool = False) -> None:
        descriptor, file = tempfile.mkstemp(prefix=".hold_", dir=folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # no process that is started inherits the descriptor
        self._descriptor: int | None = descriptor
        self._reached, self._asked = Path(f"{file}.reached"), Path(f"{file}.asked")
        plan = {"program": program, "path": path, "number": number, "file": file, "stdin": stdin}
        self.environment = {
            "SRN_TEST_HOLD": json.dumps(plan),
            "PYTHONPATH": os.pathsep.join([str(HELD), str(HELD.parents[1]), *filter(None, sys.path)]),
        }

    @property
    def reached(self) -> bool:
        """Whether a process is held, or was."""
        return self._reached.exists()

    def wait(self, process: subprocess.Popen) -> None:
        """Wait until a process is held; fail when `process`, the command that leads to it, ends before."""
        wait_until(lambda: self.reached or process.poll() is not None)
        assert process.poll() is None, f"ended with {process.returncode} before the moment came: {process.args}"

    def interrupt(self, process: subprocess.Popen, number: int) -> None:
        """Send a signal to the command; release when the held process has heard of it, or the command is at its end."""
        process.send_signal(number)
        wait_until(lambda: self._asked.exists() or process.poll() is not None)
        self.release()

    def release(self) -> None:
        """Let the process go on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exception) -> None:
        self.release()


def wait_until(done: Callable[[], object]) -> None:
    """Return when `done()` is true."""
    end = time.monotonic() + HANG
    while not done():
        assert time.monotonic() < end, "this hangs"
        time.sleep(0.01)
