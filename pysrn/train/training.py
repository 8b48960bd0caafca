"""The iterations of a stage: the one loop in which a net is trained, watched, logged, validated and saved.

`runner.py` makes the solver and calls this.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from pysrn.console import InterruptedRun, SrnError
from pysrn.train import snapshots
from pysrn.train.job import Job, send
from pysrn.train.run_folder import VALIDATION_NET
from pysrn.train.schedule import Schedule
from pysrn.train.stage_log import StageLog
from pysrn.train.validation import Validation

EVENT_SECONDS = 0.5  # how often progress is reported to the parent
CHECK_EVERY = 50  # assumed: iterations between looks at all weights; a NaN mostly shows in the next loss anyhow


class StopRequest:
    """Becomes true on SIGINT or SIGTERM, so that the running iteration can end and be saved."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame) -> None:
        self.asked = True


class Training:
    """The iterations of a stage: one step at a time, its loss looked at, logged, validated and saved."""

    def __init__(self, solver, folder: Path, job: Job, schedule: Schedule, watched: Collection[str]) -> None:
        self._solver, self._folder, self._job, self._schedule = solver, folder, job, schedule
        self._watched = watched  # layers that may change
        self._losses = LossMeans(solver.net, job.losses)
        self._validation = None
        if schedule.rules.validate_every is not None:
            self._validation = Validation(folder / VALIDATION_NET, solver.net, job.validation_images)
        self._reported, self._last_loss = 0.0, math.nan
        self._set_rate()

    @property
    def finished(self) -> bool:
        """Whether all iterations are done, or the schedule ended the stage."""
        return self._solver.iter >= self._solver.param.max_iter or self._schedule.state.ended

    def run(self, stop: StopRequest) -> None:
        """Train to the end; raises InterruptedRun, with everything saved, when `stop` is asked for before it."""
        solver, job = self._solver, self._job
        validated = None if self._validation is None else self._schedule.state.validated
        with StageLog(self._folder, solver.iter, job.losses, validated, job.tensorboard) as log:
            before = self._schedule.record()
            self._validate(log, stop)  # the stage may have been interrupted in the middle of it
            if self._schedule.record() != before:
                self._snapshot()
            while not self.finished:
                self._step(log)
                best = self._validate(log, stop)
                self._report(log)
                if stop.asked or self.finished or best or solver.iter % job.snapshot_every == 0:
                    log.flush()
                    self._snapshot()
                if stop.asked and not self._over:
                    raise InterruptedRun(f"interrupted; iteration {solver.iter} is saved", "run the same command again")
            if not self._over:
                raise InterruptedRun("interrupted in the last validation", "run the same command again")

    @property
    def _over(self) -> bool:
        return self.finished and not self._schedule.due(self._solver.iter, last=True)

    def _step(self, log: StageLog) -> None:
        solver = self._solver
        started, learning_rate = time.monotonic(), solver.lr
        solver.step(1)
        losses = self._losses.take()
        if not math.isfinite(sum(losses)):
            raise _diverged(f"the loss became {sum(losses)} in iteration {solver.iter}", self._folder)
        if solver.iter % CHECK_EVERY == 0:
            self._check_weights()
        log.iteration(solver.iter, losses, learning_rate, time.monotonic() - started)
        self._last_loss = sum(losses)

    def _report(self, log: StageLog) -> None:
        """Tell the parent now and then how far it is, and at the end."""
        if time.monotonic() - self._reported > EVENT_SECONDS or self.finished:
            log.flush()
            send(iteration=self._solver.iter, loss=self._last_loss)
            self._reported = time.monotonic()

    def _validate(self, log: StageLog, stop: StopRequest) -> bool:
        """Validate where it is due; returns whether these are the best weights so far."""
        iteration, schedule = self._solver.iter, self._schedule
        if not schedule.due(iteration, last=self.finished):
            return False

        def asked_to_stop() -> bool:
            send()  # a validation may be long: this ends the process where its parent is gone
            return stop.asked

        loss = self._validation.loss(asked_to_stop)
        if loss is None:
            return False
        if not math.isfinite(loss):
            raise _diverged(f"the validation loss became {loss} after iteration {iteration}", self._folder)
        log.validation(iteration, loss, self._solver.lr)
        send(report=schedule.observe(iteration, loss))
        self._set_rate()
        return schedule.state.best_iteration == iteration

    def _set_rate(self) -> None:
        if self._schedule.rules.kind == "plateau":
            self._solver.param.base_lr = self._schedule.state.lr  # lr_policy is `fixed`, which takes it as it is

    def _snapshot(self) -> None:
        self._check_weights()
        snapshots.take(self._solver, self._folder, self._schedule.record(), self._job.keep)

    def _check_weights(self) -> None:
        """Raise SrnError when a number that the stage may change is no longer finite (or its square is not)."""
        for name in self._watched:
            for blob in self._solver.net.params[name]:
                values = blob.data.ravel()
                if not math.isfinite(np.vdot(values, values)):
                    what = f"weights of layer {name} grew beyond all bounds (infinite or NaN) by iteration"
                    raise _diverged(f"{what} {self._solver.iter}", self._folder)


class LossMeans:
    """The losses of an iteration, each the mean over its `iter_size` batches; the net itself keeps the last only."""

    def __init__(self, net, names: list[str]) -> None:
        self._blobs = [net.blobs[name] for name in names]
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
            self._batches.append([float(blob.data) for blob in self._blobs])


def _diverged(what: str, folder: Path) -> SrnError:
    saved = snapshots.iterations(folder)
    return SrnError(
        f"{what}; " + (f"the snapshot of iteration {saved[0]} is kept" if saved else "there is no snapshot yet"),
        "do the stage anew (--restart) with a lower --base-lr: X, or X,X,X,X with one a stage",
    )
