"""Trunk features on the disk: what stages 2 and 3 (and prediction) need of an image, computed once.

A cache is a folder: `features.bin`, a row of X for each (record, view), `checksums.bin`, eight bytes a row (0: not
there), and `manifest.json`, which says what the rows are of. Its name ends in the fingerprint of that, so another
trunk, data set, view rule, seed or precision is another cache. A row counts once its checksum is written, behind the
row itself, so that a killed process leaves whole rows or none; a damaged one is found when it is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.data.batches import FeedSettings
from pysrn.data.manifest import read_manifest
from pysrn.nets.stages import parameter_layers
from pysrn.train.run_folder import write_json
from pysrn.train.surgery import Weights, fingerprint

PRECISIONS = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}
MANIFEST, FEATURES, CHECKSUMS = "manifest.json", "features.bin", "checksums.bin"
DIGITS = 16  # of the fingerprint in a folder's name
THERE = 1 << 32  # a checksum is a CRC-32 with this bit, so that none is 0
CHECKSUM = np.dtype("<u8")
WHOLE, MISSING, DAMAGED = "whole", "missing", "damaged"
LARGER_DISK = "give --cache-folder on a larger disk, fewer --views or fp16, or leave --cache-features out"
# What of a feed decides which features its samples have; the order too, because row n is sample n.
_OF_FEED = (
    "split", "seed", "crop_size", "image_size", "scale_ratios", "max_distort", "mirror", "mean", "train", "records"
)  # fmt: skip


def identity(trunk, weights: Weights, feed: FeedSettings, precision: str) -> dict:
    """What the rows of a cache are of, as JSON values; `trunk` is the net (a NetParameter) that makes X."""
    layers = parameter_layers(trunk)
    plain = type(trunk)()
    plain.CopyFrom(trunk)
    plain.ClearField("name")
    plain.layer[0].ClearField("input_param")  # its batch
    manifest = read_manifest(Path(feed.folder)) or {}
    data = {"seed": manifest.get("seed"), "split": manifest.get("splits", {}).get(feed.split)}
    settings = asdict(feed)
    return {
        "net": hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest(),
        "weights": fingerprint(blob for name in layers for blob in weights[name]),
        "data": hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(),
        "feed": json.loads(json.dumps({name: settings[name] for name in _OF_FEED})),
        "precision": precision,
    }


def folder_of(parent: Path, about: dict) -> Path:
    """Where below `parent` the cache of this identity lies."""
    print_ = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    kind = about["feed"]["split"] if about["feed"]["train"] else f"{about['feed']['split']}_whole"
    return parent / f"{kind}_{about['precision']}_{print_[:DIGITS]}"


class FeatureCache:
    """The rows of one cache; several processes may use it at once: they would write the same."""

    def __init__(self, folder: Path) -> None:
        """Open a cache that is there; SrnError when its manifest is damaged or not its own."""
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            about, self.shape = manifest["identity"], tuple(manifest["shape"])
            own = folder_of(folder.parent, about) == folder
            self._kind = PRECISIONS[about["precision"]]
        except (OSError, ValueError, KeyError, TypeError):
            own = False
        if not own:
            raise SrnError(
                f"{folder / MANIFEST} is damaged or of another cache of features",
                f"delete the folder {folder}: its features are computed anew",
            )
        self._bytes = math.prod(self.shape) * self._kind.itemsize
        self._row = np.empty(self.shape, self._kind)
        # Positions are always given: ranks share the files. Not mapped: a file that is cut off meanwhile would kill.
        self._features, self._checksums = (
            open(folder / name, "r+b", buffering=0)  # noqa: SIM115 - as long as this object lives
            for name in (FEATURES, CHECKSUMS)
        )

    @classmethod
    def make(cls, parent: Path, about: dict, shape: tuple[int, ...]) -> FeatureCache:
        """The cache of an identity below `parent`, which is made where it or one of its files is missing."""
        folder = folder_of(parent, about)
        if not all((folder / name).is_file() for name in (MANIFEST, FEATURES, CHECKSUMS)):
            folder.mkdir(parents=True, exist_ok=True)
            for name in (FEATURES, CHECKSUMS):  # one without the others says nothing
                (folder / name).write_bytes(b"")
            write_json(folder / MANIFEST, {"identity": about, "shape": list(shape)})
        return cls(folder)

    def reserve(self, rows: int) -> None:
        """Make room on the disk for so many rows; SrnError when there is not enough."""
        for file, size in ((self._checksums, rows * CHECKSUM.itemsize), (self._features, rows * self._bytes)):
            try:
                if os.fstat(file.fileno()).st_size < size:
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                what = f"{file.name} cannot have the {size_text(size)} that the features need: {error.strerror}"
                raise SrnError(what, LARGER_DISK) from None

    def fetch(self, rows: Sequence[int], out: np.ndarray, compute: Callable[[], np.ndarray]) -> list[int]:
        """Copy rows into `out` (float32, as many); where some are not there, `compute` has to make all of them.

        What was computed is kept. Returns the rows that were damaged, and are not any more.
        """
        states = [self._read(row, out[i]) for i, row in enumerate(rows)]
        if states.count(WHOLE) < len(rows):
            made = compute()
            for i, row in enumerate(rows):
                if states[i] != WHOLE:
                    out[i] = self._write(row, made[i])
        return [row for row, state in zip(rows, states, strict=True) if state == DAMAGED]

    def count(self) -> int:
        """How many rows are there."""
        content = np.fromfile(self._checksums.name, np.uint8)
        return int(np.count_nonzero(content[: len(content) // CHECKSUM.itemsize * CHECKSUM.itemsize].view(CHECKSUM)))

    def _read(self, row: int, out: np.ndarray) -> str:
        """Copy a row that is there; says whether it is WHOLE, MISSING or DAMAGED."""
        known = os.pread(self._checksums.fileno(), CHECKSUM.itemsize, row * CHECKSUM.itemsize)
        if len(known) < CHECKSUM.itemsize or known == bytes(CHECKSUM.itemsize):
            return MISSING
        target = out if out.dtype == self._kind and out.flags.c_contiguous else self._row
        done = os.preadv(self._features.fileno(), [target], row * self._bytes)
        if done < self._bytes or known != _checksum(target):
            return DAMAGED
        if target is not out:
            out[...] = target
        return WHOLE

    def _write(self, row: int, values: np.ndarray) -> np.ndarray:
        """Keep a row; returns it as it will be read. SrnError where the precision cannot hold it."""
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(values, self._kind)
        if not np.isfinite(stored).all():
            raise SrnError(
                f"{self.folder}: features of up to {np.abs(values).max():g} cannot be kept as {self._kind.name}",
                "take --cache-features fp32",
            )
        for file, place, content in (
            (self._features, row * self._bytes, stored.tobytes()),
            (self._checksums, row * CHECKSUM.itemsize, _checksum(stored)),
        ):
            if os.pwrite(file.fileno(), content, place) < len(content):
                raise SrnError(f"{file.name} cannot be written: the disk is full", LARGER_DISK)
        return stored


def _checksum(row: np.ndarray) -> bytes:
    return np.array(THERE | zlib.crc32(row), CHECKSUM).tobytes()


def row_bytes(shape: Iterable[int], precision: str) -> int:
    """Bytes of a row of this shape."""
    return math.prod(shape) * PRECISIONS[precision].itemsize


def size_text(size: float) -> str:
    """A size in KiB, MiB or GiB."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 2**10:.0f} KiB"
