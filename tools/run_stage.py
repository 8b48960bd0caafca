#!/usr/bin/env python3
"""Run training stage 1-4 of SRN, and before it what is missing: data (embedded set only) and earlier stages.

With no option but the stage this is the embedded data set: tools/run_stage.py 3
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from pysrn.console import MissingError, UsageError, run_main, seed_number
from pysrn.recipes import PREACT, RECIPES, STAGE_NAMES, TRUNKS, VARIANTS

# Flags that are fields of Recipe, of StageSpec and of HeadSpec.
RECIPE_FLAGS = (
    "variant", "trunk", "batch_size", "iter_size", "validation_fraction", "momentum", "weight_decay", "seed"
)  # fmt: skip
STAGE_FLAGS = (
    "iterations", "epochs", "base_lr", "new_layer_lr", "drops", "gamma", "patience", "min_lr", "validate_every",
    "train_bn", "views"
)  # fmt: skip
HEAD_FLAGS = ("confidence_sees_blocks",)
LARGEST = 2**31 - 1  # Caffe's integers


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
    recipe = parser.add_argument_group(
        "recipe", "recorded in the run; default: pysrn/recipes.py. N or X: one number, or four divided by commas"
    )
    recipe.add_argument("--variant", choices=VARIANTS, help="the net of the paper's text, or the one that was released")
    recipe.add_argument("--trunk", choices=[name for name in TRUNKS if not name.endswith(PREACT)])
    recipe.add_argument(
        "--confidence-sees-blocks",
        action=argparse.BooleanOptionalAction,
        help="released: whether the confidence branch reads the residual blocks (default: yes) or X; sources differ",
    )
    recipe.add_argument(
        "--train-bn",
        type=stages_of_batch_statistics,
        metavar="STAGES",
        help="none, 1, 4 or 1,4: stages whose BN statistics follow the batch; the others keep the stored ones",
    )
    recipe.add_argument("--batch-size", type=positive)
    recipe.add_argument("--iter-size", type=positive, help="batches whose gradients are added up for one update")
    length = recipe.add_mutually_exclusive_group()
    length.add_argument("--iterations", type=numbers(int), metavar="N", help="of each stage (plateau: at most)")
    length.add_argument("--epochs", type=numbers(float), metavar="X", help="the same in rounds through the images")
    recipe.add_argument("--base-lr", type=numbers(float), metavar="X")
    recipe.add_argument(
        "--new-layer-lr", type=numbers(float), metavar="X", help="rate of the layers a stage adds, times --base-lr"
    )
    recipe.add_argument("--schedule", choices=("plateau", "multistep"), help="when the rate drops, in all stages")
    recipe.add_argument("--drops", type=fractions, metavar="F,F,...", help="multistep: where, as parts of a stage")
    recipe.add_argument("--gamma", type=numbers(float), metavar="X", help="what the rate is multiplied by")
    recipe.add_argument("--patience", type=numbers(int), metavar="N", help="plateau: validations without a new best")
    recipe.add_argument("--min-lr", type=numbers(float), metavar="X", help="plateau: the lowest rate")
    recipe.add_argument("--validate-every", type=numbers(int), metavar="N", help="iterations")
    recipe.add_argument("--validation-fraction", type=fraction, metavar="F", help="of the training images, held out")
    recipe.add_argument("--momentum", type=fraction, metavar="F")
    recipe.add_argument("--weight-decay", type=fraction, metavar="F")
    recipe.add_argument("--seed", type=seed_number)
    recipe.add_argument(
        "--views",
        type=views,
        metavar="K",
        help="stages 2 and 3: an image has K views, one an epoch, again and again (or new: one in every epoch)",
    )
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
        "--workers", type=whole, default=1, metavar="N", help="processes that load images (default: %(default)s)"
    )
    machine.add_argument("--snapshot-every", type=positive, default=200, help="iterations (default: %(default)s)")
    machine.add_argument("--keep", type=positive, default=2, help="newest snapshots that stay (default: %(default)s)")
    machine.add_argument(
        "--cache-features",
        choices=("fp32", "fp16"),
        help="stages 2 and 3: keep the trunk's features on the disk and compute them once a view (see --views)",
    )
    machine.add_argument(
        "--cache-folder", type=Path, metavar="FOLDER", help="where; several runs may share it (default: in the run)"
    )
    machine.add_argument(
        "--whole-net",
        action="store_true",
        help="stages 2 and 3: train the checked-in net in one piece, its trunk neither folded nor apart",
    )
    machine.add_argument("--tensorboard", action="store_true", help="write event files, too (stageN/events)")
    return run_main(work, parser.parse_args(argv))


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if (value := whole(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return value


def whole(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal() or int(text) > LARGEST:
        raise argparse.ArgumentTypeError(f"a whole number up to {LARGEST} is needed")
    return int(text)


def stages_of_batch_statistics(text: str) -> list[bool]:
    """Which of the four stages follow the batch; in stages 2 and 3 nothing that could is left to choose."""
    stages = [] if text == "none" else text.split(",")
    if not set(stages) <= {"1", "4"}:
        raise argparse.ArgumentTypeError("none, 1, 4 or 1,4 is needed")
    return [str(number) in stages for number in STAGE_NAMES]


def views(text: str) -> list[int | None]:
    """How many views an image has in each stage; in stages 1 and 4, which nothing is cached of, new ones always."""
    number = None if text == "new" else positive(text)
    return [number if stage in (2, 3) else None for stage in STAGE_NAMES]


def devices(text: str) -> tuple[int, ...]:
    """CUDA device numbers divided by commas."""
    return tuple(whole(part) for part in text.split(","))


def numbers(kind: type):
    """Parser of one positive number or four divided by commas."""
    most = LARGEST + 1 if kind is int else 1e100  # so that products with it are finite

    def parse(text: str) -> list:
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) not in (1, 4) or not all(0 < value < most for value in values):
            one = "one positive whole number" if kind is int else "one positive number"
            raise argparse.ArgumentTypeError(f"{one}, or four divided by commas: one a stage")
        return values

    return parse


def fraction(text: str) -> float:
    """A number from 0 up to, but not, 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("a number from 0 to below 1 is needed")
    return value


