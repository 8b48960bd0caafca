#!/usr/bin/env python3
"""A system against its baseline alone, trained for as many iterations as all stages together, over several seeds.

Both see the same images of the embedded data set with the same recipe; only what is trained differs. What is done
already is kept. Prints the test mAP of every seed, the means and their spread.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from pysrn.console import SrnError, run_main, seed_number
from pysrn.recipes import EMBEDDED
from pysrn.systems.registry import run_prefix, system_named, systems
from tools import predict, run_stage


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    parser.add_argument("--system", choices=list(systems()), help="default: the first of these")
    parser.add_argument("--data", default=f"data/{EMBEDDED}", help="folder of the LMDB pair (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    return parser.parse_args(argv)


def work(arguments: argparse.Namespace) -> None:
    """Train and measure what is missing, then print the table."""
    from pysrn.evaluate.seeds import comparison

    system = system_named(arguments.system)
    recipe, first, last = system.recipe(EMBEDDED), system.baseline.stage, system.last_stage
    budget = sum(map(recipe.iterations, recipe.stage_numbers))
    pairs = []
    for seed in arguments.seeds:
        prefix = run_prefix(system)
        whole = arguments.runs / f"{prefix}{EMBEDDED}-seed{seed}"
        alone = arguments.runs / f"{prefix}{system.baseline.title.split()[0]}-alone-seed{seed}"
        common = ["--system", system.name, "--runs", str(arguments.runs), "--data", arguments.data, "--seed", str(seed)]
        call(run_stage, [str(last), "--run", whole.name, *common])
        call(run_stage, [str(first), "--run", alone.name, "--iterations", str(budget), *common])
        for run, stage in ((whole, first), (whole, last), (alone, first)):
            call(predict, [str(run), "--stage", str(stage)])
        pairs.append((whole, alone))
    print(comparison(system, arguments.seeds, pairs, budget))


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
