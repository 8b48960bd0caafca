"""How the benchmarks measure: contestants take turns, medians are compared, and the machine is described.

A machine changes its speed while it is measured. Contestants that take turns, each round in another order, are
slowed down alike, and the ratio within a round is steadier than either speed. Imports little, as `usual.py`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

Figures = dict[str, list[float]]
PACKAGES = ("numpy", "opencv-python", "lmdb", "protobuf", "torch", "pillow")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_WARM_UP = 3  # steps before anything is timed: cuDNN loads its kernels, buffers are made


def seconds_of(work: Callable[[], object], passes: int = 1) -> float:
    """Seconds of one pass, the mean over all."""
    started = time.perf_counter()
    for _ in range(passes):
        work()
    return (time.perf_counter() - started) / passes


def median_seconds(step: Callable[[], object], rounds: int) -> float:
    """Median of the seconds of a step, once it is warm."""
    for _ in range(_WARM_UP):
        step()
    return statistics.median(seconds_of(step) for _ in range(rounds))


def alternate(contestants: Mapping[str, Callable[[], float]], rounds: int) -> Figures:
    """Call every contestant once a round, each round starting with another one; returns its figures by name."""
    names = list(contestants)
    figures: Figures = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(contestants[name]())
    return figures


def summary(figures: Figures, ours: str) -> dict:
    """Medians, and for every other contestant the median of `ours` / its figure over the rounds, with the extremes.

    The figures are rates: a ratio above 1 means that `ours` is faster.
    """
    found: dict = {"median": {name: statistics.median(values) for name, values in figures.items()}, "ratio": {}}
    for name, values in figures.items():
        if name != ours:
            ratios = [mine / other for mine, other in zip(figures[ours], values, strict=True)]
            found["ratio"][name] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return found | {"rounds": figures}


def summary_lines(found: Mapping, digits: int, ratio_digits: int) -> list[str]:
    """A line for each contestant of a `summary`: its median rate, and how many times as fast ours is."""
    lines = []
    for name, median in found["median"].items():
        ratio = {key: f"{value:.{ratio_digits}f}" for key, value in found["ratio"].get(name, {}).items()}
        behind = f"   ours is {ratio['median']}x ({ratio['least']} to {ratio['most']})" if ratio else ""
        lines.append(f"  {name:<34}{median:9.{digits}f}{behind}")
    return lines


def describe_machine() -> dict:
    """Processor, cores, load before the run, versions, and the threads that OpenMP and BLAS are told to use."""
    from pysrn.report import setup_report

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    hardware = setup_report.describe_machine()
    return {
        **{name: hardware[name] for name in ("system", "cpu", "cores")},
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions,
        "jpeg_library": _jpeg_library(),
        "threads": {name: os.environ.get(name, "not set: one a core") for name in THREAD_VARIABLES},
    }


def _jpeg_library() -> str:
    """What OpenCV decodes and encodes JPEG with."""
    import cv2

    lines = [line.split(":", 1)[1].strip() for line in cv2.getBuildInformation().splitlines() if "JPEG:" in line]
    return lines[0] if lines else "unknown"
