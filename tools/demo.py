#!/usr/bin/env -S --block-signal=INT,TERM python3
"""The whole way with the embedded data set: pictures, LMDBs, all stages, PyTorch weights, the report, the table.

Each step is one of the other tools and is printed as the command that it is. What is done already is kept, so an
interrupted demo goes on where it stopped.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
import time
from pathlib import Path

from pysrn.console import message, run_main, seed_number
from pysrn.recipes import EMBEDDED
from pysrn.systems.registry import run_prefix, system_named, systems
from tools import evaluate, make_lmdb, predict, report, run_stage, to_torch, visualize


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code of the first step that fails, else 0."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=list(systems()), help="default: the first of these")
    parser.add_argument("--data", type=Path, default=Path("data", EMBEDDED), help="default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="of weights and sample order (default: %(default)s)"
    )
    parser.add_argument("--iterations", help="N, or one a stage, divided by commas (default: the recipe's)")
    return parser.parse_args(argv)


def work(arguments: argparse.Namespace) -> int:
    """Call the tools in order."""
    from pysrn.data.build import unfinished_shapes

    system = system_named(arguments.system)
    run = str(arguments.runs / f"{run_prefix(system)}{EMBEDDED}-seed{arguments.seed}")
    data = str(arguments.data)
    last, first = str(system.last_stage), str(system.baseline.stage)
    train = [last, "--system", system.name, "--run", Path(run).name, "--runs", str(arguments.runs), "--data", data]
    train += ["--seed", str(arguments.seed)]
    if arguments.iterations:
        train += ["--iterations", arguments.iterations]
    steps = [
        (run_stage, train),
        (predict, [run, "--stage", first]),
        (predict, [run]),
        (visualize, ["curves", run]),
        *([(visualize, ["attention", run, "--pointing"])] if system.maps else []),
        (to_torch, [run]),
        (report, [run]),
        (evaluate, [run]),
    ]
    if unfinished_shapes(arguments.data):
        steps.insert(0, (make_lmdb, [EMBEDDED, "--out", data, "--force"]))
    started = time.monotonic()
    for tool, words in steps:
        name = f"tools/{tool.__name__.rpartition('.')[2]}.py"
        message(f"[{time.monotonic() - started:4.0f} s] {name} {' '.join(words)}")
        if code := tool.main(words):
            message(f"the demo stops here: {name} ended with exit code {code}")
            return code
    message(f"[{time.monotonic() - started:4.0f} s] done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
