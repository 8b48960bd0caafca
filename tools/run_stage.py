#!/usr/bin/env python3
"""Run training stage 1-4 of SRN, and before it what is missing: data (embedded set only) and earlier stages.

With no option but the stage this is the embedded data set: tools/run_stage.py 3
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from pysrn.console import MissingError, run_main, seed_number
from pysrn.recipes import RECIPES, STAGE_NAMES, TRUNKS


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = ", ".join(f"{number} {name}" for number, name in STAGE_NAMES.items())
    parser.add_argument("stage", type=int, choices=list(STAGE_NAMES), nargs="?", help=f"{stages} (default: 4)")
    parser.add_argument("--dataset", choices=list(RECIPES), help="default: shapes, or what the run began with")
    parser.add_argument("--run", help="name of the run (default: the data set's)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    parser.add_argument("--data", help="folder of the LMDB pair (default: data/<dataset>)")
    parser.add_argument("--status", action="store_true", help="print the state of the four stages and stop")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--restart", action="store_true", help="do this stage anew; the old one is set aside")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", help="ImageNet caffemodel that stage 1 starts from")
    start.add_argument("--from-scratch", action="store_true", help="start stage 1 without ImageNet weights")
    recipe = parser.add_argument_group("recipe", "recorded in the run; default: pysrn/recipes.py")
    recipe.add_argument("--trunk", choices=list(TRUNKS))
    recipe.add_argument("--batch-size", type=positive)
    recipe.add_argument("--iter-size", type=positive, help="batches whose gradients are added up for one update")
    recipe.add_argument("--iterations", type=numbers(int), help="N, or N,N,N,N: one a stage")
    recipe.add_argument("--base-lr", type=numbers(float), help="X, or X,X,X,X: one a stage")
    recipe.add_argument(
        "--new-layer-lr", type=numbers(float), help="rate of the layers a stage adds, times --base-lr; X, or X,X,X,X"
    )
    recipe.add_argument("--seed", type=seed_number)
    machine = parser.add_argument_group("machine")
    machine.add_argument("--gpu", type=int, help="CUDA device (default: CPU)")
    machine.add_argument("--workers", type=int, default=1, help="processes that load images (default: %(default)s)")
    machine.add_argument("--snapshot-every", type=positive, default=200, help="iterations (default: %(default)s)")
    return run_main(work, parser.parse_args(argv))


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return value


def numbers(kind: type):
    """Parser of one positive number or four divided by commas."""

    def parse(text: str) -> list:
        values = [kind(part) for part in text.split(",")]
        if len(values) not in (1, 4) or not all(0 < value < math.inf for value in values):
            raise argparse.ArgumentTypeError("one positive number, or four divided by commas: one a stage")
        return values

    return parse


def work(arguments: argparse.Namespace) -> None:
    """Print the state, the plan, or carry it out."""
    from pysrn.train import pipeline
    from pysrn.train.run_folder import RunFolder
    from pysrn.train.settings import choose_settings

    run = RunFolder(arguments.runs / (arguments.run or arguments.dataset or "shapes"))
    earlier = run.read_settings()
    if arguments.status:
        if earlier is None:
            raise MissingError(f"there is no run in {run.path}", "tools/run_stage.py 1 begins one")
        print("\n".join(pipeline.status(run, earlier)))
        return
    settings = choose_settings(
        earlier,
        dataset=arguments.dataset,
        data=arguments.data,
        weights=arguments.weights,
        from_scratch=arguments.from_scratch,
        recipe_fields={
            "trunk": arguments.trunk,
            "batch_size": arguments.batch_size,
            "iter_size": arguments.iter_size,
            "seed": arguments.seed,
        },
        stage_fields={
            "iterations": arguments.iterations,
            "base_lr": arguments.base_lr,
            "new_layer_lr": arguments.new_layer_lr,
        },
    )
    device = pipeline.Device(arguments.gpu, arguments.workers, arguments.snapshot_every)
    stage = arguments.stage or len(STAGE_NAMES)
    pipeline.run_up_to(run, settings, stage, device, restart=arguments.restart, dry_run=arguments.dry_run)
    if not arguments.dry_run:
        print(run.weights(stage))


if __name__ == "__main__":
    sys.exit(main())
