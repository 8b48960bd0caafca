#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Turn a caffemodel of a system's authors' own Caffe into one of ours, and print what became what."""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import UsageError, run_main
from pysrn.systems.registry import system_named, systems

STATISTICS = ("variance", "inverse-std")


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="caffemodel of the authors' fork, with BN layers of four blobs")
    parser.add_argument("-o", "--out", type=Path, required=True, help="our caffemodel, to be written")
    parser.add_argument("--system", choices=list(systems()), help="default: the first of these")
    parser.add_argument("--statistics", choices=STATISTICS, help="what BN's fourth blob holds (default: seen in it)")
    parser.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="which layer is which, where the file leaves it open; may be repeated",
    )
    return parser.parse_args(argv)


def work(arguments: argparse.Namespace) -> None:
    """Convert, print, write."""
    from pysrn.nets.caffemodel import write_weights

    system = system_named(arguments.system)
    convert = system.module("official", "importer of its authors' files").convert
    if arguments.out.is_dir() or not arguments.out.absolute().parent.is_dir():
        raise UsageError(f"--out must name a file in a folder that exists, not {arguments.out}")
    if not all(pair.count("=") == 1 for pair in arguments.layer):
        raise UsageError("--layer wants THEIRS=OURS")
    known = dict(pair.split("=") for pair in arguments.layer)
    converted = convert(arguments.weights, arguments.statistics, known)
    print("\n".join(converted.lines()))
    write_weights(arguments.out, converted.net, converted.layers)
    print(f"{arguments.out}: {len(converted.layers)} layers")


if __name__ == "__main__":
    sys.exit(main())
