"""How long a user waits: for `--help` of each tool, for the labels of one photo, for a training's first step.

Each is a process of its own, begun anew in every round. Python's compiled files are those of a folder that a run which
is not timed has filled, as they are for a user from the second command on.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pysrn.benchmark.contender import THREADS
from pysrn.benchmark.data.building import build, make_photos, write_list
from pysrn.benchmark.realistic_weights import random_weights
from pysrn.benchmark.timing import alternate
from pysrn.benchmark.usual import usual_recipe
from pysrn.benchmark.whole_process import run_to_end
from pysrn.console import SrnError, message
from pysrn.processes import environment
from pysrn.recipes import EMBEDDED
from pysrn.systems.registry import default_system
from pysrn.train.stage.stage_log import LOG

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PYTHON, PHOTO, STEP = "python -c pass", "predict.py of one photo", "first step of a training begins"
PHOTOS = 32  # of the pair that is trained on; assumed: reading them is no part of the wait
LOOK_EVERY = 0.002  # seconds between two looks for the first step's line; assumed: too short to matter
LONGEST = 300.0  # seconds until a training that has made no step is given up; assumed


@dataclass(frozen=True)
class Start:
    """`trunk`, `batch`: of the training whose first step is waited for; the recipe is the default system's first."""

    rounds: int = 7
    threads: int = 2
    batch: int = 4
    trunk: str | None = None


def measure(plan: Start) -> dict:
    """Seconds of each, medians and rounds. Raises SrnError where a tool fails."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        kept = environment(**dict.fromkeys(THREADS, str(plan.threads)), PYTHONPYCACHEPREFIX=str(work / "compiled"))
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {PYTHON: [sys.executable, "-c", "pass"]}
        tools = sorted(path for path in TOOLS.glob("*.py") if path.stem != "__init__")
        commands |= {f"{path.name} --help": [sys.executable, str(path), "--help"] for path in tools}
        commands[PHOTO] = _of_photo(work)
        training = _training(plan, work)

        def seconds(name: str) -> float:
            return run_to_end(commands[name], kept, name).seconds

        def until_step() -> float:
            with tempfile.TemporaryDirectory(dir=work) as runs:
                return first_step(training, Path(runs), kept)

        contestants = {name: lambda name=name: seconds(name) for name in commands} | {STEP: until_step}
        message("once each, not timed")
        for one in contestants.values():
            one()
        message(f"{plan.rounds} rounds")
        figures = alternate(contestants, plan.rounds)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    return {"plan": asdict(plan), "median": medians, "rounds": figures}


def report_lines(found: Mapping) -> list[str]:
    """The lines that say what was measured."""
    median, plan = found["median"], found["plan"]
    slowest = slowest_help(median)
    net = f"{plan['trunk'] or 'the usual trunk'}, batch {plan['batch']}"
    return [
        f"start: {plan['threads']} threads, {plan['rounds']} rounds, seconds",
        f"  {PYTHON:<52}{median[PYTHON]:7.3f}",
        f"  {f'--help, the slowest tool ({slowest.split()[0]})':<52}{median[slowest]:7.3f}",
        f"  {f'{PHOTO} ({EMBEDDED})':<52}{median[PHOTO]:7.3f}",
        f"  {f'{STEP} ({net})':<52}{median[STEP]:7.3f}",
    ]


def slowest_help(median: Mapping[str, float]) -> str:
    """Which --help takes longest."""
    return max((name for name in median if name.endswith("--help")), key=median.get)


def first_step(words: list[str], runs: Path, kept: Mapping[str, str]) -> float:
    """Seconds from a training's command (`--runs` is added) until its first step begins; it is ended then.

    Raises SrnError when it ends before, or has made no step in LONGEST.
    """
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*words, "--runs", str(runs)], stdout=subprocess.DEVNULL, stderr=errors, env=kept, start_new_session=True
        )
        try:
            while (step := _step_seconds(runs)) is None:
                if process.poll() is not None or time.perf_counter() - started > LONGEST:
                    errors.seek(0)
                    raise SrnError(f"the training made no step: {errors.read()[-500:].strip()}")
                time.sleep(LOOK_EVERY)
            return time.perf_counter() - started - step
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its ranks, too: nothing of it is kept
            process.wait()


def _step_seconds(runs: Path) -> float | None:
    """What the first line of the log says of its step; None while there is no whole line."""
    for log in runs.glob(f"*/stage1/{LOG}"):
        head, *lines = log.read_text().splitlines(keepends=True) or [""]  # a file may be there before its first line
        if lines and lines[0].endswith("\n"):
            return float(dict(zip(head.strip().split(","), lines[0].strip().split(","), strict=True))["seconds"])
    return None


def _of_photo(work: Path) -> list[str]:
    """A prediction of one photo by the embedded data set's net."""
    photos = work / "photos"
    make_photos(photos, PHOTOS)
    write_list(photos, 1)
    build(photos, work / "labels", EMBEDDED, "jpeg", 1)
    weights = random_weights(usual_recipe(default_system(), dataset=EMBEDDED), work)
    photo = min(photos.glob("*.jpg"))
    return [
        *(sys.executable, str(TOOLS / "predict.py"), str(photo)),
        *("--run", str(weights), "--data", str(work / "labels")),
    ]


def _training(plan: Start, work: Path) -> list[str]:
    """The first stage of the default system, from scratch, on a small LMDB pair."""
    recipe = usual_recipe(default_system(), trunk=plan.trunk)
    build(work / "photos", work / "pair", recipe.dataset.name, "jpeg", 1)
    return [
        *(sys.executable, str(TOOLS / "run_stage.py"), "1", "--dataset", recipe.dataset.name, "--from-scratch"),
        *("--data", str(work / "pair"), "--batch-size", str(plan.batch), "--trunk", recipe.trunk),
    ]
