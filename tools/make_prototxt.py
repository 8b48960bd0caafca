#!/usr/bin/env python3
"""Write the generated nets and solvers to prototxt/<dataset>/, or check that they are up to date.

Both variants of each: `paper` in <dataset>/, `released` in <dataset>_released/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pysrn.console import ToleranceError, message, run_main
from pysrn.recipes import OWN_DATASET, RECIPES

DATASETS = [name for name in RECIPES if name != OWN_DATASET]  # its labels are only known by its LMDB pair
ROOT = Path("prototxt")  # relative, so that the paths inside the solvers hold wherever the project lies


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code (4: --check found a difference)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", choices=[[], *DATASETS], help="default: all", metavar="DATASET")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 4 when a file is out of date")
    parser.add_argument("--count", action="store_true", help="write nothing; print how many weights the parts have")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--stock", action="store_true", help="write only the stage nets with two stock Data layers, for `caffe train`"
    )
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Write, check or count."""
    from pysrn.nets import prototxt
    from pysrn.systems import parameters

    datasets = arguments.datasets or DATASETS
    if arguments.count:
        print(parameters.table(sorted(prototxt.recipes_of(datasets), key=lambda recipe: recipe.variant)))
        return
    if arguments.check:
        stale = prototxt.stale_files(arguments.out, datasets)
        if stale:
            for line in stale:
                message(line)
            raise ToleranceError(f"{len(stale)} prototxt files are out of date", "tools/make_prototxt.py")
        print(f"{arguments.out}: {', '.join(datasets)} are up to date")
        return
    for path in prototxt.write_all(arguments.out, datasets, stock=arguments.stock):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
