"""Writing a matplotlib figure as PNG, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

RESOLUTION = 110  # dots an inch


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to the PNG `path` by way of a temporary name; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(partial, format="png", dpi=RESOLUTION)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
