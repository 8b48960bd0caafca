"""Several processes (ranks) that train one stage together: each computes a part of every batch, all learn the same.

`runner.py` trains with a `Team`, which is `Alone` for a plain process. After each backward pass the gradients of all
ranks are averaged, so N ranks with a batch of B/N each do what one process does with a batch of B, but for rounding.
Only rank 0 writes files and events; what decides about going on is agreed, so that all stop in the same iteration.

Differs from paper: BN with the statistics of the batch (`train_bn`) takes those of each rank's own part, as
data-parallel training in Caffe does. The running statistics are averaged over the ranks in each iteration, so they are
the same on all of them and a snapshot holds what every rank has seen. Nets with stored statistics are not affected.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import caffe
import numpy as np

import pysrn
from pysrn.console import SrnError
from pysrn.data.pair.manifest import NAME as DATA_MANIFEST
from pysrn.nets import messages
from pysrn.nets.caffemodel import sha256_of
from pysrn.nets.in_caffe import make_solver, set_device
from pysrn.nets.prototxt import read_message
from pysrn.nets.surgery import fingerprint
from pysrn.processes import send
from pysrn.train.fixed.settings import feed_of
from pysrn.train.stage.pulse import WORKS, Pulse
from pysrn.train.stage.rank_net import rank_net, shared_blobs

_FIRST_SPEAKS = 1.0  # seconds that rank 0 has to report an error that all ranks have
_PATIENCE = 10  # seconds that the launcher has to end the job
_DELIVERY = 0.5  # seconds that a launcher has to pass on what was printed before the job is ended


class Alone:
    """A plain process: rank 0 of 1, which agrees with itself."""

    rank, size = 0, 1

    def set_device(self, gpus: list[int]) -> None:
        """Let Caffe compute on this rank's of a machine's CUDA devices; none means on the CPU."""
        set_device(gpus[0] if gpus else None)

    def solver(self, path: Path, net: Path):
        """The solver of a solver.prototxt; its net's batch is the whole one."""
        return caffe.get_solver(str(path))

    def begin(self, solver, net: messages.NetParameter) -> None:
        """Nothing to share."""

    def check_size(self, ranks: int) -> None:
        """Raise SrnError when there are not as many ranks as were asked for."""
        if self.size != ranks:
            raise SrnError(
                f"{ranks} ranks were asked for, but the launcher and mpi4py make it {self.size}",
                "start as many as --ranks says, with the launcher of the MPI that mpi4py uses (--launcher)",
            )

    def mean(self, values: list[float]) -> list[float]:
        """The mean over the ranks of each value; not finite where one rank's is not."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is set."""
        return flag

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, on every rank (anything that pickle takes)."""
        return value

    def check_same(self, what: str, value: Any) -> None:
        """Raise SrnError when the ranks have different values."""

    def check_weights(self, net) -> None:
        """Raise SrnError when the ranks no longer have the same weights and statistics, bit by bit."""

    def parent_asks_to_stop(self) -> bool:
        """Whether the parent has asked for the end in another way than by a signal."""
        return False

    def tell(self, **fields) -> None:
        """Send an event to the parent (`processes.send`); only rank 0 does."""
        if self.rank == 0:
            send(**fields)

    def fail(self, error: SrnError) -> int:
        """Report the error that ends this process; returns the exit code."""
        self.tell(error=str(error), cure=error.cure, exit_code=error.exit_code)
        return error.exit_code

    def end(self, code: int) -> int:
        """What to exit with when nobody is left to report to."""
        return code


ALONE = Alone()


class Team(Alone):
    """This process among the ranks that a launcher has started.

    All ranks have to call the same methods in the same order, but for `fail`.
    """

    def __init__(self, pulse: Pulse) -> None:
        from mpi4py import MPI

        self._waiting = pulse.waiting
        self._all, self._in_place = MPI.COMM_WORLD, MPI.IN_PLACE
        self.rank, self.size = self._all.rank, self._all.size
        self._use_nccl, self._nccl = False, None
        processes = self._all.allgather([socket.gethostname(), os.getpid()])
        self._hosts = [host for host, _ in processes]
        self._place = self._hosts[: self.rank].count(self._hosts[self.rank])  # among the ranks of this machine
        self.tell(processes=processes)
        pulse.does(WORKS)

    def set_device(self, gpus: list[int]) -> None:
        """Let Caffe compute on this rank's of a machine's CUDA devices; none means on the CPU.

        Gradients go by NCCL where Caffe has it and every rank has a device of its own, else by MPI.
        """
        device = gpus[self._place % len(gpus)] if gpus else None
        set_device(device)
        with self._waiting():
            places = set(self._all.allgather((socket.gethostname(), device)))
        self._use_nccl = bool(gpus) and caffe.has_nccl() and len(places) == self.size

    @property
    def exchange(self) -> str:
        """What the gradients go by."""
        return "NCCL" if self._use_nccl else "MPI"

    def solver(self, path: Path, net: Path):
        """The solver of a solver.prototxt, its net fed with this rank's part of every batch.

        Raises UsageError when the batch cannot be shared evenly.
        """
        self.check_same("version of this project", _sources())
        message = read_message(path, messages.SolverParameter)
        whole = read_message(net, messages.NetParameter)
        self.check_same("data set", sha256_of(Path(feed_of(whole).folder) / DATA_MANIFEST))
        self.check_same("net.prototxt", whole.SerializeToString(deterministic=True))
        message.ClearField("net")
        message.net_param.CopyFrom(rank_net(whole, self.rank, self.size))
        if self._use_nccl:
            caffe.set_solver_count(self.size)
            caffe.set_solver_rank(self.rank)
            caffe.set_multiprocess(True)
            message.layer_wise_reduce = False  # with iter_size it would average the same gradients again and again
        return make_solver(message)

    def begin(self, solver, net: messages.NetParameter) -> None:
        """Give every rank rank 0's weights, and have all gradients and running statistics averaged from now on."""
        self.check_same("iteration", str(solver.iter))
        for blobs in solver.net.params.values():
            for blob in blobs:
                values = np.ascontiguousarray(blob.data)
                with self._waiting():
                    self._all.Bcast(values, root=0)
                blob.data[...] = values
        learning, statistics = shared_blobs(solver.net, net)
        if self._use_nccl:
            # As Caffe's own python/train.py does it. The object must live as long as the solver.
            self._nccl = caffe.NCCL(solver, self.from_first(caffe.NCCL.new_uid() if self.rank == 0 else None))
            solver.add_callback(self._nccl)
            learning = []
        parts = [(blob, "diff") for blob in learning] + [(blob, "data") for blob in statistics]
        buffer = np.empty(sum(blob.count for blob, _ in parts), np.float32)
        solver.add_callback(lambda: None, lambda: self._average(parts, buffer))

    def mean(self, values: list[float]) -> list[float]:
        """The mean over the ranks of each value; not finite where one rank's is not."""
        sums = np.array(values, np.float64)
        with self._waiting():
            self._all.Allreduce(self._in_place, sums)
        return [float(value) / self.size for value in sums]

    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is set."""
        return self.mean([float(flag)])[0] > 0

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, on every rank (anything that pickle takes)."""
        with self._waiting():
            return self._all.bcast(value, root=0)

    def check_same(self, what: str, value: Any) -> None:
        """Raise SrnError when the ranks have different values."""
        if rank := self._first_different(value):
            raise SrnError(
                f"rank {rank} on {self._hosts[rank]} has another {what} than rank 0",
                "all machines must see the same run folder and data, and run the same version of this project",
            )

    def check_weights(self, net) -> None:
        """Raise SrnError when the ranks no longer have the same weights and statistics, bit by bit."""
        if rank := self._first_different(fingerprint(blob for blobs in net.params.values() for blob in blobs)):
            raise SrnError(
                f"the weights of rank {rank} are no longer those of rank 0; the last snapshot is kept",
                "run the same command again; the MPI library gives the ranks different sums if it happens again",
            )

    def parent_asks_to_stop(self) -> bool:
        """Whether the parent has written to rank 0's stdin (launchers pass it on), or is gone and left it closed."""
        return self.rank == 0 and bool(select.select([0], [], [], 0)[0])

    def fail(self, error: SrnError) -> int:
        """Report the error that ends this rank, and end the whole job.

        What all ranks have agreed on is rank 0's to report; the others only speak when rank 0 does not end the job.
        """
        fields = {"cure": error.cure, "exit_code": error.exit_code}
        if self.rank == 0:
            send(error=str(error), **fields)
        else:
            time.sleep(_FIRST_SPEAKS)
            send(error=f"rank {self.rank} on {socket.gethostname()}: {error}", **fields)
        return self.end(error.exit_code)

    def end(self, code: int) -> int:
        """End the whole job: the other ranks would wait for this one without end."""
        sys.stderr.flush()
        time.sleep(_DELIVERY)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_PATIENCE)  # kills this process where the launcher does not answer any more
        self._all.Abort(code)
        return code

    def _first_different(self, value: Any) -> int:
        """The first rank whose value is not rank 0's; 0 when there is none."""
        with self._waiting():
            values = self._all.allgather(value)
        return next((rank for rank, other in enumerate(values) if other != values[0]), 0)

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """End the whole job when this rank ends with an error: the others would wait for it without end."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.fail(SrnError(f"{type(error).__name__}: {error}", "train.log in the stage's folder says where"))

    def _average(self, parts: list[tuple[object, str]], buffer: np.ndarray) -> None:
        """Replace the diff or data of many blobs by its mean over the ranks, all in one message."""
        ends = np.cumsum([blob.count for blob, _ in parts])
        places = [slice(end - blob.count, end) for end, (blob, _) in zip(ends, parts, strict=True)]
        for place, (blob, kind) in zip(places, parts, strict=True):
            buffer[place] = getattr(blob, kind).ravel()
        with self._waiting():
            self._all.Allreduce(self._in_place, buffer)
        buffer /= self.size
        for place, (blob, kind) in zip(places, parts, strict=True):
            array = getattr(blob, kind)
            array[...] = buffer[place].reshape(array.shape)


def _sources() -> str:
    """SHA-256 of this package's Python files: a version number does not tell two clones apart."""
    root, digest = Path(pysrn.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
