#!/usr/bin/env python3
"""Speed of a part of the project against its peers on this machine: medians of alternating rounds.

data: building databases (against Caffe's convert_imageset), feeding a net (against PyTorch's DataLoader), and the share
of a training step spent waiting for data. Without --images it makes photo-like pictures in a temporary folder.
evaluate: average precision (against scikit-learn class by class), all metrics, and the bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from pysrn.console import UsageError, run_main


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    data = parts.add_parser("data", help="databases and the data layer")
    data.add_argument("--data", type=Path, metavar="FOLDER", help="feed from this LMDB pair (default: made here)")
    data.add_argument("--images", type=Path, metavar="FOLDER", help="build from these photos (default: made here)")
    data.add_argument("--only", choices=("build", "feed", "wait"), nargs="+", help="default: all three")
    data.add_argument("--count", type=int, default=1000, help="images to build from (default: %(default)s)")
    evaluate = parts.add_parser("evaluate", help="the metrics")
    evaluate.add_argument("--images", type=int, default=40_504, help="default: %(default)s, as MS-COCO's test split")
    evaluate.add_argument("--labels", type=int, default=80, help="default: %(default)s")
    for part, measure in ((data, measure_data), (evaluate, measure_evaluation)):
        part.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
        part.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all rounds there")
        part.set_defaults(measure=measure)
    arguments = parser.parse_args(argv)
    return run_main(arguments.measure, arguments)


def measure_evaluation(arguments: argparse.Namespace) -> None:
    """Measure the metrics and print."""
    from pysrn.benchmark.evaluate import measure, report_lines
    from pysrn.benchmark.timing import describe_machine
    from pysrn.data.manifest import replace_text

    if min(arguments.rounds, arguments.images, arguments.labels) < 1:
        raise UsageError("--rounds, --images and --labels: a whole number from 1")
    report = {"machine": describe_machine()}
    print(json.dumps(report["machine"]))
    report["evaluate"] = measure(arguments.images, arguments.labels, arguments.rounds)
    print(*report_lines(report["evaluate"]), sep="\n")
    if arguments.json:
        replace_text(arguments.json, json.dumps(report, indent=1) + "\n")


def measure_data(arguments: argparse.Namespace) -> None:
    """Measure databases and data layer and print."""
    from pysrn.benchmark.data import PARTS, Plan, measure, report_lines
    from pysrn.benchmark.timing import describe_machine
    from pysrn.data.manifest import replace_text

    if min(arguments.rounds, arguments.count) < 1:
        raise UsageError("--rounds and --count: a whole number from 1")
    machine = describe_machine()
    print(json.dumps(machine))
    report = {"machine": machine}
    plan = Plan(images=arguments.count, rounds=arguments.rounds, parts=tuple(arguments.only or PARTS))
    with tempfile.TemporaryDirectory() as folder:
        for title, figures in measure(plan, Path(folder), arguments.images, arguments.data):
            print(*report_lines(title, figures), sep="\n", flush=True)
            report[title] = figures
            if arguments.json:
                replace_text(arguments.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
