#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Write the generated nets and solvers to prototxt/<system>/<dataset>/, or check that they are up to date.

All variants of each; another than the default in <dataset>_<variant>/. Those that are checked in are the default.
With --run: deploy.prototxt and labels.txt beside the weights of a run's stages, for other tools.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import MissingError, ToleranceError, message, run_main
from pysrn.recipes import DATASETS, OWN_DATASET
from pysrn.systems.registry import systems

ROOT = Path("prototxt")  # relative, so that the paths inside the solvers hold wherever the project lies


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code (4: --check found a difference)."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "datasets", nargs="*", choices=[[], *DATASETS, OWN_DATASET], metavar="DATASET", help="default: those checked in"
    )
    parser.add_argument("--system", choices=list(systems()), help="default: all")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 4 when a file is out of date")
    parser.add_argument("--count", action="store_true", help="write nothing; print how many weights the parts have")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--stock", action="store_true", help="write only nets with two stock Data layers and solvers, for `caffe train`"
    )
    parser.add_argument("--run", type=Path, help="a run's folder: the deploy nets of its finished stages")
    parser.add_argument("--stage", type=int, metavar="N", help="with --run: of this stage only")
    arguments = parser.parse_args(argv)
    if OWN_DATASET in arguments.datasets:
        words = "--stock --run" if arguments.stock else "--run"
        parser.error(f"{OWN_DATASET} has the labels and images of your own data, which a run knows: {words} runs/NAME")
    if arguments.run and (arguments.datasets or arguments.system or arguments.check or arguments.count):
        parser.error("--run takes no data set, --system, --check or --count: the run says what it is of")
    if arguments.stage is not None and (not arguments.run or arguments.stock):
        parser.error("--stage goes with --run alone")
    if arguments.run and not arguments.stock and arguments.out != ROOT:
        parser.error("--run writes beside the weights; --out is for nets with --stock")
    return arguments


def work(arguments: argparse.Namespace) -> None:
    """Write, check or count."""
    from pysrn.systems import generated, parameters

    if arguments.run:
        for path in of_run(arguments.run, arguments.stage, arguments.out if arguments.stock else None):
            print(path)
        return
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


def of_run(folder: Path, stage: int | None, stock: Path | None) -> list[Path]:
    """Write the deploy nets of a run's stages (None: all that are finished), or below `stock` its recipe's nets."""
    from pysrn.predict.trained import find_weights
    from pysrn.systems.deploy_files import write_deploy
    from pysrn.systems.generated import write_stock
    from pysrn.train.run_folder import RunFolder
    from pysrn.train.settings import with_real_counts

    run = RunFolder(folder)
    if (settings := run.read_settings()) is None:
        raise MissingError(f"no run in {folder}: no run.json", "tools/run_stage.py begins one")
    if stock:
        settings = with_real_counts(settings)
        return write_stock(settings.recipe, stock, settings.data)
    numbers = settings.recipe.stage_numbers
    wanted = [stage] if stage is not None else [n for n in numbers if run.weights(n).is_file()] or numbers[-1:]
    return [path for n in wanted for path in write_deploy(settings.recipe, n, find_weights(folder, n))]


if __name__ == "__main__":
    sys.exit(main())
