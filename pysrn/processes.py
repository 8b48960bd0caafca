"""Child processes: how they are started, what they say (events, one JSON object a line), and how they ended."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pysrn

_DECODER = json.JSONDecoder()
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # prctl(2), linux/prctl.h


def python_module(module: str, *arguments: object) -> list[str]:
    """The command line of a module of this package in a process of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, who started it, is gone, however long a step of its work takes.

    A process that is stopped, too. To the kernel the parent is the thread that started this process.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before, of which the kernel no longer tells
        os.kill(os.getpid(), signal.SIGKILL)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment with `variables`, in which a child finds this package wherever it is called from."""
    paths = [str(Path(pysrn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | variables


def send(**fields) -> None:
    """Send an event: one JSON object a line on stdout. BrokenPipeError where nobody reads it any more."""
    sys.stdout.write(f"{json.dumps(fields)}\n")  # in one piece: several processes may share the pipe
    sys.stdout.flush()


def events_in(line: str) -> Iterator[dict | str]:
    """The events in a line of a child's stdout, two of which may have become one, or the text that is no event."""
    while line := line.strip():
        try:
            event, end = _DECODER.raw_decode(line)
        except json.JSONDecodeError:  # something else printed to stdout
            yield line
            return
        line = line[end:]
        if isinstance(event, dict):
            yield event


def ending(code: int) -> str:
    """How a process ended, from its exit code as Python has it."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
