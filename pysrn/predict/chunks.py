"""The scores of a long prediction in pieces on the disk, so that one that was killed goes on.

A hidden folder beside the result: `job.json` says what is computed, `chunk_000003.npz` holds the scores of a range of
images. Each file appears whole or not at all. Chunks of another job (other weights, data, scores) are thrown away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.locks import sole_worker
from pysrn.predict.predictions import DAMAGE
from pysrn.whole_files import write_json, written_beside

JOB = "job.json"


class ScoreChunks:
    """The chunks of one job.

    `job` is JSON with, among what identifies the work, `images` (their count), `classes` (their count), `chunk`
    (images in a chunk) and `scores` (names).
    """

    def __init__(self, folder: Path, job: Mapping) -> None:
        self.folder, self.job = folder, dict(job)
        self.count = -(-job["images"] // job["chunk"])

    @classmethod
    def of_folder(cls, folder: Path) -> ScoreChunks:
        """The chunks of a folder that another process has opened."""
        return cls(folder, json.loads((folder / JOB).read_text(encoding="utf-8")))

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, or go on in it; SrnError when another process is at work there."""
        with sole_worker(self.folder, "predicting in", "wait for it, or give --out"):
            if not self._is_of_this_job():
                for path in self.folder.glob("*chunk_*"):
                    path.unlink()
                write_json(self.folder / JOB, self.job)
            yield

    def images(self, number: int) -> range:
        """The images of a chunk."""
        start = number * self.job["chunk"]
        return range(start, min(start + self.job["chunk"], self.job["images"]))

    def missing(self) -> list[int]:
        """Numbers of the chunks that are still to be computed; what is damaged counts as missing."""
        return [number for number in range(self.count) if self._read(number) is None]

    def write(self, number: int, scores: Mapping[str, np.ndarray]) -> None:
        """Keep the scores of a chunk."""
        with written_beside(self._path(number)) as partial, open(partial, "wb") as file:
            np.savez(file, **scores)

    def column(self, name: str) -> Iterator[np.ndarray]:
        """All values of a score, chunk by chunk; SrnError when a chunk is missing."""
        for number in range(self.count):
            part = self._read(number, [name])
            if part is None:
                raise SrnError(f"{self._path(number)} is gone or damaged", "run the same command again")
            yield part[name]

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk_{number:06d}.npz"

    def _is_of_this_job(self) -> bool:
        try:
            return json.loads((self.folder / JOB).read_text(encoding="utf-8")) == self.job
        except (OSError, ValueError):
            return False

    def _read(self, number: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray] | None:
        wanted = (len(self.images(number)), self.job["classes"])
        try:
            with np.load(self._path(number), allow_pickle=False) as archive:
                found = {name: archive[name] for name in names or self.job["scores"]}
        except DAMAGE:
            return None
        return found if all(values.shape == wanted for values in found.values()) else None
