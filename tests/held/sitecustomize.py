"""Holds a process of a test at a moment that the test names: `tests/holding.py` puts this folder in PYTHONPATH.

Python imports a module of this name when it starts. It listens to Python's own audit events (a file is opened, a name
is changed) and replaces nothing: what is held is the real program, which goes on when the test lets it.
"""

import fcntl
import itertools
import json
import os
import re
import select
import signal
import sys
import threading

PATHS = {"open": 0, "os.mkdir": 0, "os.rename": 1}  # audit event -> which of its arguments is the path


def listen(program: str, path: str, number: int, file: str, stdin: bool) -> None:
    """Hold this process at the `number`-th event of a path that `path` is found in, if it runs `program`."""
    if not any(program in word for word in sys.orig_argv[1:4]):
        return
    wanted, numbers = re.compile(path), itertools.count(1)

    def hook(event: str, arguments: tuple) -> None:
        if event not in PATHS or not isinstance(where := arguments[PATHS[event]], str | bytes | os.PathLike):
            return
        if wanted.search(os.fsdecode(where)) and next(numbers) == number:
            hold(file, stdin)

    sys.addaudithook(hook)


def hold(file: str, stdin: bool) -> None:
    """Wait until nobody else has `file` locked; a test that has ended has not.

    `file`.reached says that this process is here, `file`.asked that it has been asked to end: by a signal that it
    handles, or (`stdin`) by something on its standard input.
    """
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    main = threading.current_thread() is threading.main_thread()
    before = signal.set_wakeup_fd(write) if main else -1
    lock = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    watched = {read, 0} if stdin else {read}
    mark(f"{file}.reached")
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                found = select.select(list(watched), [], [], 0.01)[0]
            if found:
                watched.difference_update(found)
                mark(f"{file}.asked")
    finally:
        if main:
            signal.set_wakeup_fd(before)
        for descriptor in (lock, read, write):
            os.close(descriptor)


def mark(path: str) -> None:
    """Make an empty file."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


if "SRN_TEST_HOLD" in os.environ:
    listen(**json.loads(os.environ["SRN_TEST_HOLD"]))
