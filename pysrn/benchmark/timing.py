"""How the benchmarks measure: contestants take turns, medians are compared, and the machine is described.

A machine changes its speed while it is measured. Contestants that take turns, each round in another order, are
slowed down alike, and the ratio within a round is steadier than either speed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Mapping

import cv2

from pysrn.report.setup_report import describe_machine as describe_hardware

Figures = dict[str, list[float]]
PACKAGES = ("numpy", "opencv-python", "lmdb", "protobuf", "torch", "pillow")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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


def describe_machine() -> dict:
    """Processor, cores, load before the run, versions, and the threads that OpenMP and BLAS are told to use."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        **{name: value for name, value in describe_hardware().items() if name in ("system", "cpu", "cores")},
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions,
        "jpeg_library": _jpeg_library(),
        "threads": {name: os.environ.get(name, "not set: one a core") for name in THREAD_VARIABLES},
    }


def _jpeg_library() -> str:
    """What OpenCV decodes and encodes JPEG with."""
    lines = [line.split(":", 1)[1].strip() for line in cv2.getBuildInformation().splitlines() if "JPEG:" in line]
    return lines[0] if lines else "unknown"