def fractions(text: str) -> list[tuple[float, ...]]:
    """Rising fractions divided by commas, for all four stages."""
    values = tuple(fraction(part) for part in text.split(","))
    if list(values) != sorted(set(values)):
        raise argparse.ArgumentTypeError("rising fractions are needed")
    return [values]


def work(arguments: argparse.Namespace) -> None:
    """Print the state, the plan, or carry it out."""
    from pysrn.data.pair.build_lock import end_like_an_interrupt
    from pysrn.train.fixed.feature_room import Caching
    from pysrn.train.launch import Launch, refuse_launched_command
    from pysrn.train.pipeline import run_up_to
    from pysrn.train.preparation import Device
    from pysrn.train.run_folder import RunFolder
    from pysrn.train.settings import choose_settings
    from pysrn.train.status import status

    refuse_launched_command()
    end_like_an_interrupt()
    run = RunFolder(arguments.runs / (arguments.run or arguments.dataset or "shapes"))
    earlier = run.read_settings()
    if arguments.status:
        if earlier is None:
            raise MissingError(f"there is no run in {run.path}", "tools/run_stage.py 1 begins one")
        print("\n".join(status(run, earlier)))
        return
    schedule = arguments.schedule and [arguments.schedule]
    settings = choose_settings(
        earlier,
        dataset=arguments.dataset,
        data=arguments.data,
        weights=arguments.weights,
        from_scratch=arguments.from_scratch,
        recipe_fields={name: getattr(arguments, name) for name in RECIPE_FLAGS},
        stage_fields={name: getattr(arguments, name) for name in STAGE_FLAGS} | {"schedule": schedule},
        head_fields={name: getattr(arguments, name) for name in HEAD_FLAGS},
    )
    if arguments.cache_folder and not arguments.cache_features:
        raise UsageError("--cache-folder is for --cache-features", "give --cache-features fp32, or fp16")
    device = Device(
        gpus=arguments.gpu,
        workers=arguments.workers,
        snapshot_every=arguments.snapshot_every,
        keep=arguments.keep,
        tensorboard=arguments.tensorboard,
        launch=Launch(arguments.ranks, arguments.launcher),
        whole_net=arguments.whole_net,
        caching=arguments.cache_features and Caching(arguments.cache_features, arguments.cache_folder),
    )
    stage = arguments.stage or len(STAGE_NAMES)
    run_up_to(run, settings, stage, device, restart=arguments.restart, dry_run=arguments.dry_run)
    if not arguments.dry_run:
        print(run.weights(stage))


if __name__ == "__main__":
    sys.exit(main())
