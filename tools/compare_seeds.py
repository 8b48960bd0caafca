#!/usr/bin/env -S --block-signal=INT,TERM python3
"""A system against its baseline alone, trained for as many iterations as all stages together, over several seeds.

Both see the same images of the embedded data set with the same recipe; only what is trained differs. What is done
already is kept. Prints the test mAP of every seed, the means and their spread.

With --systems: several systems from the same first stage, side by side. The first of them trains it.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from pysrn.console import SrnError, run_main, seed_number
from pysrn.recipes import EMBEDDED
from pysrn.systems.registry import run_prefix, system_named, systems
from pysrn.systems.system import System
from pysrn.train.flags import positive
from tools import predict, run_stage


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--system", choices=list(systems()), help="default: the first of these")
    which.add_argument("--systems", choices=list(systems()), nargs="+", help="side by side, from the same first stage")
    parser.add_argument("--data", default=f"data/{EMBEDDED}", help="folder of the LMDB pair (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    parser.add_argument("--iterations", type=positive, metavar="N", help="of each stage (default: the recipe's)")
    return parser.parse_args(argv)


def work(arguments: argparse.Namespace) -> None:
    """Train and measure what is missing, then print the table."""
    from pysrn.evaluate.seeds import comparison, side_by_side

    if arguments.systems:
        chosen = [system_named(name) for name in dict.fromkeys(arguments.systems)]
        print(side_by_side(chosen, arguments.seeds, [of_seed(arguments, chosen, seed) for seed in arguments.seeds]))
        return
    system = system_named(arguments.system)
    recipe, first = system.recipe(EMBEDDED), system.baseline.stage
    budget = sum(arguments.iterations or recipe.iterations(number) for number in recipe.stage_numbers)
    pairs = []
    for seed in arguments.seeds:
        whole = arguments.runs / whole_run(system, seed)
        alone = arguments.runs / f"{run_prefix(system)}{system.baseline.title.split()[0]}-alone-seed{seed}"
        call(run_stage, words(arguments, system, seed))
        call(
            run_stage, [str(first), "--run", alone.name, "--iterations", str(budget), *common(arguments, system, seed)]
        )
        for run, stage in ((whole, first), (whole, system.last_stage), (alone, first)):
            call(predict, [str(run), "--stage", str(stage)])
        pairs.append((whole, alone))
    print(comparison(system, arguments.seeds, pairs, budget))


def of_seed(arguments: argparse.Namespace, chosen: list[System], seed: int) -> list[Path]:
    """Runs of several systems from the first stage of the first one, with predictions of the test split."""
    from pysrn.train.run_folder import RunFolder
    from pysrn.train.settings import with_real_counts
    from pysrn.train.shared_stages import share_first_stages

    runs = [RunFolder(arguments.runs / whole_run(system, seed)) for system in chosen]
    for system, run in zip(chosen, runs, strict=True):
        training = words(arguments, system, seed)
        if run is not runs[0]:
            settings = run_stage.settings_of(run_stage.parsed(training), run)
            share_first_stages(runs[0], run, with_real_counts(settings))
        call(run_stage, training)
        call(predict, [str(run.path)])
    call(predict, [str(runs[0].path), "--stage", str(chosen[0].baseline.stage)])
    return [run.path for run in runs]


def whole_run(system: System, seed: int) -> str:
    """The name of a run of all stages, as in the demo."""
    return f"{run_prefix(system)}{EMBEDDED}-seed{seed}"


def words(arguments: argparse.Namespace, system: System, seed: int) -> list[str]:
    """What tools/run_stage.py is told to train all stages of a system."""
    iterations = ["--iterations", str(arguments.iterations)] if arguments.iterations else []
    return [str(system.last_stage), "--run", whole_run(system, seed), *iterations, *common(arguments, system, seed)]


def common(arguments: argparse.Namespace, system: System, seed: int) -> list[str]:
    """What it is told of any run of a system and a seed."""
    return ["--system", system.name, "--runs", str(arguments.runs), "--data", arguments.data, "--seed", str(seed)]


def call(tool, words: list[str]) -> None:
    """Run another tool; raise SrnError when it fails. Its own result would be in the way of the table."""
    with redirect_stdout(sys.stderr):
        code = tool.main(words)
    if code:
        error = SrnError(f"tools/{tool.__name__.rpartition('.')[2]}.py {' '.join(words)} ended with exit code {code}")
        error.exit_code = code
        raise error


if __name__ == "__main__":
    sys.exit(main())
