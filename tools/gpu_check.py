#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Check and measure a CUDA device: layers and losses against the CPU, img/s, two ranks on it, its kernels, PyTorch.

What matters most comes first; every result is printed, and kept in --json, as soon as it is there. Ends within eight
minutes. Exit codes: 3 no CUDA device, 4 something failed or differs too much from the CPU.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from pysrn.benchmark.gpu.check import check, line, wrong
from pysrn.benchmark.gpu.runner import PARTS, Plan, small
from pysrn.console import ToleranceError, run_main
from pysrn.systems.registry import system_named, systems


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_main(work, lambda: parsed(argv))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; UsageError where a system cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--gpu", type=int, default=0, metavar="N", help="CUDA device (default: %(default)s)")
    device.add_argument("--cpu", action="store_true", help="do it on the CPU, to try this check without a GPU")
    parser.add_argument("--system", choices=list(systems()), help="default: the first of these")
    parser.add_argument("--small", action="store_true", help="a small trunk and few steps")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="default: all")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON", help="one whose PyTorch has CUDA")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    return parser.parse_args(argv)


def work(arguments: argparse.Namespace) -> None:
    """Run all parts; print every result as soon as it is there."""
    from pysrn.nets.in_caffe import check_gpu
    from pysrn.report.setup_report import list_gpus
    from pysrn.whole_files import replace_text

    gpu = None if arguments.cpu else arguments.gpu
    if gpu is not None:
        check_gpu(gpu)
    system = system_named(arguments.system)
    measured = {"parts": tuple(arguments.only), "torch_python": arguments.torch_python, "system": system.name}
    plan = Plan(gpu, **measured, **(small(system) if arguments.small else {}))
    known = dict(enumerate(list_gpus()))
    print("device:", "CPU" if gpu is None else known.get(gpu, "unknown to nvidia-smi"), flush=True)
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, result in check(plan, Path(folder)):
            results[name] = result
            print(line(name, result), flush=True)
            if arguments.json:
                replace_text(arguments.json, json.dumps({"plan": asdict(plan), "results": results}, indent=1) + "\n")
    failed = [name for name, result in results.items() if wrong(name, result)]
    if failed:
        raise ToleranceError(f"not as it should be: {'; '.join(failed)}")


if __name__ == "__main__":
    sys.exit(main())
