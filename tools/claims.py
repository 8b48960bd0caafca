#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Test what the papers claim: train what is missing, measure, and write the verdicts to claims.md and claims.json.

With no claim named: all of them, each on those of its data sets that are there. The same command resumes.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from pysrn.console import MissingError, UsageError, message, run_main
from pysrn.recipes import EMBEDDED
from pysrn.train.flags import whole
from tools import make_lmdb, predict, run_stage
from tools.compare_seeds import call

RUNS, OUT, DATA = Path("runs/claims"), Path("docs"), Path("data")


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="S1 ... S9, C1 ... C5, M1 ... M3 (default: all)")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="LMDB pairs data/NAME (default: the claim's)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="0 to N - 1 (default: %(default)s)")
    parser.add_argument("--plan", action="store_true", help="print the runs, and about how long they take, and stop")
    parser.add_argument("--facts", action="store_true", help="only count what needs no run")
    parser.add_argument(
        "--choose", action="store_true", help="choose the recipes on held-out training images, and stop"
    )
    parser.add_argument("--again", action="store_true", help="look at the test images once more; the row counts it")
    parser.add_argument("--gpu", type=whole, metavar="N", help="CUDA device of all runs (default: CPU)")
    parser.add_argument("--training", metavar="WORDS", help="for tools/run_stage.py, in all runs of the data set")
    parser.add_argument(
        "--boxes", type=Path, metavar="FOLDER", help="annotations with boxes, as tools/visualize.py has"
    )
    parser.add_argument(
        "--shuffle-labels", action="store_true", help="a check: training labels dealt out anew, so each row must fail"
    )
    parser.add_argument("--folder", type=Path, default=DATA, help="of the LMDB pairs (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of all runs (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of claims.md, claims.json (default: %(default)s)")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Go through the claims, one process at a time."""
    from pysrn.claims.choice import choose
    from pysrn.claims.claim import claim_named, claims
    from pysrn.claims.record import Record
    from pysrn.nets.in_caffe import check_gpu

    if arguments.seeds < 1:
        raise UsageError("--seeds: a whole number from 1")
    for given, does in (
        (arguments.shuffle_labels, "--shuffle-labels writes a pair"),
        (arguments.choose, "--choose trains"),
    ):
        if arguments.plan and given:
            raise UsageError(f"{does}, --plan writes nothing", "give one of them")
    if arguments.training is not None and not arguments.data:
        raise UsageError("--training is for one data set", "name it: --data NAME")
    chosen = [claim_named(key) for key in arguments.claims or claims()]
    if arguments.gpu is not None and not (arguments.plan or arguments.facts):
        check_gpu(arguments.gpu)
    record = Record(arguments.out)
    searched, hours = set(), 0.0
    for system, claim in chosen:
        if claim.facts and not (arguments.plan or arguments.choose or arguments.shuffle_labels or arguments.data):
            print(f"{claim.key} counted: {record.count(claim, f'tools/claims.py {claim.key} --facts')}")
        if arguments.facts or not claim.rows:
            continue
        for name in arguments.data or claim.data:
            data = dataset(arguments, record, name, system)
            if data is None:
                continue
            if arguments.choose:
                if (system, name) not in searched:
                    choose(system, data, arguments.runs, record, train, arguments.gpu)
                    searched.add((system, name))
            else:
                hours += row(arguments, record, system, claim, data)
    if arguments.plan:
        print(f"all that is missing: about {hours:.1f} hours on 2 cores; runs that claims share are counted in each")
        return
    write(record, arguments.out)


def dataset(arguments, record, name: str, system):
    """A data set of a claim; None where it is not there and was not asked for."""
    from pysrn.claims.record import Record
    from pysrn.data.build import unfinished_shapes
    from pysrn.data.cut import shuffle_labels

    folder = arguments.folder / name
    if name == EMBEDDED and unfinished_shapes(folder) and not arguments.plan:
        call(make_lmdb, [EMBEDDED, "--out", str(folder), "--force"])
    if not folder.is_dir():
        if arguments.data and not arguments.plan:
            raise MissingError(f"no LMDB pair in {folder}", "tools/make_lmdb.py builds it")
        message(f"{name}: no LMDB pair in {folder}: left out")
        return None
    words = None if arguments.training is None else shlex.split(arguments.training)
    kept = Record(arguments.out) if arguments.plan else record  # a plan records nothing
    data = kept.dataset(name, folder, words, arguments.boxes)
    if data.dataset not in system.recipes:
        raise UsageError(f"{folder} holds {data.dataset or 'nothing'}: {system.title} has no recipe of it")
    if arguments.shuffle_labels:
        shuffled = arguments.runs / f"{name}-shuffled"
        shuffle_labels(folder, shuffled)
        data = replace(data, name=shuffled.name, folder=shuffled)
    return data


def row(arguments, record, system, claim, data) -> float:
    """Plan, or train and measure, a claim on a data set; returns the hours that are left before."""
    from pysrn.claims.choice import chosen
    from pysrn.claims.claim import WHOLE
    from pysrn.claims.runs import Job, families, share_first_stages_of
    from pysrn.systems.registry import default_system

    seeds, known = list(range(arguments.seeds)), chosen(system, data, record)
    rows = claim.rows_on(data.dataset)
    if any(side.measure.boxes for one in rows for side in one.sides) and data.annotations is None:
        message(f"{claim.key} on {data.name}: needs places of the labels: left out (--boxes FOLDER)")
        return 0.0
    jobs = {
        (training, seed): Job(system, data, training, seed, arguments.runs, known, arguments.gpu)
        for training in claim.trainings(data.dataset)
        for seed in seeds
    }
    hours = sum(job.estimate for job in jobs.values()) / 3600
    if arguments.plan:
        print(f"{claim.key} on {data.name}: {claim.says}; about {hours:.1f} hours are left")
        for job in jobs.values():
            print(f"  {'done   ' if job.done else 'missing'} tools/run_stage.py {shlex.join(job.words)}")
        return hours
    if record.refuse_second_look(claim, data.name, seeds, arguments.again):
        print(f"{claim.key} on {data.name}: {record.results[f'{claim.key} {data.name}']['verdict']} (finished before)")
        return 0.0
    for job in jobs.values():
        own, default = (
            replace(families(one, data, arguments.runs)[WHOLE], seed=job.seed, chosen=chosen(one, data, record))
            for one in (system, default_system())
        )
        share_first_stages_of([own, default], job)
        call(run_stage, job.words)
    for one in rows:  # the test images only when all runs of the claim are done
        for side in one.sides:
            for seed in seeds:
                look(jobs[side.training, seed], side.measure.stages)
    command = f"tools/claims.py {claim.key} --data {data.name.removesuffix('-shuffled')} --seeds {len(seeds)}"
    command += f" --training {shlex.quote(shlex.join(data.words))}" if data.words else ""
    command += "" if arguments.gpu is None else f" --gpu {arguments.gpu}"
    command += " --shuffle-labels" if arguments.shuffle_labels else ""
    print(f"{claim.key} on {data.name}: {record.finish(claim, data, seeds, jobs, command)}")
    write(record, arguments.out)
    return hours


def train(job) -> None:
    """Run what is missing of a job, and let it predict the test split of its pair."""
    call(run_stage, job.words)
    look(job, [job.last])


def look(job, stages) -> None:
    """Scores of the test images by the weights of some stages, where they are missing or of other weights."""
    for stage in stages:
        if not job.predicted(stage):
            call(predict, [str(job.run.path), "--stage", str(stage), "--data", str(job.data.folder), *job.on_device])


def write(record, out: Path) -> None:
    """Write the page and the record."""
    from pysrn.claims.page import page
    from pysrn.whole_files import replace_text

    record.write()
    replace_text(out / "claims.md", page(record))


if __name__ == "__main__":
    sys.exit(main())
