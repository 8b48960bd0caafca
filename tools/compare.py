#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Compare a run with the paper: its figures, ours, the difference, and whether that is within tolerance.

With no arguments: the run finished last in runs/. Writes compare.json too.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import ToleranceError, UsageError, check_output_file, message, run_main, seed_number


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", nargs="?", type=Path,
        help="a run's folder, or a file of tools/predict.py (default: the run finished last in runs/)",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="which predictions of the folder (default: %(default)s)")
    parser.add_argument("--expect", action="store_true", help="exit code 4 when a figure is outside its tolerance")
    parser.add_argument(
        "--tolerance", type=tolerance, action="append", default=[], metavar="METRIC=POINTS",
        help="how far a metric may be from the paper's, for example mAP=0.5 or 'top-3 F1-O=1'; may be repeated",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="also every row of the paper's table")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="for the interval of mAP; 0: none (default: %(default)s)"
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="of the resamples (default: %(default)s)")
    parser.add_argument(
        "--labels", type=Path, metavar="FOLDER",
        help="LMDB pair whose labels are taken (default: those that the predictions hold)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, help="default: compare.json in the folder, or beside the file")
    return run_main(work, parser.parse_args(argv))


def tolerance(words: str) -> tuple[str, float]:
    """METRIC=POINTS."""
    name, _, points = words.rpartition("=")
    try:
        return name.strip(), float(points)
    except ValueError:
        raise argparse.ArgumentTypeError(f"METRIC=POINTS, not {words!r}") from None


def work(arguments: argparse.Namespace) -> None:
    """Print the comparison and write the JSON file; ToleranceError when --expect is not met."""
    from pysrn.evaluate import compare
    from pysrn.evaluate.comparison_text import text
    from pysrn.predict.trained import default_run

    if arguments.resamples < 0:
        raise UsageError("--resamples: a whole number from 0")
    check_output_file(arguments.out)
    run, changes = arguments.run or default_run(), dict(arguments.tolerance)
    if arguments.expect:
        compare.check_published(run, arguments.split)
    system, dataset, found = compare.compare_run(
        run, arguments.split, changes, arguments.resamples, arguments.seed, arguments.labels
    )
    out = arguments.out or (run if run.is_dir() else run.parent) / "compare.json"
    compare.write_json(system, dataset, found, out)
    print(text(system, dataset, found, arguments.all))
    message(f"also in {out}")
    if arguments.expect:
        expect(found)


def expect(found: list) -> None:
    """Raise ToleranceError naming what is outside."""
    outside = [
        f"{one.method} {row.metric} {row.verdict}" + ("" if row.difference is None else f" ({row.difference:+.2f})")
        for one in found
        for row in one.outside
    ]
    if outside:
        raise ToleranceError(f"{len(outside)} outside the tolerance: {', '.join(outside)}")


if __name__ == "__main__":
    sys.exit(main())
