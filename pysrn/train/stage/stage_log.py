"""What a stage writes down while it runs: log.csv, validation.csv and, if asked for, TensorBoard's event files."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from pathlib import Path

from pysrn.console import MissingError
from pysrn.whole_files import replace_text

LOG, VALIDATION_LOG = "log.csv", "validation.csv"
COLUMNS = ("iteration", "loss", "lr", "seconds")  # and, where there are several, the losses one by one
VALIDATION_COLUMNS = ("iteration", "loss", "lr")
EVENTS = "events"  # folder of TensorBoard's files (`--tensorboard`): the same numbers, for who looks on from afar


class EventFile:
    """A new event file in a stage's folder; what earlier ones hold behind `iteration` is struck out."""

    def __init__(self, folder: Path, iteration: int) -> None:
        from tensorboardX import SummaryWriter  # only with --tensorboard

        self._writer = SummaryWriter(str(folder / EVENTS), purge_step=iteration + 1)
        self.close = self._writer.close  # writes what is still in memory

    def add(self, iteration: int, values: dict[str, float]) -> None:
        """Write the values of one iteration."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)


class StageLog:
    """The logs of one stage, open for appending, cut behind `iteration`: what came after it will be done again.

    `validated` is the iteration of the last validation that counts; None: there is no validation.
    """

    def __init__(self, folder: Path, iteration: int, losses: list[str], validated: int | None, events: bool) -> None:
        self._parts = losses if len(losses) > 1 else []
        self._log = _open_cut(folder / LOG, iteration, [*COLUMNS, *self._parts])
        columns = list(VALIDATION_COLUMNS)
        self._validation = None if validated is None else _open_cut(folder / VALIDATION_LOG, validated, columns)
        self._events = EventFile(folder, iteration) if events else None

    def __enter__(self) -> StageLog:
        return self

    def __exit__(self, *exception) -> None:
        if self._events is not None:
            self._events.close()
        if self._validation is not None:
            self._validation.close()
        self._log.close()

    def iteration(self, iteration: int, losses: list[float], lr: float, seconds: float) -> None:
        """Add a line to log.csv; `losses` are means over the images that the iteration saw."""
        numbers = [f"{sum(losses):.6f}", f"{lr:g}", f"{seconds:.4f}"]
        parts = dict(zip(self._parts, losses, strict=False))
        csv.writer(self._log).writerow([iteration, *numbers, *(f"{part:.6f}" for part in parts.values())])
        if self._events is not None:
            self._events.add(iteration, {"loss": sum(losses), "lr": lr, **parts})

    def validation(self, iteration: int, loss: float, lr: float) -> None:
        """Add a line to validation.csv; `loss` is the mean over the validation images, `lr` the rate until now."""
        csv.writer(self._validation).writerow([iteration, f"{loss:.6f}", f"{lr:g}"])
        self._validation.flush()
        if self._events is not None:
            self._events.add(iteration, {"validation_loss": loss})

    def flush(self) -> None:
        """Hand everything to the system."""
        self._log.flush()

    def sync(self) -> None:
        """Bring everything to the disk: a snapshot, behind which none of it is written again, is about to be."""
        for file in filter(None, (self._log, self._validation)):
            file.flush()
            os.fsync(file.fileno())


def check_event_files() -> None:
    """Raise MissingError when the package that writes event files is not there."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise MissingError(
            "--tensorboard needs the Python package tensorboardX",
            "pip install tensorboardX, or leave --tensorboard out",
        )


def read_columns(path: Path, names: tuple[str, ...]) -> list[tuple[float, ...]]:
    """The rows of a log, only the named columns; a line that is being written or damaged ends them."""
    rows: list[tuple[float, ...]] = []
    if not path.is_file():
        return rows
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            try:
                rows.append(tuple(float(row[name]) for name in names))
            except (ValueError, KeyError, TypeError):
                break
    return rows


def _open_cut(path: Path, iteration: int, columns: list[str]):
    """Open a log behind its line of `iteration`; the old one is there until the new one is whole."""
    kept: list[list[str]] = []
    if iteration and path.is_file():
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= iteration]
    content = io.StringIO()
    csv.writer(content).writerows([columns, *kept])
    replace_text(path, content.getvalue())
    return open(path, "a", newline="", encoding="utf-8")
