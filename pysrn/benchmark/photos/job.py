"""What a peer of `tools/predict.py FOLDER` is told: which photos, whose weights, how, and where to write the scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pysrn.recipes import Input


@dataclass(frozen=True)
class PhotoJob:
    """`weights`: a caffemodel; `onnx`: the same as an ONNX file, or "". `scores`: which outputs are written."""

    photos: str
    out: str
    weights: str
    onnx: str
    scores: tuple[str, ...]
    stored_size: int
    size: int
    mean: tuple[float, float, float]
    scale: float
    batch: int
    threads: int
    workers: int
    compiled: bool = False

    @classmethod
    def from_json(cls, text: str) -> PhotoJob:
        """The job that `to_json` wrote."""
        given = json.loads(text)
        return cls(**given | {name: tuple(given[name]) for name in ("scores", "mean")})

    def to_json(self) -> str:
        """For the command line of a process."""
        return json.dumps(asdict(self))

    @staticmethod
    def pixels_of(eaten: Input) -> dict:
        """What a job says of a net's input."""
        return {"stored_size": eaten.stored_size, "size": eaten.size, "mean": eaten.mean, "scale": eaten.scale}

    def files(self) -> list[Path]:
        """The photos, in the order of `tools/predict.py`."""
        return sorted(Path(self.photos).iterdir())

    def view(self, file: Path) -> np.ndarray:
        """A photo as the net eats it, float32 3 x S x S, with the OpenCV calls that ours makes, and no more."""
        image = cv2.resize(cv2.imread(str(file)), (self.stored_size,) * 2, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (self.size,) * 2, interpolation=cv2.INTER_LINEAR)
        view = np.ascontiguousarray(image.transpose(2, 0, 1)) - np.array(self.mean, np.float32).reshape(3, 1, 1)
        return view if self.scale == 1 else view * np.float32(self.scale)

    def write(self, batches: Iterator[Mapping[str, np.ndarray]]) -> None:
        """Scores of all batches and the files' names; what filled up the last batch is left out."""
        found = list(batches)
        names = [file.name for file in self.files()]
        scores = {name: np.concatenate([one[name] for one in found])[: len(names)] for name in self.scores}
        np.savez(self.out, keys=np.array(names), **scores)


def filled(images: np.ndarray, batch: int) -> np.ndarray:
    """A batch of a fixed size: the last one has zeros behind its images."""
    missing = batch - len(images)
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)]) if missing else images
