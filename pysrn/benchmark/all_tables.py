"""All figures of docs/speed.md anew, one command after another, kept in a folder of this processor's name.

What matters most comes first: a run is not begun once the time is over, and what is left out is said.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pysrn.benchmark.speed_table import folder_of
from pysrn.benchmark.whole_process import run_to_end
from pysrn.console import SrnError, message
from pysrn.report.setup_report import describe_machine

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"
# File -> words. Smaller than by default where a table would take too long: fewer rounds, no stock Caffe, one format.
ONE_FORMAT, FEW = ("--formats", "channels_last"), ("--rounds", "3")
RUNS: dict[str, tuple[str, ...]] = {
    "inference-batch1": ("inference", "--batch", "1", *ONE_FORMAT),
    "inference-batch4": ("inference", "--batch", "4", *ONE_FORMAT),
    "step-batch4": ("step", "--batch", "4", *ONE_FORMAT),
    "fixed-stage2-batch4": ("fixed", "--batch", "4"),  # one of the formats may be wrong: see docs/speed.md
    "step-batch16": ("step", "--batch", "16", *ONE_FORMAT, "--no-stock"),
    "layers": ("layers", "--batch", "4", *FEW),
    "photos": ("photos", "--count", "100", *FEW),
    "start": ("start", *FEW),
    "recurrent-threads1": ("recurrent", "--threads", "1"),
    "recurrent-threads2": ("recurrent", "--threads", "2"),
    "search-threads1": ("search", "--threads", "1"),
    "search-threads2": ("search", "--threads", "2"),
    "fixed-stage2-batch16": ("fixed", "--batch", "16", *ONE_FORMAT, "--no-stock"),
    "step-batch1": ("step", "--batch", "1", *ONE_FORMAT, "--no-compile"),
    "data": ("data", "--count", "300", *FEW, "--only", "feed", "wait"),
    "evaluate": ("evaluate", *FEW),
}


@dataclass(frozen=True)
class All:
    """`out`: where the processor's folder is made; `minutes`: behind these no run is begun; `only`: of RUNS."""

    out: Path
    minutes: float = 30.0
    only: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()


def make(plan: All, run: Callable[[list[str]], object] | None = None) -> dict[str, str]:
    """Run after run; name -> what became of it: "" where its file is there, else why it is not.

    A run that fails leaves the file of an earlier one as it was.
    """
    folder = plan.out / folder_of(describe_machine()["cpu"])
    folder.mkdir(parents=True, exist_ok=True)
    until, found = time.monotonic() + 60 * plan.minutes, {}
    for name in plan.only or RUNS:
        if time.monotonic() > until:
            found[name] = f"left out: {plan.minutes:g} minutes are over"
            message(f"{name}: {found[name]}")
            continue
        words = [*words_of(name, plan.peers), "--json", str(folder / f"{name}.json")]
        message(f"tools/benchmark.py {' '.join(words[:-2])}")
        started = time.monotonic()
        try:
            (run or _run)(words)
            found[name] = ""
        except SrnError as error:
            found[name] = str(error)
        message(f"{name}: {found[name] or f'{time.monotonic() - started:.0f} s'}")
    return found


def words_of(name: str, peers: tuple[str, ...]) -> list[str]:
    """The words of a run, with those of the peers that its part knows."""
    words = list(RUNS[name])
    known = {"inference": peers, "layers": _layered(peers), "photos": _layered(peers)}.get(words[0], ())
    return [*words, *(["--peers", *known] if known else [])]


def _layered(peers: tuple[str, ...]) -> tuple[str, ...]:
    from pysrn.benchmark.plan import LAYERED

    return tuple(name for name in peers if name in LAYERED)


def _run(words: list[str]) -> None:
    run_to_end([sys.executable, str(TOOL), *words], name=words[0])
