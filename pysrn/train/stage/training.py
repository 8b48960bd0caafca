"""The iterations of a stage: the one loop in which a net is trained, watched, logged, validated and saved.

`runner.py` makes the solver and calls this.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from caffe import set_random_seed

from pysrn.console import InterruptedRun, SrnError
from pysrn.nets import messages
from pysrn.nets.prototxt import read_message
from pysrn.recipes import PLATEAU
from pysrn.train.stage import snapshots
from pysrn.train.stage.files import SOLVER, VALIDATION_NET
from pysrn.train.stage.job import Job
from pysrn.train.stage.parallel import Alone
from pysrn.train.stage.schedule import Schedule
from pysrn.train.stage.stage_log import StageLog
from pysrn.train.stage.validation import Validation

EVENT_SECONDS = 0.5  # how often progress is reported to the parent
CHECK_EVERY = 50  # assumed: iterations between looks at all weights; a NaN mostly shows in the next loss anyhow


class StopRequest:
    """Becomes true on SIGINT or SIGTERM, so that the running iteration can end and be saved."""

    def __init__(self, team: Alone) -> None:
        self._signalled, self._team = False, team
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    @property
    def asked(self) -> bool:
        """Whether this process has been asked to stop; the ranks of a team still have to agree on it."""
        return self._signalled or self._team.parent_asks_to_stop()

    def _ask(self, number: int, frame) -> None:
        self._signalled = True


class Training:
    """The iterations of a stage: one step at a time, its loss looked at, logged, validated and saved."""

    def __init__(
        self,
        solver,
        folder: Path,
        job: Job,
        schedule: Schedule,
        watched: Collection[str],
        team: Alone,
        beside: Path | None,
    ) -> None:
        self._solver, self._folder, self._job, self._schedule = solver, folder, job, schedule
        self._beside = beside  # a caffemodel of what snapshots hold beside the net
        self._team = team
        self._watched = watched  # layers that may change
        self._losses = LossMeans(solver.net, job.losses)
        self._validation = None
        if schedule.rules.validate_every is not None and team.rank == 0:
            self._validation = Validation(folder / VALIDATION_NET, solver.net, job.validation_images)
        self._draws = any(layer.type == "Dropout" for layer in solver.net.layers)
        self._seed = read_message(folder / SOLVER, messages.SolverParameter).random_seed
        self._reported, self._last_loss = 0.0, math.nan
        self._set_rate()

    @property
    def finished(self) -> bool:
        """Whether all iterations are done, or the schedule ended the stage."""
        return self._solver.iter >= self._solver.param.max_iter or self._schedule.state.ended

    def run(self, stop: StopRequest) -> None:
        """Train to the end; raises InterruptedRun, with everything saved, when `stop` is asked for before it."""
        solver, job = self._solver, self._job
        with self._open_log() as log:
            before = self._schedule.record()
            self._validate(log, stop)  # the stage may have been interrupted in the middle of it
            if self._schedule.due(solver.iter, last=self.finished):  # and it was again
                raise InterruptedRun("interrupted in a validation", "run the same command again")
            if self._schedule.record() != before:
                self._snapshot()
            while not self.finished:
                self._step(log)
                best = self._validate(log, stop)
                self._report(log)
                stopping = self._team.any(stop.asked)
                if stopping or self.finished or best or solver.iter % job.snapshot_every == 0:
                    if log:
                        log.sync()
                    self._snapshot()
                if stopping and not self._over:
                    raise InterruptedRun(f"interrupted; iteration {solver.iter} is saved", "run the same command again")
            if not self._over:
                raise InterruptedRun("interrupted in the last validation", "run the same command again")

    @property
    def _over(self) -> bool:
        return self.finished and not self._schedule.due(self._solver.iter, last=True)

    def _open_log(self) -> AbstractContextManager[StageLog | None]:
        """The logs; rank 0 alone writes them."""
        if self._team.rank:
            return nullcontext()
        validated = None if self._validation is None else self._schedule.state.validated
        return StageLog(self._folder, self._solver.iter, self._job.losses, validated, self._job.tensorboard)

    def _step(self, log: StageLog | None) -> None:
        solver = self._solver
        started, learning_rate = time.monotonic(), solver.lr
        if self._draws:
            set_random_seed(drawing_seed(self._seed, solver.iter, self._team.rank))
        solver.step(1)
        losses = self._team.mean(self._losses.take())
        if not math.isfinite(sum(losses)):
            raise _diverged(f"the loss became {sum(losses)} in iteration {solver.iter}", self._folder)
        if solver.iter % CHECK_EVERY == 0:
            self._check_weights()
        if log:
            log.iteration(solver.iter, losses, learning_rate, time.monotonic() - started)
        self._last_loss = sum(losses)

    def _report(self, log: StageLog | None) -> None:
        """Tell the parent now and then how far it is, and at the end."""
        if time.monotonic() - self._reported > EVENT_SECONDS or self.finished:
            if log:
                log.flush()
            self._team.tell(iteration=self._solver.iter, loss=self._last_loss)
            self._reported = time.monotonic()

    def _validate(self, log: StageLog | None, stop: StopRequest) -> bool:
        """Validate where it is due; returns whether these are the best weights so far.

        Rank 0 does it alone, with the weights that all have; all take in its loss, so their schedules stay alike.
        """
        iteration, schedule = self._solver.iter, self._schedule
        if not schedule.due(iteration, last=self.finished):
            return False

        def asked_to_stop() -> bool:
            self._team.tell()  # a validation may be long: this ends the process where its parent is gone
            return stop.asked

        loss = self._team.from_first(self._validation and self._validation.loss(asked_to_stop))
        if loss is None:
            return False
        if not math.isfinite(loss):
            raise _diverged(f"the validation loss became {loss} after iteration {iteration}", self._folder)
        if log:
            log.validation(iteration, loss, self._solver.lr)
        self._team.tell(report=schedule.observe(iteration, loss))
        self._set_rate()
        return schedule.state.best_iteration == iteration

    def _set_rate(self) -> None:
        if self._schedule.rules.kind == PLATEAU:
            self._solver.param.base_lr = self._schedule.state.lr  # lr_policy is `fixed`, which takes it as it is

    def _snapshot(self) -> None:
        self._check_weights()
        self._team.check_weights(self._solver.net)
        if self._team.rank == 0:
            snapshots.take(self._solver, self._folder, self._schedule.record(), self._job.keep, self._beside)

    def _check_weights(self) -> None:
        """Raise SrnError when a number that the stage may change is no longer finite (or its square is not)."""
        for name in self._watched:
            for blob in self._solver.net.params[name]:
                values = blob.data.ravel()
                if not math.isfinite(np.vdot(values, values)):
                    what = f"weights of layer {name} grew beyond all bounds (infinite or NaN) by iteration"
                    raise _diverged(f"{what} {self._solver.iter}", self._folder)


def drawing_seed(seed: int, iteration: int, rank: int) -> int:
    """What Caffe's random numbers of an iteration begin with: a function of these alone, so that resuming changes none.

    Below 2^31. Differs between ranks, each of which drops out of its own images.
    """
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1)[0]) >> 1


class LossMeans:
    """The losses of an iteration, each the mean over its `iter_size` batches; the net itself keeps the last only."""

    def __init__(self, net, names: list[str]) -> None:
        weights = net.blob_loss_weights
        self._blobs = [(net.blobs[name], weights[name]) for name in names]
        self._last_layer = len(net.layers) - 1
        self._batches: list[list[float]] = []
        net.after_forward(self._after_layer)

    def take(self) -> list[float]:
        """The means since the last call."""
        means = [sum(values) / len(values) for values in zip(*self._batches, strict=True)]
        self._batches.clear()
        return means

    def _after_layer(self, layer: int) -> None:
        if layer == self._last_layer:
            self._batches.append([float(blob.data) * weight for blob, weight in self._blobs])


def _diverged(what: str, folder: Path) -> SrnError:
    saved = snapshots.iterations(folder)
    return SrnError(
        f"{what}; " + (f"the snapshot of iteration {saved[0]} is kept" if saved else "there is no snapshot yet"),
        "do the stage anew (--restart) with a lower --base-lr: X, or X,X,X,X with one a stage",
    )
