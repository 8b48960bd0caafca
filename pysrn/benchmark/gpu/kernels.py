"""Where the time of a training step goes, by CUDA kernel.

Run as `python -m pysrn.benchmark.gpu.kernels JSON` (`check.py` does), in a process of its own: what records kernels
slows every start of one a little. CAFFE_ENGINE says with which parts.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from functools import cache

from pysrn.benchmark.gpu.cupti import Activity, Cupti
from pysrn.benchmark.gpu.steps import wait_for
from pysrn.benchmark.nets import fill_inputs, make_solver, training_net
from pysrn.benchmark.usual import usual_recipe
from pysrn.console import MissingError
from pysrn.nets.in_caffe import use_device
from pysrn.systems.registry import system_named

KERNELS = "kernels"
SHOWN = 15  # kernels that are told one by one
WIDTH = 70  # letters of a kernel's name
WARM = 2  # steps before: cuDNN and cuBLAS choose and load their kernels
_PARAMETERS = re.compile(r"\((?!anonymous namespace\)).*", re.DOTALL)


def profile(system: str, trunk: str, stage: int, batch_size: int, gpu: int | None, rounds: int) -> dict:
    """Of a step, mean of some: its seconds, those of them that the device computes, and its kernels.

    `kernels`: name, seconds, starts; the longest first. {"missing": why} on the CPU, or without CUPTI.
    """
    if gpu is None:
        return {"missing": "the CPU has no kernels"}
    try:
        cupti = Cupti()
    except MissingError as error:
        return {"missing": str(error)}
    use_device(gpu)
    recipe = usual_recipe(system_named(system), None, trunk, batch_size)
    solver = make_solver(training_net(recipe, stage), recipe, stage, rate=0.0)
    fill_inputs(solver.net)
    solver.step(WARM)
    wait_for(solver.net)
    with cupti.recorded() as activities:
        started = time.perf_counter()
        solver.step(rounds)
        wait_for(solver.net)
        seconds = time.perf_counter() - started
    return {"seconds": seconds / rounds} | summary(activities, rounds)


def summary(activities: Iterable[Activity], rounds: int) -> dict:
    """`busy`: seconds of a round in which the device did anything, and `kernels` of one, as `profile` has them."""
    activities = sorted(activities, key=lambda one: one.start)
    busy = end = 0
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in activities:
        busy += max(0, one.end - max(one.start, end))  # two at once count once
        end = max(end, one.end)
        total = totals[short_name(one.name)]
        total[0] += (one.end - one.start) / 1e9 / rounds
        total[1] += 1 / rounds
    longest = sorted(totals.items(), key=lambda item: -item[1][0])
    return {"busy": busy / 1e9 / rounds, KERNELS: [[name, *total] for name, total in longest]}


def table(name: str, result: dict) -> str:
    """The summary for a person: milliseconds of a step, their share of the device's time, starts, names."""
    step, busy = result["seconds"], result["busy"]
    lines = [f"{name}: a step takes {1000 * step:.1f} ms, the device computes {busy / step:.0%} of it"]
    kernels = result[KERNELS]
    whole = sum(seconds for _, seconds, _ in kernels) or 1.0
    shown = kernels[:SHOWN]
    if rest := kernels[SHOWN:]:
        shown = [*shown, [f"{len(rest)} others", sum(one[1] for one in rest), sum(one[2] for one in rest)]]
    for kernel, seconds, starts in shown:
        lines.append(f"  {1000 * seconds:8.2f} ms  {seconds / whole:6.1%}  {starts:7.1f} x  {kernel}")
    return "\n".join(lines)


@cache
def short_name(name: str) -> str:
    """A kernel's name as its author wrote it, without its parameters, and cut where it is long."""
    plain = _PARAMETERS.sub("", _demangled(name)).removeprefix("void ")
    return plain if len(plain) <= WIDTH else f"{plain[: WIDTH - 3]}..."


def _demangled(name: str) -> str:
    """By the C++ library, which Caffe has loaded; the same name where it is none of C++."""
    if not name.startswith("_Z"):
        return name
    demangle = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
    demangle.restype = ctypes.c_void_p
    status = ctypes.c_int()
    found = demangle(name.encode(), None, None, ctypes.byref(status))
    if status.value or not found:
        return name
    text = ctypes.string_at(found).decode()
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    free(found)
    return text


if __name__ == "__main__":
    print(json.dumps(profile(**json.loads(sys.argv[1]))))
