"""Whole trainings with stock Caffe and with all parts of the engine: test mAP over several seeds, as a table.

    python -m tests.caffe.five_seeds --runs FOLDER [--data data/shapes] [--seeds 0 1 2 3 4]

Two trainings a seed of about four minutes each on two cores. What is done in FOLDER is kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from pysrn.console import SrnError, run_main, seed_number
from pysrn.evaluate.seeds import mean_ap
from pysrn.evaluate.table import aligned
from tests.caffe.engine import ALL, ROOT, STOCK
from tests.srn import SCORES

SETTINGS = (STOCK, ALL)


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data", type=Path, default=Path("data/shapes"), help="default: %(default)s")
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Train what is missing, print the table."""
    print(table(arguments.seeds, measure(arguments.runs, arguments.data, arguments.seeds)))


def measure(runs: Path, data: Path, seeds: list[int]) -> dict[str, np.ndarray]:
    """Setting -> test mAP (seeds x scores), from 0 to 1. Raises SrnError when a tool fails."""
    found: dict[str, list[list[float]]] = {setting: [] for setting in SETTINGS}
    for seed in seeds:
        for setting in SETTINGS:
            run = runs.absolute() / f"{setting}-seed{seed}"
            words = ["4", "--run", run.name, "--runs", str(run.parent), "--data", str(data.absolute())]
            _call(setting, "run_stage", *words, "--seed", str(seed))
            _call(setting, "predict", str(run))
            scores = mean_ap(run / "stage4" / "predictions_test.npz")
            found[setting].append([scores[name] for name in SCORES])
    return {setting: np.array(rows) for setting, rows in found.items()}


def table(seeds: list[int], found: dict[str, np.ndarray]) -> str:
    """A row a seed, the means and the sample standard deviations, in percent; of `score` the difference, too."""
    columns = [f"{setting} {name}" for setting in SETTINGS for name in SCORES]
    rows = np.hstack([found[STOCK], found[ALL], found[ALL][:, -1:] - found[STOCK][:, -1:]])
    body = [[f"seed {seed}", *map(_percent, row)] for seed, row in zip(seeds, rows, strict=True)]
    body.append(["mean", *map(_percent, rows.mean(axis=0))])
    if len(seeds) > 1:
        body.append(["standard deviation", *map(_percent, rows.std(axis=0, ddof=1))])
    return aligned("test mAP in percent after stage 4", ["", *columns, "score: all - stock"], body)


def _call(setting: str, tool: str, *words: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CAFFE_ENGINE"}
    if setting != ALL:
        environment["CAFFE_ENGINE"] = setting
    command = [sys.executable, "-m", f"tools.{tool}", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise SrnError(f"{' '.join(command)} ended with exit code {done.returncode}")


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
