"""The one way in which processes keep out of each other's way: a lock on a file or folder that ends with its holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pysrn.console import SrnError


@contextmanager
def sole_worker(folder: Path, doing: str, cure: str) -> Iterator[None]:
    """Make `folder` and hold its file `lock` while the block runs; a folder that then has nothing else goes.

    SrnError when another process is `doing` there.
    """

    def refuse() -> None:
        raise SrnError(f"another process is {doing} {folder}", cure)

    lock, locked = folder / "lock", False
    while not locked:
        folder.mkdir(parents=True, exist_ok=True)
        with held(lock, refuse) as descriptor:
            with suppress(FileNotFoundError):
                locked = os.path.samestat(os.stat(lock), os.fstat(descriptor))
            if not locked:
                continue  # the one before left nothing else and took it away
            try:
                yield
            finally:
                if list(folder.glob("*")) == [lock]:
                    lock.unlink()
                    folder.rmdir()


@contextmanager
def held(path: Path, if_busy: Callable[[], None] | None = None, shared: bool = False) -> Iterator[int]:
    """Hold a lock on a file (made where it is missing) or folder while the block runs, or until the process ends.

    `if_busy` is called where another process has it: it raises, or says that this one waits. `shared`: with all others
    that share it. OSError where the file system knows no such locks.
    """
    flags = os.O_RDONLY if path.is_dir() or shared else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        take(descriptor, if_busy, shared)
        yield descriptor
    finally:
        os.close(descriptor)


def take(descriptor: int, if_busy: Callable[[], None] | None = None, shared: bool = False) -> None:
    """Take the lock of an open file, as `held` does, until it is closed."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if if_busy is not None:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if_busy()
    fcntl.flock(descriptor, kind)
