#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Run a training stage, and before it what is missing: data (embedded set only) and earlier stages.

With no option but the stage this is the embedded data set: tools/run_stage.py 3
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import UsageError, run_main
from pysrn.precision import add_precision, multiply_in
from pysrn.recipes import EMBEDDED
from pysrn.systems.registry import run_prefix, system_named, systems
from pysrn.train.flags import add_flags, asked_for, positive, whole
from pysrn.train.watch import HANG_AFTER


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    known = systems().values()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = "; ".join(
        f"{system.title}: {', '.join(f'{stage.number} {stage.name}' for stage in system.stages)}" for system in known
    )
    parser.add_argument("stage", type=positive, nargs="?", help=f"{stages} (default: the last)")
    parser.add_argument("--system", choices=list(systems()), help="default: the first of these, or the run's")
    datasets = list(dict.fromkeys(name for system in known for name in system.recipes))
    parser.add_argument("--dataset", choices=datasets, help=f"default: {EMBEDDED}, or what the run began with")
    parser.add_argument("--run", help="name of the run (default: the data set's)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    parser.add_argument("--data", help="folder of the LMDB pair (default: data/<dataset>)")
    parser.add_argument(
        "--status", action="store_true", help="print the state of all runs, or of the one named, and stop"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--restart", action="store_true", help="do this stage anew; the old one is set aside")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", help="ImageNet caffemodel that stage 1 starts from")
    start.add_argument("--from-scratch", action="store_true", help="start stage 1 without ImageNet weights")
    add_flags(parser)
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--gpu", type=devices, default=(), metavar="N", help="CUDA device, or N,N,... for the ranks (default: CPU)"
    )
    machine.add_argument(
        "--ranks", type=positive, default=1, metavar="N", help="processes that share every batch, by MPI (default: 1)"
    )
    machine.add_argument(
        "--launcher", help='what starts them, as "mpiexec -hostfile FILE -n 8" (default: mpiexec -n RANKS, here)'
    )
    machine.add_argument(
        "--hang-after",
        type=positive,
        default=HANG_AFTER,
        metavar="SECONDS",
        help="a rank that does nothing for so long ends the job; its last snapshot is kept (default: %(default)s)",
    )
    machine.add_argument(
        "--workers", type=whole, default=1, metavar="N", help="processes that load images (default: %(default)s)"
    )
    machine.add_argument("--snapshot-every", type=positive, default=200, help="iterations (default: %(default)s)")
    machine.add_argument("--keep", type=positive, default=2, help="newest snapshots that stay (default: %(default)s)")
    machine.add_argument(
        "--cache-features",
        choices=("fp32", "fp16"),
        help="stages with a fixed trunk: keep its features on the disk and compute them once a view (see --views)",
    )
    machine.add_argument(
        "--cache-folder", type=Path, metavar="FOLDER", help="where; several runs may share it (default: in the run)"
    )
    machine.add_argument(
        "--whole-net",
        action="store_true",
        help="stages with a fixed trunk: train the whole net in one piece, its trunk neither folded nor apart",
    )
    add_precision(machine)
    machine.add_argument("--tensorboard", action="store_true", help="write event files, too (stageN/events)")
    return parser.parse_args(argv)


def devices(text: str) -> tuple[int, ...]:
    """CUDA device numbers divided by commas."""
    return tuple(whole(part) for part in text.split(","))


def work(arguments: argparse.Namespace) -> None:
    """Print the state, the plan, or carry it out."""
    from pysrn.train.fixed.feature_room import Caching
    from pysrn.train.launch import Launch, Machine, refuse_launched_command
    from pysrn.train.pipeline import run_up_to
    from pysrn.train.run_folder import RunFolder
    from pysrn.train.status import runs_in, status

    refuse_launched_command()
    run = RunFolder(arguments.runs / (arguments.run or default_name(asked_system(arguments), arguments.dataset)))
    if arguments.status:
        named = arguments.run or arguments.dataset or arguments.system
        print("\n".join(status([run] if named else runs_in(arguments.runs))))
        return
    settings = settings_of(arguments, run)
    stage = settings.recipe.system.stage(arguments.stage or settings.recipe.system.last_stage).number
    if arguments.cache_folder and not arguments.cache_features:
        raise UsageError("--cache-folder is for --cache-features", "give --cache-features fp32, or fp16")
    multiply_in(arguments.precision, gpu=bool(arguments.gpu))
    launch = Launch(arguments.ranks, arguments.launcher, arguments.hang_after)
    caching = arguments.cache_features and Caching(arguments.cache_features, arguments.cache_folder)
    plain = {name: getattr(arguments, name) for name in ("workers", "snapshot_every", "keep", "tensorboard")}
    machine = Machine(arguments.gpu, launch=launch, whole_net=arguments.whole_net, caching=caching, **plain)
    run_up_to(run, settings, stage, machine, restart=arguments.restart, dry_run=arguments.dry_run)
    if not arguments.dry_run:
        print(run.weights(stage))


def settings_of(arguments: argparse.Namespace, run):
    """What a run (its `RunFolder`) is to be trained with: what is asked for, else what it began with."""
    from pysrn.train.settings import choose_settings

    return choose_settings(
        run.read_settings(),
        dataset=arguments.dataset,
        data=arguments.data,
        weights=arguments.weights,
        from_scratch=arguments.from_scratch,
        asked=asked_for(arguments),
        system=asked_system(arguments),
    )


def asked_system(arguments: argparse.Namespace):
    """The system that is asked for, or None."""
    return system_named(arguments.system) if arguments.system else None


def default_name(system, dataset: str | None) -> str:
    """The name of a run that has none: the data set's, and before it the system's where that is not the default."""
    return ("" if system is None else run_prefix(system)) + (dataset or EMBEDDED)


if __name__ == "__main__":
    sys.exit(main())
