"""The child process that runs one stage: `python -m pysrn.train.runner STAGE_FOLDER`.

`pipeline.py` prepares the folder (net, solver, job.json) and reads this process's events: one JSON object a line on
stdout. Caffe's own log and anything else go to stderr, which the parent keeps as train.log. Exit codes are those
of `console.py`; a failed CHECK in Caffe ends the process with its own FATAL line on stderr.
"""

from __future__ import annotations

import csv
import fcntl
import json
import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import caffe
from caffe.proto import caffe_pb2

from pysrn.console import DONE, FAILED, InterruptedRun, SrnError
from pysrn.nets.caffemodel import read_layers
from pysrn.nets.prototxt import read_message
from pysrn.nets.stages import fixed_layers
from pysrn.train import snapshots, surgery
from pysrn.train.run_folder import JOB, LOG, NET, SOLVER, WEIGHTS

EVENT_SECONDS = 0.5  # how often progress is reported to the parent


@dataclass(frozen=True)
class Job:
    """What the parent wants of the child."""

    source: str | None  # caffemodel that the stage starts from; None: from scratch
    may_initialise: list[str]  # layers that the source need not have
    may_leave: list[str]  # layers of the source that the net need not have
    carry: bool  # whether those go into the stage's weights all the same
    losses: list[str]
    resume_from: int | None  # iteration of the snapshot to go on from
    snapshot_every: int
    gpu: int | None  # device number; None: CPU

    def write(self, folder: Path) -> None:
        """Write job.json."""
        (folder / JOB).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def main(argv: list[str]) -> int:
    """Run the stage prepared in the folder argv[0]."""
    folder = Path(argv[0])
    try:
        with open(folder / JOB, "r+", encoding="utf-8") as file:
            _wait_for_earlier_child(file, folder)
            run(folder, Job(**json.load(file)))
        return DONE
    except SrnError as error:
        _event(error=str(error), cure=error.cure)
        return error.exit_code
    except BrokenPipeError:  # the parent is gone; the newest snapshot is on disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _wait_for_earlier_child(file, folder: Path) -> None:
    """Lock job.json until this process ends: a killed parent leaves a child that ends with its iteration only."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _event(report=[f"waiting for an earlier process that still ends its iteration in {folder}"])
        fcntl.flock(file, fcntl.LOCK_EX)


def run(folder: Path, job: Job) -> None:
    """Train to `max_iter`; write weights.caffemodel (with carried layers) at the end."""
    stop = _StopRequest()
    if job.gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(job.gpu)
        caffe.set_mode_gpu()
    solver = caffe.get_solver(str(folder / SOLVER))
    message = read_message(folder / NET, caffe_pb2.NetParameter)
    _load(solver, folder, job)
    fixed = sorted(fixed_layers(message))
    source = {} if job.source is None else read_layers(job.source)
    start = {name: blobs for name, (_, blobs) in source.items()}
    if source:
        surgery.check_unchanged(solver.net, start, fixed)  # a snapshot from elsewhere would show here
    _train(solver, folder, job, stop)
    prints = surgery.check_unchanged(solver.net, start, fixed) if source else {}
    carried = {name: start[name] for name in start if job.carry and name not in solver.net.params}
    kinds = {name: kind for name, (kind, _) in source.items()}
    surgery.save_with_carried(solver.net, message, folder / WEIGHTS, carried, kinds)
    _event(done=solver.iter, fixed=prints, carried=list(carried))


class _StopRequest:
    """Becomes true on SIGINT or SIGTERM, so that the running iteration can end and be saved."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame) -> None:
        self.asked = True


def _load(solver, folder: Path, job: Job) -> None:
    if job.resume_from is not None:
        snapshots.check(folder, job.resume_from)
        surgery.load_strict(solver.net, snapshots.weights_path(folder, job.resume_from))
        solver.restore(str(snapshots.state_path(folder, job.resume_from)))
        _event(report=[f"going on from the snapshot of iteration {job.resume_from}"])
    elif job.source is None:
        _event(report=[f"weights from scratch\n  initialised {len(solver.net.params)} layers"])
    else:
        report = surgery.load_strict(solver.net, job.source, job.may_initialise, job.may_leave)
        _event(report=report.lines(unused="carried" if job.carry else "unused"))


def _train(solver, folder: Path, job: Job, stop: _StopRequest) -> None:
    max_iter = solver.param.max_iter
    columns = ["iteration", "loss", "lr", "seconds", *(job.losses if len(job.losses) > 1 else [])]
    with _open_log(folder / LOG, solver.iter, columns) as file:
        log = csv.writer(file)
        reported = 0.0
        while solver.iter < max_iter:
            started = time.monotonic()
            learning_rate = solver.lr
            solver.step(1)
            parts = [float(solver.net.blobs[name].data) for name in job.losses]
            loss = sum(parts)
            if not math.isfinite(loss):
                raise SrnError(
                    f"the loss became {loss} in iteration {solver.iter}; the last snapshot is kept",
                    "do the stage anew (--restart) with a lower --base-lr: X, or X,X,X,X with one a stage",
                )
            now = time.monotonic()
            row = [solver.iter, f"{loss:.6f}", f"{learning_rate:g}", f"{now - started:.4f}"]
            log.writerow(row + ([f"{part:.6f}" for part in parts] if len(parts) > 1 else []))
            if now - reported > EVENT_SECONDS or solver.iter == max_iter:
                file.flush()
                _event(iteration=solver.iter, loss=loss)
                reported = now
            last = solver.iter == max_iter
            if stop.asked or last or solver.iter % job.snapshot_every == 0:
                file.flush()
                snapshots.take(solver, folder)
            if stop.asked and not last:
                raise InterruptedRun(f"interrupted; iteration {solver.iter} is saved", "run the same command again")


def _open_log(path: Path, iteration: int, columns: list[str]):
    """Open log.csv for appending, cut behind `iteration`: what came after the snapshot will be done again."""
    kept: list[list[str]] = []
    if iteration and path.is_file():
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= iteration]
    file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115 - the caller closes it
    csv.writer(file).writerows([columns, *kept])
    return file


def _event(**fields) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
