"""Files that appear whole or not at all: written beside their place and renamed. For whatever writes a file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a name to write to: it becomes `path` when the block ends well, and is gone when it does not.

    Folders are made. Each process has its own name, so two that write the same file do not meet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with usual_mode(partial):
            yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())  # a power cut after the renaming would leave the name without its content
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def usual_mode(path: Path) -> Iterator[None]:
    """Let the block write the new file `path`; others may read it then as any new file (umask).

    Libraries that go by way of a temporary file of their own leave it to its owner alone.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    yield
    path.chmod(mode)


def replace_text(path: Path, text: str) -> None:
    """Replace a file that a later run goes on from, in a folder that one process holds: it is on the disk then.

    What a killed process leaves beside it has a fixed name, and the next one writes over it.
    """
    beside = path.with_name(f"{path.name}.partial")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, values: dict) -> None:
    """Replace a JSON file that a later run goes on from, in one step."""
    replace_text(path, json.dumps(values, indent=1) + "\n")


def discard(path: Path) -> None:
    """Remove a file where there is one; where there is none, a read-only disk is not asked to."""
    if path.exists():
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder (new, gone, renamed) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
