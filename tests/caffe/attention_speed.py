"""The layer `SemanticAttention` against PyTorch at the size of MS-COCO: time, memory, exponentials a second.

    python -m tests.caffe.attention_speed [--threads 1 2] [--rounds 5] [--no-compile]

Three branches of 784, 196 and 49 positions, 512 channels, 84 rows, two images, forth and back. Contestants take turns
in one process for each number of threads; the memory of each is that of a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import caffe
import numpy as np
import torch

from pysrn.benchmark.timing import alternate, describe_machine
from pysrn.console import MissingError, run_main
from pysrn.evaluate.table import aligned
from tests.caffe.engine import ROOT
from tests.caffe.running import build, layer, numbers, text_net

IMAGES, CHANNELS, ROWS, SIDES = 2, 512, 84, (28, 14, 7)
EXPONENTIALS = 2 * IMAGES * CHANNELS * ROWS * sum(side * side for side in SIDES)  # forth and back
OURS, EAGER, LAST, COMPILED = "ours", "PyTorch", "PyTorch, positions last", "torch.compile"
OUR_RATE, BARE_RATE = "rate", "bare rate"
AGREEMENT = 1e-4  # of the greatest gradient: float32 on both sides
BARE = """
#include <cmath>
#include <vector>
extern "C" void bare(const float* x, int count, long times) {
#pragma omp parallel
  {
    std::vector<float> y(count);
#pragma omp for
    for (long time = 0; time < times; ++time) {
      float* to = y.data();
      for (int i = 0; i < count; ++i) to[i] = expf(x[i]);
      asm volatile("" : : "r"(to) : "memory");
    }
  }
}
"""
FAST = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]

Step = Callable[[], list[np.ndarray]]  # forth and back; returns the gradients


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes a minute")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Be a child, or start them and print a table."""
    if arguments.child:
        what, *names = arguments.child
        print(json.dumps(times(names, arguments.rounds) if what == "times" else memory(names[0])))
        return
    if "SemanticAttention" not in caffe.layer_type_list():
        raise MissingError("this Caffe has no layer SemanticAttention", "docker/local builds one that has it")
    names = [name for name in STEPS if name != COMPILED or not arguments.no_compile]
    extra = {name: child(1, arguments.rounds, "memory", name) for name in names}
    rows, rates = [], []
    for threads in arguments.threads:
        found = child(threads, arguments.rounds, "times", *names)
        for name in names:
            ratios = [other / ours for other, ours in zip(found[name], found[OURS], strict=True)]
            figures = 1000 * statistics.median(found[name]), statistics.median(ratios), extra[name] / 1e6
            rows.append([name, str(threads), *(f"{figure:.1f}" for figure in figures)])
        ours, bare = (statistics.median(found[name]) for name in (OUR_RATE, BARE_RATE))
        rates.append([str(threads), f"{ours / 1e9:.2f}", f"{bare / 1e9:.2f}", f"{bare / ours:.2f}"])
    print(json.dumps(describe_machine(), indent=1), file=sys.stderr)
    print(aligned("Forth and back:", ["", "threads", "ms", "time / ours", "extra MB"], rows))
    head = ["threads", "ours", "a bare loop", "its / ours"]
    print(aligned("\n10^9 exponentials a second of processor time:", head, rates))


def child(threads: int, rounds: int, *what: str):
    """What a process with so many threads finds."""
    command = [sys.executable, "-m", "tests.caffe.attention_speed", "--rounds", str(rounds), "--child", *what]
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "GLOG_minloglevel": "2", "OMP_WAIT_POLICY": "passive"}
    return json.loads(subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)


def inputs() -> list[np.ndarray]:
    """The maps of three branches, the rows, and the gradients of the three tops."""
    random = np.random.default_rng(0)
    maps = [numbers(random, (IMAGES, CHANNELS, side, side)) for side in SIDES]
    return [*maps, numbers(random, (ROWS, CHANNELS)), *(numbers(random, (IMAGES, ROWS, CHANNELS)) for _ in SIDES)]


