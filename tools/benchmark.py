#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Speed of a part of the project against its peers on this machine: medians of alternating rounds.

step: a training step of the whole net. fixed: a step over a fixed trunk (once called frozen). inference: scores and
maps of a batch. Each against stock Caffe, PyTorch and torch.compile, once all have computed the same numbers.
layers: each layer's time in inference and in a training step, and its share of the machine's limit, beside PyTorch's
(and, with --peers, OpenVINO's).
photos: from photos to a file of scores, tools/predict.py against a DataLoader with PyTorch's net (and, with --peers,
OpenVINO): images a second, seconds to start, memory.
start: seconds of --help, of one photo's labels, and until a training's first step begins.
recurrent: an LSTM layer forth and back. search: labels searched for in a system's recurrent net. Both against stock
Caffe and PyTorch, likewise.
convert: tools/to_torch.py and tools/from_torch.py, seconds and memory.
data: building databases (against Caffe's convert_imageset), feeding a net (against PyTorch's DataLoader), and the share
of a training step spent waiting for data. Without --images it makes photo-like pictures in a temporary folder.
build: the first of these alone.
evaluate: average precision (against scikit-learn class by class), all metrics, and the bootstrap interval.
all: all figures of docs/speed.md anew, in half an hour, kept by the processor's name.
table: the tables of docs/speed.md from the kept figures, as Markdown.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from pysrn.console import SrnError, UsageError, check_output_file, run_main
from pysrn.precision import add_precision
from pysrn.systems.registry import system_named, systems

COUNTS = (
    "rounds",
    "batch",
    "threads",
    "count",
    "images",
    "labels",
    "steps",
    "width",
    "inputs",
    "workers",
)  # options that are whole numbers from 1
Measured = Iterator[tuple[str, dict, list[str]]]  # name, figures, and the lines that say them


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    add_speed_options(parts, "step", help="a training step of the whole net")
    add_speed_options(parts, "fixed", help="a training step over the fixed trunk", aliases=["frozen"])  # earlier name
    add_speed_options(parts, "inference", help="scores and maps of a batch")
    add_layers(parts)
    add_photos(parts)
    start = parts.add_parser("start", help="how long a user waits")
    start.add_argument("--batch", type=int, default=4, help="of the training (default: %(default)s)")
    start.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    start.add_argument("--trunk", help="of the training (default: the usual one)")
    start.set_defaults(measure=measure_start)
    recurrent = parts.add_parser("recurrent", help="an LSTM layer, forth and back")
    for name, usual, what in (("steps", 10, "words of a path"), ("batch", 64, "paths"), ("width", 512, "units"),
                              ("inputs", 64, "numbers of a word")):  # fmt: skip
        recurrent.add_argument(f"--{name}", type=int, default=usual, metavar="N", help=f"{what} (default: %(default)s)")
    search = parts.add_parser("search", help="a search for labels")
    search.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    search.add_argument("--batch", type=int, default=16, help="images searched at once (default: %(default)s)")
    search.add_argument("--system", choices=list(systems()), help="default: the first that searches")
    for part in (recurrent, search):
        part.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
        part.set_defaults(measure=measure_recurrent)
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
    whole = parts.add_parser("all", help="all figures of docs/speed.md anew")
    whole.add_argument("--out", type=Path, metavar="FOLDER", help="default: tests/data/benchmarks")
    whole.add_argument("--minutes", type=float, default=30.0, help="behind these no run is begun (default: 30)")
    whole.add_argument("--only", nargs="+", default=(), metavar="NAME", help="default: all, see all_tables.py")
    whole.add_argument(
        "--peers", nargs="+", choices=("OpenVINO", "onnxruntime"), default=(), help="where they are read"
    )
    table = parts.add_parser("table", help="the tables of docs/speed.md")
    for part in dict.fromkeys(parts.choices.values()):
        if part not in (table, whole):
            if part is not parts.choices["photos"]:  # whose rounds are long
                part.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
            part.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all rounds there")
    return parser.parse_args(argv)


