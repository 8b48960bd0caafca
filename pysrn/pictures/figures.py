"""Grids of panels in one picture: how many fit, and writing the matplotlib figure as PNG, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from pysrn.console import UsageError
from pysrn.whole_files import written_beside

RESOLUTION = 110  # dots an inch
MOST_PANELS = 400  # a minute of work; with two columns or more their rows stay below matplotlib's 65,536 pixels


def check_panels(rows: int, columns: int, cure: str) -> None:
    """Raise UsageError where so many panels are too many for a picture."""
    if rows * columns > MOST_PANELS:
        raise UsageError(f"{rows} rows of {columns} panels are too many for one picture: {MOST_PANELS} at most", cure)


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to the PNG `path` by way of a temporary name; folders are made."""
    with written_beside(path) as partial:
        figure.savefig(partial, format="png", dpi=RESOLUTION)
