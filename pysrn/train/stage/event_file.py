"""TensorBoard event files (`--tensorboard`): the numbers of log.csv and validation.csv, for who looks on from afar."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pysrn.console import MissingError

FOLDER = "events"


def check_installed() -> None:
    """Raise MissingError when the package that writes event files is not there."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise MissingError(
            "--tensorboard needs the Python package tensorboardX",
            "pip install tensorboardX, or leave --tensorboard out",
        )


class EventFile:
    """A new event file in a stage's folder; what earlier ones hold behind `iteration` is struck out."""

    def __init__(self, folder: Path, iteration: int) -> None:
        from tensorboardX import SummaryWriter  # only with --tensorboard

        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=iteration + 1)

    def add(self, iteration: int, values: dict[str, float]) -> None:
        """Write the values of one iteration."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()