def add_system_option(parser: argparse.ArgumentParser) -> None:
    """Whose net it is."""
    parser.add_argument("--system", choices=list(systems()), help="default: the first of these, or the run's")


def add_layers(parts) -> None:
    """The part that times the layers of a net."""
    parser = add_speed_options(parts, "layers", help="each layer's time and share of the limit")
    parser.add_argument(
        "--of", nargs="+", choices=("inference", "step"), default=("inference", "step"), help="default: both"
    )
    parser.add_argument("--each", action="store_true", help="a line a layer, not a block")
    parser.set_defaults(measure=measure_layers)


def add_photos(parts) -> None:
    """The part that goes from photos to scores."""
    photos = parts.add_parser("photos", help="from photos to a file of scores")
    trunks = dict.fromkeys(name for system in systems().values() for name in system.trunks)
    for name, usual, what in (("count", 2000, "photos"), ("batch", 16, "photos at once"),
                              ("workers", 1, "of the peers: what decodes")):  # fmt: skip
        photos.add_argument(f"--{name}", type=int, default=usual, metavar="N", help=f"{what} (default: %(default)s)")
    photos.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    photos.add_argument("--images", type=Path, metavar="FOLDER", help="of these photos (default: made here)")
    net = photos.add_mutually_exclusive_group()
    net.add_argument("--run", help="a run's folder or a caffemodel (default: random weights of the usual net)")
    net.add_argument("--trunk", choices=sorted(trunks), help="default: the usual one")
    photos.add_argument("--no-compile", dest="compiled", action="store_false", help="leave torch.compile out")
    photos.add_argument("--no-pytorch", dest="pytorch", action="store_false", help="leave both of PyTorch out")
    photos.add_argument("--peers", nargs="+", choices=("OpenVINO",), default=(), help="with our ONNX file")
    photos.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    photos.set_defaults(measure=measure_photos)


def add_speed_options(parts, name: str, **words) -> argparse.ArgumentParser:
    """One of the parts that time the net, and its options."""
    from pysrn.benchmark.plan import FORMATS, LAYERED, PEERS

    parser = parts.add_parser(name, **words)
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
    parser.add_argument("--no-limit", dest="limit", action="store_false", help="leave the machine's limit out")
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=FORMATS, help="of PyTorch's memory (default: the faster one)"
    )
    add_precision(parser)
    if name in ("inference", "layers"):
        known = list(PEERS) if name == "inference" else list(LAYERED)
        parser.add_argument("--peers", nargs="+", choices=known, default=(), help="beside PyTorch, with our ONNX file")
    if name != "inference":
        parser.add_argument("--stage", type=int, metavar="N", help="default: the last; of fixed the first")
    parser.set_defaults(part=name, measure=measure_speed)
    return parser


def work(arguments: argparse.Namespace) -> None:
    """Measure a part and print; with --json all figures of all rounds are written, too."""
    from pysrn.benchmark.timing import describe_machine
    from pysrn.whole_files import replace_text

    if arguments.part == "all":
        make_all(arguments)
        return
    if arguments.part == "table":
        from pysrn.benchmark import speed_table
        from pysrn.benchmark.recurrent import figures

        print(speed_table.table(speed_table.FIGURES), figures.table(speed_table.FIGURES), sep="\n\n")
        return
    counts = [name for name in COUNTS if isinstance(getattr(arguments, name, None), int)]
    if min(getattr(arguments, name) for name in counts) < 1:
        *most, last = (f"--{name}" for name in counts)
        raise UsageError(f"{' and '.join(filter(None, (', '.join(most), last)))}: a whole number from 1")
    check_output_file(arguments.json, "json")
    report = {"machine": describe_machine()}
    if arguments.part in ("evaluate", "data", "build"):
        print(json.dumps(report["machine"]))
    for name, found, lines in arguments.measure(arguments):
        print(*lines, sep="\n", flush=True)
        report[name] = found
        if arguments.json:
            replace_text(arguments.json, json.dumps(report, indent=1) + "\n")


