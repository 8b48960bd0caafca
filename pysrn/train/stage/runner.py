"""The child process that runs one stage: `python -m pysrn.train.stage.runner STAGE_FOLDER`.

`pipeline.py` prepares the folder (net, solver, job.json) and reads this process's events: one JSON object a line on
stdout. Caffe's own log and anything else go to stderr, which the parent keeps as train.log. Exit codes are those
of `console.py`; a failed CHECK in Caffe ends the process with its own FATAL line on stderr. With several ranks each of
them runs this (`rank.py`); what they share and agree on goes through their team (`parallel.py`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pysrn.console import DONE, FAILED, SrnError
from pysrn.disk_errors import cure_and_then
from pysrn.locks import take
from pysrn.nets import messages, surgery
from pysrn.nets.caffemodel import read_layers, sha256_of, write_weights
from pysrn.nets.layers import fixed_layers
from pysrn.nets.prototxt import read_message
from pysrn.precision import multiply_in
from pysrn.train.fixed import fixed_part
from pysrn.train.stage import snapshots
from pysrn.train.stage.files import CARRIED, JOB, NET, SOLVER, WEIGHTS
from pysrn.train.stage.first_weights import draw_first_weights
from pysrn.train.stage.job import Job
from pysrn.train.stage.parallel import ALONE, Alone
from pysrn.train.stage.schedule import Rules, Schedule, State
from pysrn.train.stage.training import StopRequest, Training


def main(argv: list[str], team: Alone = ALONE) -> int:
    """Run the stage prepared in the folder argv[0], alone or as one rank of a team."""
    folder = Path(argv[0])
    try:
        with open(folder / JOB, "r+" if team.rank == 0 else "r", encoding="utf-8") as file:
            if team.rank == 0:
                take(file.fileno())  # until this process ends: a killed parent leaves a child for a moment
            run(folder, Job(**json.load(file)), team)
        return DONE
    except SrnError as error:
        return team.fail(error)
    except BrokenPipeError:  # the parent is gone; the newest snapshot is on disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return team.end(FAILED)
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror or error}"
        cure = cure_and_then(error, "then run the same command again")
        return team.fail(SrnError(f"{what}; the last snapshot is kept", cure))


def run(folder: Path, job: Job, team: Alone) -> None:
    """Train to the end of the stage; then write weights.caffemodel, with the carried layers."""
    stop = StopRequest(team)
    team.check_size(job.ranks)
    multiply_in(job.precision)  # of hosts whose environment does not say it
    team.set_device(job.gpus)
    solver = team.solver(folder / SOLVER, folder / NET)
    message = read_message(folder / NET, messages.NetParameter)
    schedule = _load(solver, folder, job, team)
    team.begin(solver, message)
    source = {} if job.source is None else read_layers(job.source)
    start = {name: blobs for name, (_, blobs) in source.items()}
    still = fixed_layers(message)
    fixed = sorted(name for name in still if name in start or not source)  # others begin with the net: constants
    if source:
        surgery.check_unchanged(solver.net, start, fixed)  # a snapshot from elsewhere would show here
    beside = {name: blobs for name, blobs in start.items() if name not in solver.net.params}
    if job.whole_net and job.resume_from is not None:
        surgery.check_carried(snapshots.file_of(folder, job.resume_from, snapshots.WEIGHTS), beside, [])
    watched = [name for name in solver.net.params if name not in still]
    others = _beside_snapshots(folder, job, {name: source[name] for name in beside}, len(source), team)
    training = Training(solver, folder, job, schedule, watched, team, others)
    training.run(stop)
    kept = _take_best(solver, folder, job, schedule, team)
    prints = surgery.check_unchanged(solver.net, start, fixed) if source else {}
    fixed_part.check_unchanged()
    carried = {name: blobs for name, blobs in beside.items() if job.carry and name not in job.dropped}
    kinds = {name: kind for name, (kind, _) in source.items()}
    if team.rank == 0:
        surgery.save_with_carried(solver.net, message, folder / WEIGHTS, carried, kinds)
        prints |= surgery.check_carried(folder / WEIGHTS, carried, job.fixed)
    best = {"iteration": schedule.state.best_iteration, "loss": schedule.state.best_loss}
    unused = [name for name in carried if name not in job.fixed]
    validated = best["iteration"] is not None
    team.tell(done=solver.iter, kept=kept, fixed=prints, carried=unused, best=best if validated else None)


def _beside_snapshots(folder: Path, job: Job, beside: Mapping, in_source: int, team: Alone) -> Path | None:
    """A caffemodel of what snapshots of a split net hold beside its own layers; None: the net is whole."""
    if not job.whole_net or len(beside) == in_source:
        return Path(job.source) if job.whole_net else None
    if team.rank == 0:
        write_weights(folder / CARRIED, folder.name, beside)
    return folder / CARRIED


def _load(solver, folder: Path, job: Job, team: Alone) -> Schedule:
    """Give the net the weights, momentum and schedule that the job starts or goes on with."""
    state = State(job.base_lr)
    if job.resume_from is not None:
        _load_snapshot(solver, folder, job, job.resume_from)
        snapshot = snapshots.file_of(folder, job.resume_from, snapshots.STATE)
        solver.restore(str(snapshot))
        state = State(**snapshots.read_schedule(folder, job.resume_from))
        team.check_same("snapshot", sha256_of(snapshot))
        if team.rank == 0:
            snapshots.drop_newer(folder, job.resume_from)
            snapshots.drop_old(folder, job.keep, state.best_iteration)  # a power cut can bring back what was deleted
        team.tell(report=[f"going on from the snapshot of iteration {job.resume_from}"])
    elif job.source is None:
        team.tell(report=[f"weights from scratch\n  initialised {len(solver.net.params)} layers"])
    else:
        leave = [*job.fixed, *job.may_leave]
        report = surgery.load_strict(solver.net, job.source, job.may_initialise, leave)
        if job.whole_net:
            draw_first_weights(solver.net, Path(job.whole_net), folder / SOLVER, report.initialised)
        team.tell(report=report.lines("carried" if job.carry else "unused", job.fixed, job.dropped))
    return Schedule(Rules(**job.schedule), state)


def _load_snapshot(solver, folder: Path, job: Job, iteration: int) -> None:
    """Give the net the weights of a snapshot."""
    beside = [*job.fixed, *job.may_leave] if job.whole_net else []
    surgery.load_strict(solver.net, snapshots.file_of(folder, iteration, snapshots.WEIGHTS), may_leave=beside)


def _take_best(solver, folder: Path, job: Job, schedule: Schedule, team: Alone) -> int:
    """Where the rules say so, give the net the weights of the lowest validation loss; returns whose it has."""
    best = schedule.state.best_iteration
    if not schedule.rules.best or best in (None, solver.iter):
        return solver.iter
    if damaged := snapshots.damaged_file(folder, best):
        cure = "do the stage anew (--restart)"
        raise SrnError(f"{damaged}, of the lowest validation loss, is damaged or gone", cure)
    _load_snapshot(solver, folder, job, best)
    whose = f"of iteration {best}" if best else "that it began with: no training had a lower one"
    team.tell(report=[f"the stage ends with the weights of its lowest validation loss, those {whose}"])
    return best


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
