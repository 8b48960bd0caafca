#!/usr/bin/env python3
"""Speed of a part of the project against its peers on this machine: medians of alternating rounds.

step: a training step of the whole net. fixed: a step over a fixed trunk (once called frozen). inference: scores and
maps of a batch. Each against stock Caffe, PyTorch and torch.compile, once all have computed the same numbers.
convert: tools/to_torch.py and tools/from_torch.py, seconds and memory.
data: building databases (against Caffe's convert_imageset), feeding a net (against PyTorch's DataLoader), and the share
of a training step spent waiting for data. Without --images it makes photo-like pictures in a temporary folder.
build: the first of these alone.
evaluate: average precision (against scikit-learn class by class), all metrics, and the bootstrap interval.
table: the README's table from the kept figures, as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from pysrn.console import UsageError, check_output_file, run_main
from pysrn.systems.registry import system_named, systems


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_main(lambda arguments: arguments.measure(arguments), lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, help_text in (
        ("step", "a training step of the whole net"),
        ("fixed", "a training step over the fixed trunk"),
        ("inference", "scores and maps of a batch"),
    ):
        earlier_name = ["frozen"] if name == "fixed" else []
        part = parts.add_parser(name, help=help_text, aliases=earlier_name)
        part.set_defaults(part=name)
        add_speed_options(part, name != "inference")
    convert = parts.add_parser("convert", help="to PyTorch and back")
    convert.add_argument("--run", help="run's folder or caffemodel (default: random weights of the usual net)")
    add_system_option(convert)
    convert.set_defaults(measure=measure_conversion)
    data = parts.add_parser("data", help="databases and the data layer")
    data.add_argument("--data", type=Path, metavar="FOLDER", help="feed from this LMDB pair (default: made here)")
    data.add_argument("--only", choices=("build", "feed", "wait"), nargs="+", help="default: all three")
    build = parts.add_parser("build", help="databases alone")
    build.set_defaults(data=None, only=["build"])
    for part in (data, build):
        part.add_argument("--images", type=Path, metavar="FOLDER", help="build from these photos (default: made here)")
        part.add_argument("--count", type=int, default=1000, help="images to build from (default: %(default)s)")
        part.set_defaults(measure=measure_data)
    evaluate = parts.add_parser("evaluate", help="the metrics")
    evaluate.add_argument("--images", type=int, default=40_504, help="default: %(default)s, as MS-COCO's test split")
    evaluate.add_argument("--labels", type=int, default=80, help="default: %(default)s")
    evaluate.set_defaults(measure=measure_evaluation)
    table = parts.add_parser("table", help="the README's table")
    table.set_defaults(measure=print_table)
    for part in dict.fromkeys(parts.choices.values()):
        if part is not table:
            part.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
            part.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all rounds there")
    return parser.parse_args(argv)


def add_system_option(parser: argparse.ArgumentParser) -> None:
    """Whose net it is."""
    parser.add_argument("--system", choices=list(systems()), help="default: the first of these, or the run's")


def add_speed_options(parser: argparse.ArgumentParser, trains: bool) -> None:
    """The options of the three parts that time the net."""
    from pysrn.benchmark.plan import FORMATS

    known = systems().values()
    trunks = dict.fromkeys(name for system in known for name in system.trunks)
    variants = dict.fromkeys(name for system in known for name in system.variants if name)
    datasets = dict.fromkeys(name for system in known for name in system.recipes)
    add_system_option(parser)
    parser.add_argument("--batch", type=int, default=4, help="images (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    parser.add_argument("--dataset", choices=list(datasets), help="whose recipe (default: the system's first)")
    parser.add_argument("--trunk", choices=sorted(trunks), help="default: the recipe's")
    parser.add_argument("--variant", choices=list(variants), help="default: the system's first")
    parser.add_argument("--run", help="a run's folder or a caffemodel (default: random weights of realistic size)")
    parser.add_argument("--engine", default="", metavar="LIST", help="CAFFE_ENGINE of ours (default: every part)")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="leave torch.compile out")
    parser.add_argument("--no-stock", dest="stock", action="store_false", help="leave stock Caffe out")
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=FORMATS, help="of PyTorch's memory (default: the faster one)"
    )
    if trains:
        parser.add_argument("--stage", type=int, metavar="N", help="default: of step the last, of frozen the first")
    parser.set_defaults(measure=measure_speed)


def measure_speed(arguments: argparse.Namespace) -> None:
    """Measure one part of the net's speed and print."""
    from pysrn.benchmark.plan import Plan
    from pysrn.benchmark.speed import measure, report_lines
    from pysrn.benchmark.timing import describe_machine

    if min(arguments.rounds, arguments.batch, arguments.threads) < 1:
        raise UsageError("--rounds, --batch and --threads: a whole number from 1")
    check_output_file(arguments.json, "json")
    arguments.formats = tuple(arguments.formats)
    plan = Plan(**{field.name: getattr(arguments, field.name) for field in fields(Plan) if field.name in arguments})
    machine = describe_machine()
    found = measure(plan)
    print(*report_lines(found), sep="\n")
    write_report(arguments.json, {"machine": machine, plan.part: found})


def measure_conversion(arguments: argparse.Namespace) -> None:
    """Measure the way to PyTorch and back and print."""
    from pysrn.benchmark.conversion import measure, report_lines
    from pysrn.benchmark.timing import describe_machine

    if arguments.rounds < 1:
        raise UsageError("--rounds: a whole number from 1")
    check_output_file(arguments.json, "json")
    system = system_named(arguments.system)
    report = {
        "machine": describe_machine(),
        "convert": measure(Path(__file__).parent, system, arguments.run, arguments.rounds),
    }
    print(*report_lines(report["convert"]), sep="\n")
    write_report(arguments.json, report)


def print_table(arguments: argparse.Namespace) -> None:
    """Print the README's table of the kept figures."""
    from pysrn.benchmark.speed_table import FIGURES, table

    print(table(FIGURES))


def write_report(path: Path | None, report: dict) -> None:
    """Write all figures where they were asked for."""
    from pysrn.whole_files import replace_text

    if path is not None:
        replace_text(path, json.dumps(report, indent=1) + "\n")


def measure_evaluation(arguments: argparse.Namespace) -> None:
    """Measure the metrics and print."""
    from pysrn.benchmark.evaluate import measure, report_lines
    from pysrn.benchmark.timing import describe_machine

    if min(arguments.rounds, arguments.images, arguments.labels) < 1:
        raise UsageError("--rounds, --images and --labels: a whole number from 1")
    report = {"machine": describe_machine()}
    print(json.dumps(report["machine"]))
    report["evaluate"] = measure(arguments.images, arguments.labels, arguments.rounds)
    print(*report_lines(report["evaluate"]), sep="\n")
    write_report(arguments.json, report)


def measure_data(arguments: argparse.Namespace) -> None:
    """Measure databases and data layer and print."""
    from pysrn.benchmark.data.figures import PARTS, Plan, measure, report_lines
    from pysrn.benchmark.timing import describe_machine

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
            write_report(arguments.json, report)


if __name__ == "__main__":
    sys.exit(main())
