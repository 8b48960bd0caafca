"""Speed of what is recurrent: an LSTM layer forth and back, and a search; ours against stock Caffe and PyTorch.

Before anything is timed all contestants compute the same. See `sides.py` for what each does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from pysrn.benchmark.contender import CAFFE, SEARCH, SEQUENCE, TORCH, Contender, Job
from pysrn.benchmark.plan import OURS, STOCK
from pysrn.benchmark.speed import compare, ratio_text
from pysrn.benchmark.speed_table import by_processor, parted, spread_text
from pysrn.benchmark.timing import alternate, summary
from pysrn.benchmark.usual import own_module, usual_recipe
from pysrn.console import MissingError, UsageError, message
from pysrn.nets.caffemodel import read_layers, write_weights
from pysrn.systems.registry import system_named, systems

PEER = "PyTorch"
OLD = "stock Caffe"
CONTESTANTS = {OLD: (CAFFE, STOCK), OURS: (CAFFE, {}), PEER: (TORCH, {})}
BEGIN, END = "<!-- recurrent: tools/benchmark.py table -->", "<!-- /recurrent -->"
ROUND_SECONDS = 1.0  # assumed, as in `plan.py`


@dataclass(frozen=True)
class Sequence:
    """An LSTM of `width` units over `steps` words of `batch` paths, each word of `inputs` numbers."""

    threads: int = 2
    rounds: int = 7
    steps: int = 10
    batch: int = 64
    width: int = 512
    inputs: int = 64
    contestants: ClassVar = (OLD, OURS, PEER)

    @property
    def title(self) -> str:
        """For the report."""
        return f"LSTM forth and back, {self.steps} steps, batch {self.batch}, {self.inputs} to {self.width} numbers"

    def job(self, folder: Path) -> Job:
        """Random numbers; the weights are as small as those of a trained layer."""
        random = np.random.default_rng(0)
        cont = np.ones((self.steps, self.batch), np.float32)
        cont[0] = 0
        arrays = {
            "x": random.normal(size=(self.steps, self.batch, self.inputs)),
            "cont": cont,
            "gradient": random.normal(size=(self.steps, self.batch, self.width)),
            "of_input": random.uniform(-0.08, 0.08, (4 * self.width, self.inputs)),
            "bias": random.uniform(-0.08, 0.08, 4 * self.width),
            "of_state": random.uniform(-0.08, 0.08, (4 * self.width, self.width)),
        }
        np.savez(folder / "inputs.npz", **{name: array.astype(np.float32) for name, array in arrays.items()})
        return Job(CAFFE, SEQUENCE, "", str(folder / "inputs.npz"), self.threads, ROUND_SECONDS)


@dataclass(frozen=True)
class Search:
    """`images` searched, a batch at a time, in a system's usual net for the widest of its usual data sets."""

    threads: int = 2
    rounds: int = 7
    images: int = 1000
    batch: int = 16
    system: str | None = None
    contestants: ClassVar = (OURS, PEER)  # stock Caffe takes many minutes

    @property
    def title(self) -> str:
        """For the report."""
        return f"search of {self.images:,} images, batch {self.batch}"

    def job(self, folder: Path) -> Job:
        """Random weights and what the search reads, both as the system's own benchmarks want them."""
        from pysrn.benchmark.realistic_weights import random_weights

        known = [system for system in systems().values() if system.searching]
        system = system_named(self.system) if self.system else known[0]
        if not system.searching:
            raise UsageError(f"search: {system.title} searches nothing")
        trunk = next(name for name, trunk in system.trunks.items() if trunk.small)  # it is not asked for anything
        weights = random_weights(usual_recipe(system, None, trunk), folder)
        dropped = system.stages[-1].drops
        layers = {name: one for name, one in read_layers(weights).items() if system.part_of(name) not in dropped}
        read = own_module(system).searched({name: blobs for name, (_, blobs) in layers.items()}, self.images)
        write_weights(weights, "searched", layers)
        np.savez(folder / "inputs.npz", **read, batch=self.batch)
        return Job(CAFFE, SEARCH, str(weights), str(folder / "inputs.npz"), self.threads, 0)


def measure(plan: Sequence | Search) -> dict:
    """Seconds, ratios of ours, agreement, versions.

    Raises MissingError without PyTorch, UsageError for a system that searches nothing, ToleranceError when a
    contestant computes something else.
    """
    try:
        import torch  # noqa: F401 (only whether it is there)
    except ModuleNotFoundError as error:
        raise MissingError(f"the peer needs the Python package {error.name}", "pip install -e .[torch]") from None
    os.environ.setdefault("GLOG_minloglevel", "2")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        job = plan.job(Path(folder))
        contenders: dict[str, Contender] = {}
        reference: dict[str, np.ndarray] = {}
        agreement = {}
        for name in plan.contestants:
            framework, environment = CONTESTANTS[name]
            message(f"starting {name}")
            contender = Contender(name, replace(job, framework=framework), environment)
            stack.callback(contender.close)
            found = contender.check(Path(folder, "check.npz"))
            reference = reference or found
            agreement[name] = compare(reference, found, name)
            contender.prepare()
            contenders[name] = contender
        message(f"{plan.rounds} rounds")
        figures = alternate({name: contender.seconds for name, contender in contenders.items()}, plan.rounds)
        described = {name: contender.description for name, contender in contenders.items()}
    return {
        "plan": asdict(plan) | {"title": plan.title},
        "seconds": summary(figures, OURS),
        "agreement": agreement,
        "contestants": described,
    }


def report_lines(figures: Mapping) -> list[str]:
    """The lines that say what was measured."""
    plan, seconds = figures["plan"], figures["seconds"]
    lines = [
        f"{plan['title']}; {plan['threads']} threads, {plan['rounds']} rounds",
        f"  {'':<14}{'seconds':>9}   time of ours / its time",
    ]
    for name, median in seconds["median"].items():
        behind = ratio_text(seconds["ratio"].get(name))
        lines.append(f"  {name:<14}{median:9.4f}   {behind}".rstrip())
    return lines


def table(folder: Path) -> str:
    """Markdown of all figures of recurrent parts that are kept in `folder`, a table a processor."""
    return "\n".join([BEGIN, *parted(map(_lines_of, by_processor(folder))), END])


def _lines_of(reports: list[dict]) -> list[str]:
    """The conditions and the table of one processor; nothing where it has no such figures."""
    measured = [(one["machine"], one[part]) for part in ("recurrent", "search") for one in reports if part in one]
    if not measured:
        return []
    conditions = {
        f"{machine['cpu']}, {machine['cores']} cores; PyTorch {machine['versions']['torch']}; medians of "
        f"{found['plan']['rounds']} alternating rounds."
        for machine, found in measured
    }
    names = ["seconds", "threads", OURS, OLD, PEER, f"{OURS} / {PEER}"]
    lines = [*sorted(conditions), "", "| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    for _, found in measured:
        median, ratio = found["seconds"]["median"], found["seconds"]["ratio"][PEER]
        seconds = [f"{median[name]:.3g}" if name in median else "" for name in (OURS, OLD, PEER)]
        cells = [found["plan"]["title"], str(found["plan"]["threads"]), *seconds, spread_text(ratio)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