def plan_of(asked: Mapping):
    """The plan (`Plan`) of what is asked for by name."""
    from pysrn.benchmark.plan import Plan

    return Plan(**{field.name: asked[field.name] for field in fields(Plan) if field.name in asked})


def make_all(arguments: argparse.Namespace) -> None:
    """All figures; prints the table when they are there. Raises SrnError when one of them is not."""
    from pysrn.benchmark import all_tables, speed_table

    if unknown := [name for name in arguments.only if name not in all_tables.RUNS]:
        raise UsageError(f"--only: no {', '.join(unknown)}", f"choose of {', '.join(all_tables.RUNS)}")
    out = arguments.out or speed_table.FIGURES
    found = all_tables.make(all_tables.All(out, arguments.minutes, tuple(arguments.only), tuple(arguments.peers)))
    print(speed_table.table(out))
    if missing := [name for name, why in found.items() if why]:
        raise SrnError(f"not made: {', '.join(missing)}", f"tools/benchmark.py all --only {' '.join(missing)}")


def measure_speed(arguments: argparse.Namespace) -> Measured:
    """One part of the net's speed."""
    from pysrn.benchmark.speed import measure, report_lines

    plan = plan_of(vars(arguments))
    found = measure(plan)
    yield plan.part, found, report_lines(found)


def measure_layers(arguments: argparse.Namespace) -> Measured:
    """Layers in inference and in a step."""
    from pysrn.benchmark.layers.figures import measure, report_lines
    from pysrn.benchmark.plan import INFERENCE

    for part in arguments.of:
        asked = vars(arguments) | {"part": part}
        if part == INFERENCE:
            asked["stage"] = None
        else:
            asked["peers"] = ()
        found = measure(plan_of(asked))
        yield f"layers, {part}", found, report_lines(found, arguments.each)


def measure_photos(arguments: argparse.Namespace) -> Measured:
    """From photos to scores."""
    from pysrn.benchmark.photos.figures import Photos, measure, report_lines

    found = measure(Photos(**{field.name: getattr(arguments, field.name) for field in fields(Photos)}))
    yield "photos", found, report_lines(found)


def measure_start(arguments: argparse.Namespace) -> Measured:
    """How long a user waits."""
    from pysrn.benchmark.start import Start, measure, report_lines

    found = measure(Start(**{field.name: getattr(arguments, field.name) for field in fields(Start)}))
    yield "start", found, report_lines(found)


def measure_recurrent(arguments: argparse.Namespace) -> Measured:
    """An LSTM layer, or a search."""
    from pysrn.benchmark.recurrent.figures import Search, Sequence, measure, report_lines

    kind = Sequence if arguments.part == "recurrent" else Search
    found = measure(kind(**{field.name: getattr(arguments, field.name) for field in fields(kind)}))
    yield arguments.part, found, report_lines(found)


def measure_conversion(arguments: argparse.Namespace) -> Measured:
    """The way to PyTorch and back."""
    from pysrn.benchmark.conversion import measure, report_lines

    found = measure(Path(__file__).parent, system_named(arguments.system), arguments.run, arguments.rounds)
    yield "convert", found, report_lines(found)


def measure_evaluation(arguments: argparse.Namespace) -> Measured:
    """The metrics."""
    from pysrn.benchmark.evaluate import measure, report_lines

    found = measure(arguments.images, arguments.labels, arguments.rounds)
    yield "evaluate", found, report_lines(found)


def measure_data(arguments: argparse.Namespace) -> Measured:
    """Databases and the data layer."""
    from pysrn.benchmark.data.figures import PARTS, measure, report_lines

    options = arguments.count, arguments.rounds, arguments.only or PARTS, arguments.images, arguments.data
    with tempfile.TemporaryDirectory() as folder:
        for title, found in measure(Path(folder), *options):
            yield title, found, report_lines(title, found)


if __name__ == "__main__":
    sys.exit(main())
