"""The way to PyTorch and back: seconds and peak memory of tools/to_torch.py and tools/from_torch.py, checks included.

Both run in processes of their own, as a user runs them; nobody else converts these weights, so there is no peer.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pysrn.benchmark.realistic_weights import random_weights
from pysrn.benchmark.usual import usual_recipe
from pysrn.console import SrnError
from pysrn.nets.caffemodel import read_weights
from pysrn.predict.trained import find_weights
from pysrn.systems.system import System

TO, BACK = "to_torch", "from_torch"
NAME = "weights"  # of the file between them


def measure(tools: Path, system: System, run: str | None, rounds: int) -> dict:
    """Figures of both tools, which lie in the folder `tools`, of the weights of `run`, or random ones of the system.

    Raises SrnError when a tool fails, or when the weights that come back are not the ones that went.
    """
    figures: dict[str, list[dict[str, float]]] = {TO: [], BACK: []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        recipe = usual_recipe(system)
        weights = find_weights(run) if run else random_weights(recipe, work)
        for _ in range(rounds):
            out = Path(tempfile.mkdtemp(dir=work))
            to_torch = [str(tools / f"{TO}.py"), str(weights), "--out", str(out / f"{NAME}.safetensors")]
            figures[TO].append(_run([*to_torch, *([] if run else ["--dataset", recipe.dataset.name])]))
            tensors, back = next(out.glob(f"{NAME}-*.safetensors")), out / "back.caffemodel"
            figures[BACK].append(_run([str(tools / f"{BACK}.py"), str(tensors), "--out", str(back)]))
            there, here = (
                {name: [blob.tobytes() for blob in blobs] for name, blobs in read_weights(path).items()}
                for path in (weights, back)
            )
            if there != here:
                raise SrnError("the weights that came back from PyTorch are not those that went there")
            shutil.rmtree(out)
        size = weights.stat().st_size / 2**20
    medians = {
        name: {kind: statistics.median(row[kind] for row in rows) for kind in ("seconds", "peak_mb")}
        for name, rows in figures.items()
    }
    return {"weights_mb": size, "median": medians, "rounds": figures}


def report_lines(found: dict) -> list[str]:
    """The lines that say what was measured."""
    lines = [f"weights of {found['weights_mb']:.0f} MB, each way compared with Caffe layer by layer"]
    for name, figures in found["median"].items():
        lines.append(f"  {name:<12}{figures['seconds']:8.2f} s{figures['peak_mb']:8.0f} MB")
    return lines


def _run(words: list[str]) -> dict[str, float]:
    """Seconds and peak of resident memory of a tool."""
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SrnError(f"{Path(words[0]).name} ended with exit code {process.returncode}: {errors.read()[-500:]}")
    return {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024}
