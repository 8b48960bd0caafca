"""Snapshots of a stage: written beside and renamed, checked before use, the newest and the best kept.

A snapshot is `iter_%06d.caffemodel` (weights), `iter_%06d.solverstate` (momentum, iteration) and, written last,
`iter_%06d.json`: the SHA-256 of both files and of itself, the schedule's state. Without it a snapshot is not there.
Caffe writes the path of the weights into the state; it is taken out, because the files are renamed and run folders
are moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from pysrn.console import SrnError
from pysrn.disk_errors import cure_and_then
from pysrn.nets.caffemodel import sha256_of
from pysrn.nets.wire_format import Field, WireError, WireFile
from pysrn.whole_files import replace_text

WEIGHTS, STATE, RECORD = ".caffemodel", ".solverstate", ".json"
SUFFIXES = (WEIGHTS, STATE)
ROOM_FOR_NAMES = 2**20  # assumed: bytes of a file beside its numbers (ResNet-101: 0.2 MiB)
BLOCK = 1 << 20  # bytes of a file that are moved at a time
_STEM = re.compile(r"iter_(\d+)")


def file_of(folder: Path, iteration: int, suffix: str) -> Path:
    """A snapshot's WEIGHTS, its solver's STATE, or its RECORD: hashes and the schedule's state."""
    return folder / f"iter_{iteration:06d}{suffix}"


def iterations(folder: Path) -> list[int]:
    """Iterations of all snapshots in a stage's folder, newest first; their files are not looked into."""
    return sorted(_numbers(folder, (RECORD,)), reverse=True)


def newest_whole(folder: Path) -> tuple[int | None, list[str]]:
    """Iteration of the newest snapshot that is as it was written (or None), and a line for each newer one."""
    warnings = []
    for iteration in iterations(folder):
        damaged = damaged_file(folder, iteration)
        if damaged is None:
            return iteration, warnings
        warnings.append(f"the snapshot {damaged} is damaged or gone; the one before it is taken")
    if warnings:
        warnings[-1] = f"{warnings[-1].partition(';')[0]}, and none before it is whole"
    return None, warnings


def read_schedule(folder: Path, iteration: int) -> dict:
    """The schedule's state in a snapshot's record."""
    return json.loads(file_of(folder, iteration, RECORD).read_text(encoding="utf-8"))["schedule"]


def partial_prefix(folder: Path) -> Path:
    """What the solver's `snapshot_prefix` must be: Caffe writes here first."""
    return folder / "partial"


def take(solver, folder: Path, schedule: dict, kept: int, carried: Path | None = None) -> int:
    """Let the solver write a snapshot, rename it into place, drop older ones; returns its iteration.

    The `kept` newest and the one that `schedule` calls the best stay. `carried`: a caffemodel whose layers the net does
    not hold; they go into the snapshot's, so that it is whole. Raises SrnError when it cannot be written; those before
    it are left as they are.
    """
    iteration = solver.iter
    prefix = partial_prefix(folder)
    partial = {suffix: prefix.with_name(f"{prefix.name}_iter_{iteration}{suffix}") for suffix in SUFFIXES}
    size = 4 * sum(blob.count for blobs in solver.net.params.values() for blob in blobs) + ROOM_FOR_NAMES
    others, named = carried.stat().st_size if carried else 0, False
    try:
        _check_room({path: size + others * (suffix == WEIGHTS) for suffix, path in partial.items()})
        solver.snapshot()
        if carried:  # messages of Protocol Buffers one behind the other are one message with the fields of both
            _put_before(partial[WEIGHTS], carried)
        hashes = _finish(partial, iteration)
        named = True
        for suffix, path in partial.items():
            os.replace(path, file_of(folder, iteration, suffix))
        record = {"iteration": iteration, "sha256": hashes, "schedule": schedule}
        record["record_sha256"] = _own_hash(record)
        replace_text(file_of(folder, iteration, RECORD), json.dumps(record) + "\n")
    except OSError as error:
        _remove(partial.values())
        if named:  # it may all be there and not be on the disk: then older ones would stay beside it
            _delete(folder, iteration)
        before = [number for number in iterations(folder) if number < iteration]
        rest = f"that of iteration {before[0]} is kept" if before else "there is none before it"
        room = f"free {(2 * size + others) // 2**20} MiB for each snapshot"
        cure = cure_and_then(error, "then run the same command again", room=room, elsewhere="another --runs")
        raise SrnError(
            f"the snapshot of iteration {iteration} cannot be written to {folder}: {error.strerror}; {rest}",
            cure,
        ) from None
    drop_old(folder, kept, schedule["best_iteration"])
    return iteration


