"""Loss and learning rate of a run's stages as pictures, from their `log.csv` and `validation.csv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pysrn.console import MissingError, SrnError
from pysrn.pictures.figures import save_figure
from pysrn.train.run_folder import RunFolder
from pysrn.train.stage.stage_log import LOG, VALIDATION_COLUMNS, VALIDATION_LOG, read_columns

SMOOTHED_SHARE = 0.02  # a running mean over this share of the iterations, at least 5
HEADROOM = 1.15  # above the greatest loss, for the legend
STEPS_NAMED = 5  # learning rates that get a tick of their own
NOT_LOSSES = ("iteration", "lr", "seconds")
LOSS_TITLE = "loss, summed over the labels"


def draw_loss_curves(run: Path, out: Path) -> list[int]:
    """Draw the curves of all stages that have a log into the PNG `out`; returns those stages.

    Raises MissingError when there is no log, SrnError for a damaged one.
    """
    folder = RunFolder(run)
    names = folder.stage_names()
    logs = {number: folder.stage(number) / LOG for number in names}
    columns = {number: read_log(path) for number, path in logs.items() if path.is_file()}
    if not columns:
        raise MissingError(f"no {LOG} of any stage in {run}", folder.command(1))
    validations = {number: read_validation(folder.stage(number)) for number in columns}
    save_figure(figure_of(columns, names, validations), out)
    return list(columns)


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Column name -> values of a stage's log, in the order of the iterations; SrnError when it is damaged.

    A last line that training is still writing is left out.
    """
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if rows and len(rows[-1]) < len(header):
        rows.pop()
    try:
        body = np.array(rows, dtype=float).reshape(len(rows), len(header))
    except ValueError as error:
        raise SrnError(f"{path} is damaged: {error}") from None
    if not np.isfinite(body).all():
        raise SrnError(f"{path} is damaged: it holds numbers that are not finite")
    if not {"iteration", "loss"} <= set(header) or not rows:
        raise SrnError(f"{path} holds no losses yet, or is no training log")
    return dict(zip(header, body.T, strict=True))


def read_validation(stage: Path) -> np.ndarray:
    """Iterations and validation losses of a stage's folder: n x 2, with n = 0 where it has not validated."""
    rows = read_columns(stage / VALIDATION_LOG, VALIDATION_COLUMNS)  # all: a line without its end may lack digits
    return np.array(rows).reshape(-1, len(VALIDATION_COLUMNS))[:, :2]


def figure_of(
    columns: Mapping[int, Mapping[str, np.ndarray]],
    names: Mapping[int, str],
    validations: Mapping[int, np.ndarray] | None = None,
) -> Figure:
    """One panel a stage, side by side; `names` of the stages, `validations`: stage -> n x 2 (see `read_validation`)."""
    figure = Figure(figsize=(4.2 * len(columns), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (number, log) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True):
        draw_stage(panel, f"stage {number}: {names[number]}", log, (validations or {}).get(number))
    figure.axes[0].set_ylabel(LOSS_TITLE)
    return figure


def draw_stage(panel: Axes, title: str, log: Mapping[str, np.ndarray], validation: np.ndarray | None = None) -> None:
    """Every loss thin, its running mean thick, the learning rate dotted on the right, the validation loss as dots."""
    losses = [name for name in log if name not in NOT_LOSSES]
    highest = max(log[name].max() for name in losses)
    for name in losses:
        (thin,) = panel.plot(log["iteration"], log[name], linewidth=0.5, alpha=0.35)
        at, mean = running_mean(log["iteration"], log[name])
        panel.plot(at, mean, linewidth=1.6, color=thin.get_color(), label=name)
    if validation is not None and len(validation):
        panel.plot(*validation.T, "o-", color="black", markersize=4, linewidth=0.8, label="validation loss")
        highest = max(highest, validation[:, 1].max())
    panel.set_title(title)
    panel.set_xlabel("iteration")
    panel.set_ylim(0, HEADROOM * highest)
    panel.grid(alpha=0.3)
    handles = panel.get_legend_handles_labels()[0]
    if "lr" in log:
        rate = panel.twinx()
        line = {"drawstyle": "steps-mid", "color": "gray", "linewidth": 1, "label": "learning rate (right)"}
        rate.plot(log["iteration"], log["lr"], ":", **line)
        rate.set_yscale("log")
        steps = np.unique(log["lr"])
        if len(steps) <= STEPS_NAMED:
            rate.set_yticks(steps, [f"{step:g}" for step in steps])
            rate.minorticks_off()
        rate.tick_params(which="both", labelsize=7, colors="gray")
        handles += rate.get_legend_handles_labels()[0]
    panel.legend(handles=handles, fontsize=8, loc="upper right")


def running_mean(iterations: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over a window and the iterations in the middle of each."""
    width = min(len(values), max(5, math.ceil(SMOOTHED_SHARE * len(values))))
    kernel = np.full(width, 1 / width)
    return np.convolve(iterations, kernel, "valid"), np.convolve(values, kernel, "valid")
