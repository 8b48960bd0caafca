"""Around a build: one process at a time in a folder, and one clear line whatever ends it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from pysrn.console import InterruptedRun, SrnError, message
from pysrn.disk_errors import cure_and_then
from pysrn.locks import take

GO_ON = "the same command goes on where it was"


@contextmanager
def sole_builder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process, however it ends. Raises SrnError when another has it."""

    def refuse() -> None:
        raise SrnError(f"another process is building in {folder}", "wait for it, or choose another --out")

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            take(descriptor, refuse)
        except OSError as error:  # a network file system may know no locks on folders
            message(f"warning: {folder} cannot be locked ({error.strerror}); do not build in it twice at once")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Turn what ends a build from outside into an error that says so, and that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRun(f"interrupted; what is done is kept in {folder}", GO_ON) from None
    except RuntimeError as error:  # the interrupt came in the middle of a lock of the pool's
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise InterruptedRun(f"interrupted; what is done is kept in {folder}", GO_ON) from None
    except BrokenProcessPool:
        raise SrnError(f"the build in {folder} stopped: a process that draws was killed", GO_ON) from None
    except OSError as error:
        where = error.filename or folder
        cure = cure_and_then(error, GO_ON, elsewhere="another --out")
        raise SrnError(f"the build in {folder} stopped: {error.strerror or error} ({where})", cure) from None
