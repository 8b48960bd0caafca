"""What a power cut leaves: the changes that `shim.c` noted, undone where they were not brought to the disk.

A file's bytes are on the disk when it was synced behind them, a name (new, gone, renamed) when its folder was. File
systems keep more than that, and not always the same; so there are three kinds of cut:

    all    everything that was not synced is lost
    data   names are kept, bytes are lost: a file that was renamed into place is there, and empty
    names  bytes are kept, names are lost
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KINDS = ("all", "data", "names")
_HEAD = struct.Struct("c7x8q")


@dataclass(frozen=True)
class Change:
    """A record of the log; `data` is what bytes were there, or the second name of a file that lost its own."""

    kind: str
    inode: int
    folders: tuple[int, int]
    offset: int
    size: int
    path: str
    other: str
    data: bytes


def cut(notes: Path, folders: Sequence[Path], kind: str) -> None:
    """Undo in `folders` what the cut of this kind loses."""
    changes = list(_read(notes / "log")) if (notes / "log").is_file() else []
    lost = [number for number, change in enumerate(changes) if not _is_synced(change, changes[number + 1 :])]
    if kind in ("all", "data"):
        again = [change for change in changes if change.kind == "W"]
        gone = [changes[number] for number in reversed(lost) if changes[number].kind == "D"]
        _lose_data(gone, again, [*folders, notes])
    if kind in ("all", "names"):
        _lose_names(changes, set(lost))


def _read(log: Path) -> Iterator[Change]:
    content, at = log.read_bytes(), 0
    while at < len(content):
        kind, inode, folder, other_folder, offset, size, *lengths = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        length, path, other = lengths
        texts = content[at : at + path].decode(), content[at + path : at + path + other].decode()
        at += path + other + length
        yield Change(kind.decode(), inode, (folder, other_folder), offset, size, *texts, content[at - length : at])


def _is_synced(change: Change, later: Sequence[Change]) -> bool:
    synced = {one.inode for one in later if one.kind == "S"}
    if change.kind in "SWA" or any(one.kind == "A" for one in later):
        return True
    return change.inode in synced if change.kind == "D" else {*change.folders} - {0} <= synced


def _lose_data(changes: Sequence[Change], again: Sequence[Change], folders: Sequence[Path]) -> None:
    """`changes`: the last one first; `again`: what was written to the disk at once, in order."""
    paths = {path.stat().st_ino: path for folder in folders for path in folder.rglob("*") if path.is_file()}
    for change in changes:
        if change.inode in paths:  # else its last name is gone, too
            with open(paths[change.inode], "r+b") as file:
                file.seek(change.offset)
                file.write(change.data)
                file.truncate(change.size)
    touched = {change.inode for change in changes}
    for change in again:
        if change.inode in touched & paths.keys():
            with open(paths[change.inode], "r+b") as file:
                file.seek(change.offset)
                file.write(change.data)


def _lose_names(changes: Sequence[Change], lost: set[int]) -> None:
    moved: list[tuple[str, str]] = []  # renames that stay, in order: where the paths of earlier changes are now

    def now(path: str) -> str:
        for old, new in moved:
            if path == old or path.startswith(f"{old}/"):
                path = new + path[len(old) :]
        return path

    for number in reversed(range(len(changes))):
        change = changes[number]
        path, kept = now(change.path), os.fsdecode(change.data)
        if number not in lost:
            if change.kind == "R":
                moved.insert(0, (change.path, change.other))
            continue
        with suppress(FileNotFoundError):  # what was made and lost behind it took it along
            if change.kind == "C":
                os.unlink(path)
            elif change.kind == "M":
                shutil.rmtree(path)
            elif change.kind == "X":
                os.makedirs(path, exist_ok=True)
            elif change.kind == "U" and kept:
                os.link(kept, path)
            elif change.kind == "R":
                os.rename(now(change.other), path)
                if kept:
                    os.link(kept, now(change.other))