def our_step() -> Step:
    """Of a net with the three branches."""
    *bottoms, rows, _, _, _ = values = inputs()
    names = [*(f"map{number}" for number in range(3)), "rows"]
    layers = "".join(layer(f"out{number}", "SemanticAttention", f"map{number} rows") for number in range(3))
    net = build(text_net(layers, **dict(zip(names, (one.shape for one in (*bottoms, rows)), strict=True))), "train")
    for name, value in zip(names, values, strict=False):
        net.blobs[name].data[...], net.blobs[name].diff[...] = value, 0
    for number in range(3):
        net.blobs[f"out{number}"].data[...], net.blobs[f"out{number}"].diff[...] = 0, values[4 + number]

    def step() -> list[np.ndarray]:
        net.forward()
        net.backward()
        return [net.blobs[name].diff for name in names]

    return step


def attend(*inputs: torch.Tensor) -> list[torch.Tensor]:
    """The released code's operations: products N x P x R x D, softmax over positions, weighted sum."""
    *branches, rows = inputs
    outs = []
    for maps in branches:
        places = maps.flatten(2).transpose(1, 2)[:, :, None]
        outs.append((torch.softmax(places * rows, dim=1) * places).sum(1))
    return outs


def attend_last(*inputs: torch.Tensor) -> list[torch.Tensor]:
    """The same with products N x R x D x P, which PyTorch's softmax likes better."""
    *branches, rows = inputs
    outs = []
    for maps in branches:
        places = maps.flatten(2)[:, None]
        outs.append((torch.softmax(rows[:, :, None] * places, dim=3) * places).sum(3))
    return outs


def torch_step(function: Callable[..., list[torch.Tensor]]) -> Step:
    """Of the same in PyTorch."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    values = [torch.from_numpy(value) for value in inputs()]
    given = [value.requires_grad_() for value in values[:4]]

    def step() -> list[np.ndarray]:
        return [one.numpy() for one in torch.autograd.grad(function(*given), given, values[4:])]

    return step


STEPS: dict[str, Callable[[], Step]] = {
    OURS: our_step,
    EAGER: lambda: torch_step(attend),
    LAST: lambda: torch_step(attend_last),
    COMPILED: lambda: torch_step(torch.compile(attend, dynamic=False)),
}


def times(names: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step by contestant; exponentials a second of ours and of a loop that computes nothing else.

    Raises RuntimeError where the contestants' gradients are not the same.
    """
    steps = {name: STEPS[name]() for name in names}
    expected = [gradient.copy() for gradient in steps[OURS]()]
    for name, step in steps.items():
        for ours, theirs in zip(expected, step(), strict=True):
            if not np.abs(ours - theirs).max() <= AGREEMENT * np.abs(ours).max():
                raise RuntimeError(f"{name} computes other gradients")
    contestants = {name: lambda step=step: least(step, time.perf_counter) for name, step in steps.items()}
    contestants[OUR_RATE] = lambda: EXPONENTIALS / least(steps[OURS], time.process_time)
    contestants[BARE_RATE] = bare()
    return alternate(contestants, rounds)


def least(step: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of the fastest of as many calls as fit into one second, or of one."""
    end, found = time.perf_counter() + 1, []
    while not found or time.perf_counter() < end:
        start = clock()
        step()
        found.append(clock() - start)
    return min(found)


def bare() -> Callable[[], float]:
    """Exponentials a second of the C library's vectors, on numbers that stay in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "bare.cpp"), Path(folder, "bare.so")
        source.write_text(BARE)
        subprocess.run(["g++", *FAST, str(source), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    x = -np.abs(numbers(np.random.default_rng(0), (784,)))
    repeats = EXPONENTIALS // x.size

    def loop() -> None:
        loaded.bare(x.ctypes.data_as(ctypes.c_void_p), x.size, ctypes.c_long(repeats))

    return lambda: x.size * repeats / least(loop, time.process_time)


def memory(name: str) -> int:
    """Bytes that the process takes at most during steps, beyond what it has before the first one."""
    step = STEPS[name]()
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide what is taken
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    for _ in range(2):
        step()
    return resident("VmHWM") - before


def resident(what: str) -> int:
    """Bytes, as Linux tells them of this process."""
    return 1024 * int(re.search(rf"{what}:\s*(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))[1])


if __name__ == "__main__":
    sys.exit(main())
