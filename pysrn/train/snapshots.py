"""Snapshots of a stage: written beside and renamed, so that a pair is whole or not there.

A snapshot is `iter_%06d.caffemodel` (weights) and `iter_%06d.solverstate` (momentum, iteration). Caffe writes the
path of the weights into the state; it is taken out, because the files are renamed and run folders are moved.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from pysrn.console import SrnError
from pysrn.nets.caffemodel import read_weights

KEPT = 2  # newest snapshots that stay on disk
_NAME = re.compile(r"iter_(\d+)\.solverstate")


def weights_path(folder: Path, iteration: int) -> Path:
    """The snapshot's caffemodel."""
    return folder / f"iter_{iteration:06d}.caffemodel"


def state_path(folder: Path, iteration: int) -> Path:
    """The snapshot's solver state."""
    return folder / f"iter_{iteration:06d}.solverstate"


def newest(folder: Path) -> int | None:
    """Iteration of the newest whole snapshot in a stage's folder, or None."""
    found = (int(match.group(1)) for path in folder.glob("iter_*") if (match := _NAME.fullmatch(path.name)))
    whole = [iteration for iteration in found if weights_path(folder, iteration).is_file()]
    return max(whole, default=None)


def check(folder: Path, iteration: int) -> None:
    """Raise SrnError for a damaged snapshot, on which Caffe would abort; the one before it may be whole."""
    path = weights_path(folder, iteration)
    try:
        read_weights(path)
        path = state_path(folder, iteration)
        whole = caffe_pb2.SolverState.FromString(path.read_bytes()).iter == iteration
    except (DecodeError, SrnError):
        whole = False
    if not whole:
        raise SrnError(f"the snapshot {path} is damaged", f"delete {path} and run the same command again")


def partial_prefix(folder: Path) -> Path:
    """What the solver's `snapshot_prefix` must be: Caffe writes here first."""
    return folder / "partial"


def take(solver, folder: Path) -> int:
    """Let the solver write a snapshot, rename it into place, drop all but the newest; returns its iteration."""
    iteration = solver.iter
    solver.snapshot()
    written = partial_prefix(folder)
    partial_state = written.with_name(f"{written.name}_iter_{iteration}.solverstate")
    state = caffe_pb2.SolverState.FromString(partial_state.read_bytes())
    state.ClearField("learned_net")
    partial_state.write_bytes(state.SerializeToString())
    # The state goes last: `newest` believes in a snapshot when it sees both.
    os.replace(written.with_name(f"{written.name}_iter_{iteration}.caffemodel"), weights_path(folder, iteration))
    os.replace(partial_state, state_path(folder, iteration))
    drop_old(folder, KEPT)
    return iteration


def drop_old(folder: Path, kept: int) -> None:
    """Delete all but the `kept` newest snapshots, and what an interrupted write left."""
    for path in folder.glob(f"{partial_prefix(folder).name}_iter_*"):
        path.unlink()
    states = sorted(folder.glob("iter_*.solverstate"), key=lambda path: int(_NAME.fullmatch(path.name).group(1)))
    for state in states[: len(states) - kept]:
        state.unlink()
        state.with_suffix(".caffemodel").unlink(missing_ok=True)
