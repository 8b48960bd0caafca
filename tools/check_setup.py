#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Print what this installation consists of: Caffe and its patches, BLAS, CPU and GPU, Python packages, data.

Exit code 3 when something needed is missing, with the command that mends it.
"""

from __future__ import annotations

import sys

try:
    import pysrn.early_signals  # noqa: F401

    # isort: split
    from pysrn import console
    from pysrn.report import setup_report
except ModuleNotFoundError as error:  # the one tool that must answer outside the environment, too
    print(f"error: this Python has no {error.name}", file=sys.stderr)
    print("  mend it: docker/local tools/check_setup.py", file=sys.stderr)
    sys.exit(3)

import argparse
import json
import os
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of data sets (default: data)")
    return console.run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> int:
    """Print the report, then what is missing."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # read when Caffe is imported
    report = setup_report.collect(arguments.data)
    print(json.dumps(report, indent=2) if arguments.json else setup_report.as_text(report))
    for note in report["notes"]:
        console.message(f"note: {note}")
    for entry in report["missing"]:
        console.message(f"missing: {entry['what']}\n  mend it: {entry['cure']}")
    return console.MISSING if report["missing"] else console.DONE


if __name__ == "__main__":
    sys.exit(main())
