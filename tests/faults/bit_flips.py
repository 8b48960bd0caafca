"""What is tried with one bit turned over: each kind makes its files, and reads them as the tools do.

`read` returns all that is taken from the files. With a bit turned over it must refuse (SrnError, or a database that
ends the process that verifies it), or return the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import caffe
import numpy as np
import torch

from pysrn.console import SrnError
from pysrn.convert.torch_files import check_name, read_state_dict, write_named, write_state_dict
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.verify import verify_here
from pysrn.predict.predictions import load_predictions
from pysrn.train.fixed.feature_cache import FeatureCache
from pysrn.train.stage import snapshots
from tests.fuzz.seeds import pair_folder, predictions_folder
from tests.train.test_snapshots import NET, SOLVER, take

ABOUT = {"precision": "fp32", "feed": {"split": "train", "train": True}}
FEATURES = np.random.default_rng(0).normal(size=(5, 4, 3, 3)).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """`make` fills a folder; `read` gives what is read from it, as bytes."""

    make: Callable[[Path], object]
    read: Callable[[Path], bytes]


def _pairs(folder: Path) -> None:
    for split in ("train", "test"):
        pair_folder(folder, split)
    (folder / "source.png").unlink()


def _read_pairs(folder: Path) -> bytes:
    verify_here(folder, 1)
    digest = hashlib.sha256()
    for split in ("train", "test"):
        pair = PairReader(folder, split)
        digest.update(repr((pair.keys, pair.classes)).encode() + pair.all_labels().tobytes())
        for index in range(len(pair)):
            digest.update(pair.image(index).tobytes())
    return digest.digest()


def _snapshots(folder: Path) -> None:
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER.format(folder=folder))
    take(caffe.get_solver(str(folder / "solver.prototxt")), folder, steps=2)
    for path in folder.glob("*.prototxt"):
        path.unlink()


def _read_snapshot(folder: Path) -> bytes:
    """The newest; one that is passed over is named."""
    iteration, warnings = snapshots.newest_whole(folder)
    if warnings:
        raise SrnError(warnings[0])
    files = (snapshots.file_of(folder, iteration, suffix) for suffix in snapshots.SUFFIXES)
    return b"".join(path.read_bytes() for path in files) + repr(snapshots.read_schedule(folder, iteration)).encode()


def _cache(folder: Path) -> None:
    cache, out = FeatureCache.make(folder, ABOUT, FEATURES.shape[1:]), np.empty_like(FEATURES)
    cache.fetch(range(len(FEATURES)), out, lambda: FEATURES)


def _read_cache(folder: Path) -> bytes:
    """Rows that are damaged are made anew."""
    cache, out = FeatureCache(next(path.parent for path in folder.rglob("manifest.json"))), np.empty_like(FEATURES)
    cache.fetch(range(len(FEATURES)), out, lambda: FEATURES)
    return out.tobytes()


def _weights(suffix: str) -> Kind:
    values = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3)}

    def read(folder: Path) -> bytes:
        (path,) = folder.iterdir()
        check_name(path)
        return b"".join(name.encode() + value.numpy().tobytes() for name, value in read_state_dict(path).items())

    return Kind(lambda folder: write_named(folder / "w", suffix, lambda p: write_state_dict(values, suffix, p)), read)


def _read_predictions(folder: Path) -> bytes:
    found = load_predictions(folder / "predictions_test.npz")
    scores = b"".join(name.encode() + values.tobytes() for name, values in found.scores.items())
    return repr((found.keys, found.classes, dict(found.about))).encode() + found.labels.tobytes() + scores


KINDS = {
    "pair": Kind(_pairs, _read_pairs),
    "snapshots": Kind(_snapshots, _read_snapshot),
    "features": Kind(_cache, _read_cache),
    "safetensors": _weights(".safetensors"),
    "pth": _weights(".pth"),
    "predictions": Kind(predictions_folder, _read_predictions),
}
