#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Measure predictions: mAP, precision, recall and F1 of every score, as tables and as metrics.json.

With no arguments: all predictions on the test split of the run finished last in runs/.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import UsageError, check_output_file, message, run_main, seed_number


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "predictions", nargs="*", type=Path,
        help="files of tools/predict.py, or a run's folder: those of all its stages",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="which predictions of a run's folder (default: %(default)s)")
    parser.add_argument("--per-class", action="store_true", help="also a table of the classes")
    parser.add_argument(
        "--eleven-point", action="store_true",
        help="also VOC 2007's 11-point interpolated AP (of voc2007 it is always there)",
    )  # fmt: skip
    parser.add_argument(
        "--resamples", type=int, default=0, metavar="N",
        help="bootstrap interval of every mAP from N resamples of the images (default: none)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed_number, default=0, help="of the resamples (default: %(default)s)")
    parser.add_argument(
        "--labels", type=Path, metavar="FOLDER",
        help="LMDB pair whose labels are taken (default: those that the predictions hold)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, help="default: metrics.json in the folder of the first argument")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Print the tables and write the JSON file."""
    from pysrn.evaluate import table
    from pysrn.predict.predictions import find_predictions
    from pysrn.predict.trained import default_run

    folders_or_files = arguments.predictions or [default_run()]
    first = folders_or_files[0]
    paths = [path for given in folders_or_files for path in find_predictions(given, arguments.split)]
    if arguments.resamples < 0:
        raise UsageError("--resamples: a whole number from 0")
    check_output_file(arguments.out)
    results = table.evaluate_files(paths, arguments.resamples, arguments.seed, arguments.labels)
    out = arguments.out or (first if first.is_dir() else first.parent) / "metrics.json"
    table.write_json(results, out)
    print(table.text(results, arguments.per_class, arguments.eleven_point))
    message(f"also in {out}")


if __name__ == "__main__":
    sys.exit(main())