def drop_old(folder: Path, kept: int, best: int | None) -> None:
    """Delete all but the `kept` newest snapshots and the best, and what an interrupted write or deletion left."""
    _remove(folder.glob(f"{partial_prefix(folder).name}_iter_*"))
    for iteration in _numbers(folder, (RECORD, *SUFFIXES)) - {*iterations(folder)[:kept], best}:
        _delete(folder, iteration)


def drop_newer(folder: Path, iteration: int) -> None:
    """Delete the snapshots behind the one that a stage goes on from: damaged, and soon done again."""
    for newer in iterations(folder):
        if newer > iteration:
            _delete(folder, newer)


def _numbers(folder: Path, suffixes: Sequence[str]) -> set[int]:
    """The iterations that have a file with one of the suffixes."""
    found = (_STEM.fullmatch(path.stem) for path in folder.glob("iter_*") if path.suffix in suffixes)
    return {int(match[1]) for match in found if match}


def _delete(folder: Path, iteration: int) -> None:
    """The record goes first: without it the snapshot is not there."""
    _remove(file_of(folder, iteration, suffix) for suffix in (RECORD, *SUFFIXES))


def _remove(paths) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)


def damaged_file(folder: Path, iteration: int) -> Path | None:
    """The first file of a snapshot that is not as it was written, or None."""
    record = file_of(folder, iteration, RECORD)
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        own_hash = values.pop("record_sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return record
    if own_hash != _own_hash(values) or values["iteration"] != iteration:
        return record
    for suffix in SUFFIXES:
        path = record.with_suffix(suffix)
        if not path.is_file() or sha256_of(path) != values["sha256"][suffix]:
            return path
    return None


def _own_hash(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _check_room(sizes: dict[Path, int]) -> None:
    """Raise OSError when files of these bytes cannot be written: Caffe would abort, and the process with it."""
    try:
        for path, size in sizes.items():
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    finally:
        _remove(sizes)


def _finish(partial: dict[str, Path], iteration: int) -> dict[str, str]:
    """Make the files that Caffe wrote final, sure to be whole and on disk; returns suffix -> SHA-256.

    Caffe ends the process when it cannot write, but does not ask whether closing the file (NFS) or the disk lost some
    of it. Raises OSError when that happened. The files may be larger than what is left of the memory, so no message is
    made of them.
    """
    from pysrn.nets import messages

    numbers = messages.SolverState.DESCRIPTOR.fields_by_name
    with open(partial[WEIGHTS], "rb") as net, open(partial[STATE], "r+b") as state:
        try:
            if not list(_fields(net)):
                raise WireError("it is empty")
            fields = _fields(state)
            small = b"".join(_part(state, field) for field in fields if field.number != numbers["history"].number)
            found = messages.SolverState.FromString(small)
        except (WireError, DecodeError):
            raise OSError(0, "Caffe wrote less than it should have") from None
        if found.iter != iteration:
            raise OSError(0, f"Caffe wrote the state of iteration {found.iter}")
        _take_out(state, [field for field in fields if field.number == numbers["learned_net"].number])
    for path in partial.values():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    return {suffix: sha256_of(path) for suffix, path in partial.items()}


def _fields(file: BinaryIO) -> list[Field]:
    """The fields of the message that a file holds; WireError where it ends too soon."""
    whole = WireFile(file)
    return list(whole.fields(0, whole.size))


def _part(file: BinaryIO, field: Field) -> bytes:
    file.seek(field.start)
    return file.read(field.end - field.start)


def _take_out(file: BinaryIO, fields: list[Field]) -> None:
    """Take fields out of a file, in place: what follows moves up."""
    for field in reversed(fields):
        to, rest = field.start, field.end
        while True:
            file.seek(rest)
            if not (block := file.read(BLOCK)):
                break
            file.seek(to)
            file.write(block)
            to, rest = to + len(block), rest + len(block)
        file.truncate(to)


def _put_before(path: Path, carried: Path) -> None:
    """Put another file's bytes before those of `path`."""
    whole = path.with_suffix(".whole")
    with open(whole, "wb") as file:
        for one in (carried, path):
            with open(one, "rb") as part:
                shutil.copyfileobj(part, file, BLOCK)
    os.replace(whole, path)
