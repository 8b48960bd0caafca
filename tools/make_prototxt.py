#!/usr/bin/env python3
"""Write the generated nets and solvers to prototxt/<system>/<dataset>/, or check that they are up to date.

All variants of each; another than the default in <dataset>_<variant>/. Those that are checked in are the default.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pysrn.console import ToleranceError, message, run_main
from pysrn.recipes import DATASETS
from pysrn.systems.registry import systems

ROOT = Path("prototxt")  # relative, so that the paths inside the solvers hold wherever the project lies


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code (4: --check found a difference)."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "datasets", nargs="*", choices=[[], *DATASETS], metavar="DATASET", help="default: those checked in"
    )
    parser.add_argument("--system", choices=list(systems()), help="default: all")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 4 when a file is out of date")
    parser.add_argument("--count", action="store_true", help="write nothing; print how many weights the parts have")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--stock", action="store_true", help="write only the stage nets with two stock Data layers, for `caffe train`"
    )
    return parser.parse_args(argv)


def work(arguments: argparse.Namespace) -> None:
    """Write, check or count."""
    from pysrn.systems import generated, parameters

    chosen = [system for name, system in systems().items() if arguments.system in (None, name)]
    stale = []
    for system in chosen:
        datasets = [name for name in arguments.datasets or generated.checked_in(system) if name in system.recipes]
        if arguments.count:
            counted = [name for name in arguments.datasets or DATASETS if name in system.recipes]
            recipes = generated.recipes_of(system, counted)
            print(parameters.table(sorted(recipes, key=system.variant_of)))
        elif arguments.check:
            stale += (found := generated.stale_files(system, arguments.out, datasets))
            if not found:
                print(f"{arguments.out}/{system.name}: {', '.join(datasets)} are up to date")
        else:
            for path in generated.write_all(system, arguments.out, datasets, stock=arguments.stock):
                print(path)
    if stale:
        for line in stale:
            message(line)
        raise ToleranceError(f"{len(stale)} prototxt files are out of date", "tools/make_prototxt.py")


if __name__ == "__main__":
    sys.exit(main())
