#!/usr/bin/env python3
"""SRN against its main net alone, trained for as many iterations as all four stages together, over several seeds.

Both see the same images of the embedded data set with the same recipe; only what is trained differs. What is done
already is kept. Prints the test mAP of every seed, the means and their spread.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from pysrn.console import SrnError, run_main, seed_number
from pysrn.recipes import RECIPES, STAGE_NAMES
from tools import predict, run_stage


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    parser.add_argument("--data", default="data/shapes", help="folder of the LMDB pair (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Train and measure what is missing, then print the table."""
    from pysrn.evaluate.seeds import comparison

    budget = sum(RECIPES["shapes"].iterations(stage) for stage in STAGE_NAMES)
    pairs = []
    for seed in arguments.seeds:
        srn, alone = arguments.runs / f"shapes-seed{seed}", arguments.runs / f"main-alone-seed{seed}"
        common = ["--runs", str(arguments.runs), "--data", arguments.data, "--seed", str(seed)]
        call(run_stage, ["4", "--run", srn.name, *common])
        call(run_stage, ["1", "--run", alone.name, "--iterations", str(budget), *common])
        for run, stage in ((srn, 1), (srn, 4), (alone, 1)):
            call(predict, [str(run), "--stage", str(stage)])
        pairs.append((srn, alone))
    print(comparison(arguments.seeds, pairs, budget))


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
