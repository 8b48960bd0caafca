"""A predictions file (`predictions.py`) written and read piece by piece: memory does not grow with the images."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pysrn.console import SrnError, existing_file
from pysrn.predict.predictions import CURE, DAMAGE, LISTED, Predictions
from pysrn.whole_files import written_beside

ROWS = 4096  # assumed: a block of a few megabytes


class OddValue(SrnError):
    """A score that is no number, or a label that is none."""


@dataclass(frozen=True)
class Column:
    """An array of the file; `blocks` yields its rows, in order."""

    dtype: np.dtype
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[np.ndarray]]

    @classmethod
    def of(cls, array: np.ndarray) -> Column:
        """A whole one."""
        return cls(array.dtype, array.shape, lambda: [array])

    def texts(self) -> Iterator[str]:
        """Its rows, of text."""
        for block in self.blocks():
            yield from block.tolist()


@dataclass(frozen=True)
class Outline:
    """What a written file holds: images, label names, scores and the last of these."""

    images: int
    classes: tuple[str, ...]
    scores: tuple[str, ...]
    last: Column

    @classmethod
    def of(cls, found: Predictions) -> Outline:
        """That of predictions in memory."""
        scores = tuple(found.scores)
        return cls(len(found.keys), found.classes, scores, Column.of(found.scores[scores[-1]]))


def write_columns(path: Path, about: Mapping, columns: Mapping[str, Column]) -> None:
    """Write the file, byte for byte as `Predictions.save` writes the whole arrays."""
    words = np.array(json.dumps({**about, LISTED: list(columns)}))
    with written_beside(path) as partial_path, zipfile.ZipFile(partial_path, "w") as archive:
        for name, column in {"about": Column.of(words), **columns}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                descr = np.lib.format.dtype_to_descr(column.dtype)
                header = {"descr": descr, "fortran_order": False, "shape": column.shape}
                np.lib.format.write_array_header_1_0(file, header)
                for block in column.blocks():
                    file.write(np.ascontiguousarray(block, column.dtype).tobytes())


def read_columns(path: Path) -> tuple[dict, dict[str, Column]]:
    """What a file says of itself, and its arrays. MissingError where there is none, SrnError where it is damaged."""
    existing_file(path, "predictions", "tools/predict.py makes them")
    try:
        columns = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    columns[name.removesuffix(".npy")] = Column(*_header(file), partial(_blocks, path, name))
            if len(columns) < len(archive.namelist()):
                raise ValueError("it holds two arrays of one name")
        about = json.loads(next(iter(columns.pop("about").blocks())).item())
        if odd := set(columns) ^ set(about.pop(LISTED, columns)):
            raise ValueError(f"what it holds is not what was written: {', '.join(sorted(odd))}")
        for name in ("keys", "classes"):
            if columns[name].dtype.kind != "U" or len(columns[name].shape) != 1:
                raise ValueError(f"{name} is not a list of text")
    except DAMAGE as error:
        raise _damaged(path, error) from None
    return about, columns


def checked(
    name: str, blocks: Iterable[np.ndarray], classes: Sequence[str], key_of: Callable[[int], str], where: str | Path
) -> Iterator[np.ndarray]:
    """The blocks of scores or labels; OddValue, naming `where`, for a value that is none."""
    row = 0
    for block in blocks:
        odd = ~np.isfinite(block) if block.dtype.kind == "f" else (block < -1) | (block > 1)
        if odd.any():
            at, label = np.argwhere(odd)[0]
            what = "finite" if block.dtype.kind == "f" else "1, -1 or 0"
            raise OddValue(f"{where}: a value of {name} is not {what}: {key_of(row + at)}, {classes[label]}", CURE)
        row += len(block)
        yield block


def in_blocks(rows: Iterable, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Rows gathered to blocks."""
    gathered: list = []
    for row in rows:
        gathered.append(row)
        if len(gathered) == ROWS:
            yield np.array(gathered, dtype)
            gathered = []
    if gathered:
        yield np.array(gathered, dtype)


def _header(file: BinaryIO) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape of an array in .npy form; ValueError for one that is not written here."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of another form")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise ValueError("an array of another form")
    return dtype, shape


def _blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            dtype, shape = _header(file)
            count = shape[0] if shape else 1
            for start in range(0, count, ROWS):
                block = (min(ROWS, count - start), *shape[1:])
                values = np.frombuffer(file.read(int(np.prod(block)) * dtype.itemsize), dtype)
                yield values.reshape(block if shape else ())
            if file.read(1):  # at its end it compares the checksum
                raise ValueError(f"{name} is longer than it says")
    except DAMAGE as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> SrnError:
    return SrnError(f"{path} is damaged or no predictions file: {error}", CURE)
