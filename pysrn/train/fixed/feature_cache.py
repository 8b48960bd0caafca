"""Trunk features on the disk: what stages 2 and 3 (and prediction) need of an image, computed once.

A cache is a folder: `features.bin`, a row of X for each (record, view), `checksums.bin`, eight bytes a row (0: not
there), and `manifest.json`, which says what the rows are of. Its name ends in the fingerprint of that, so another
trunk, data set, view rule, seed, precision, engine or device is another cache. A row counts once its checksum is
written, behind the row itself, so that a killed process leaves whole rows or none; a damaged one is found when it is
read. Of the data it knows what their manifest says, not each image.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from pysrn.console import SrnError
from pysrn.data.feed.settings import FeedSettings
from pysrn.data.pair.manifest import read_manifest
from pysrn.disk_errors import cure_of
from pysrn.locks import held
from pysrn.nets.folding import Weights
from pysrn.nets.in_caffe import engine_in_use, kind_of_device
from pysrn.nets.layers import parameter_layers
from pysrn.nets.messages import copy_of
from pysrn.nets.surgery import fingerprint
from pysrn.whole_files import write_json

# Raised when views, folding, the engine's rounding or the files below change, so that no older row is taken for a newer
# one. 2: oneDNN's convolutions sum in parts. 3: strides move up. 4: exponentials by vectors, poolings in bf16.
# 5: Winograd.
FORMAT = 5
PRECISIONS = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}
MANIFEST, FEATURES, CHECKSUMS = "manifest.json", "features.bin", "checksums.bin"
LOCK = "lock"  # held while the three are made
DIGITS = 16  # of the fingerprint in a folder's name
THERE = 1 << 32  # a checksum is a CRC-32 with this bit, so that none is 0
CHECKSUM = np.dtype("<u8")
READABLE = "get the right to read it, or give another --cache-folder"
STAGE_1_ANEW = "train stage 1 anew (--restart), with a lower --base-lr"
WHOLE, MISSING, DAMAGED = "whole", "missing", "damaged"
LARGER_DISK = (
    "give --cache-folder on a larger disk, fewer --views or fp16, delete caches of earlier weights, or leave "
    "--cache-features out"
)
# What of a feed decides which features its samples have; the order too, because row n is sample n.
_OF_FEED = (
    "split", "seed", "crop_size", "image_size", "scale_ratios", "max_distort", "mirror", "mean", "train", "records",
    "places", "scale",
)  # fmt: skip


def identity(trunk, weights: Weights, feed: FeedSettings, precision: str, on_gpu: bool = False) -> dict:
    """What the rows of a cache are of, as JSON values; `trunk` is the net (a NetParameter) that makes X.

    The engine and the device round in their own ways, OpenCV decodes the images. Raises as `engine_in_use`.
    """
    plain = copy_of(trunk)
    plain.ClearField("name")
    plain.layer[0].ClearField("input_param")  # its batch
    manifest = read_manifest(Path(feed.folder)) or {}
    data = {"seed": manifest.get("seed"), "split": manifest.get("splits", {}).get(feed.split)}
    settings = feed.to_values()
    return {
        "format": FORMAT,
        "computed_by": {"engine": engine_in_use(), "device": kind_of_device(on_gpu), "opencv": cv2.__version__},
        "net": hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest(),
        "weights": weights_fingerprint(trunk, weights),
        "data": hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(),
        "feed": json.loads(json.dumps({name: settings[name] for name in _OF_FEED if name in settings})),
        "precision": precision,
    }


def weights_fingerprint(trunk, weights: Weights) -> str:
    """Of those weights that the net `trunk` has."""
    return fingerprint(blob for name in parameter_layers(trunk) for blob in weights[name])


def folder_of(parent: Path, about: dict) -> Path:
    """Where below `parent` the cache of this identity lies."""
    print_ = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    kind = about["feed"]["split"] if about["feed"]["train"] else f"{about['feed']['split']}_whole"
    return parent / f"{kind}_{about['precision']}_{print_[:DIGITS]}"


class FeatureCache:
    """The rows of one cache; several processes may use it at once: they would write the same."""

    def __init__(self, folder: Path) -> None:
        """Open a cache that is there; SrnError when it cannot be read, or its manifest is damaged or not its own.

        Where it may not be written, what it has is read and nothing is kept.
        """
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            about, self.shape = manifest["identity"], tuple(manifest["shape"])
            own = folder_of(folder.parent, about) == folder
            self._kind = PRECISIONS[about["precision"]]
            self._bytes = math.prod(self.shape) * self._kind.itemsize
            self._row = np.empty(self.shape, self._kind)
        except OSError as error:
            raise SrnError(f"{folder / MANIFEST} cannot be read: {error.strerror}", READABLE) from None
        except (ValueError, KeyError, TypeError):
            own = False
        if not own:
            raise _damaged(folder)
        self._writable = all(os.access(folder / name, os.W_OK) for name in (FEATURES, CHECKSUMS))
        # Positions are always given: ranks share the files. Not mapped: a file that is cut off meanwhile would kill.
        try:
            self._features, self._checksums = (
                open(folder / name, "r+b" if self._writable else "rb", buffering=0)  # noqa: SIM115 - kept open
                for name in (FEATURES, CHECKSUMS)
            )
        except OSError as error:
            raise SrnError(f"{error.filename} cannot be read: {error.strerror}", READABLE) from None

    @classmethod
    def make(cls, parent: Path, about: dict, shape: tuple[int, ...]) -> FeatureCache:
        """The cache of an identity below `parent`, which is made where it or one of its files is missing.

        SrnError where it cannot be made, or as opening it raises.
        """
        folder = folder_of(parent, about)
        try:
            if not _is_whole(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with held(folder / LOCK):  # two runs may begin at once
                    if not _is_whole(folder):
                        for name in (FEATURES, CHECKSUMS):  # one without the others says nothing
                            (folder / name).write_bytes(b"")
                        write_json(folder / MANIFEST, {"identity": about, "shape": list(shape)})
        except OSError as error:
            raise SrnError(f"{error.filename or folder} cannot be written: {error.strerror}", _cure(error)) from None
        cache = cls(folder)
        if cache.shape != tuple(shape):
            raise _damaged(folder)
        return cache

    def reserve(self, rows: int) -> None:
        """Make room on the disk for so many rows; SrnError when there is not enough."""
        if not self._writable:
            return
        for file, size in ((self._checksums, rows * CHECKSUM.itemsize), (self._features, rows * self._bytes)):
            try:
                if os.fstat(file.fileno()).st_size < size:
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                need = size_text(rows * (CHECKSUM.itemsize + self._bytes))
                what = f"{self.folder} cannot have the {need} that the features need: {error.strerror}"
                raise SrnError(what, _cure(error)) from None

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
        try:
            known = os.pread(self._checksums.fileno(), CHECKSUM.itemsize, row * CHECKSUM.itemsize)
            if len(known) < CHECKSUM.itemsize or known == bytes(CHECKSUM.itemsize):
                return MISSING
            target = out if out.dtype == self._kind and out.flags.c_contiguous else self._row
            done = os.preadv(self._features.fileno(), [target], row * self._bytes)
        except OSError as error:
            raise SrnError(f"{self.folder}, row {row}, cannot be read: {error.strerror}", READABLE) from None
        if done < self._bytes or known != _checksum(target, row):
            return DAMAGED
        if target is not out:
            out[...] = target
        return WHOLE

    def _write(self, row: int, values: np.ndarray) -> np.ndarray:
        """Keep a row; returns it as it will be read. SrnError where precision or disk cannot hold it."""
        if not np.isfinite(values).all():
            raise SrnError(f"{self.folder}: the trunk's features are not finite", STAGE_1_ANEW)
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(values, self._kind)
        if not np.isfinite(stored).all():
            raise SrnError(
                f"{self.folder}: features of up to {np.abs(values).max():g} cannot be kept as {self._kind.name}",
                "take --cache-features fp32",
            )
        if not self._writable:
            return stored
        for file, place, content in (
            (self._features, row * self._bytes, stored.tobytes()),
            (self._checksums, row * CHECKSUM.itemsize, _checksum(stored, row)),
        ):
            try:
                if os.pwrite(file.fileno(), content, place) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise SrnError(f"{file.name} cannot be written: {error.strerror}", _cure(error)) from None
        return stored


def _cure(error: OSError) -> str:
    return cure_of(error, LARGER_DISK, "another --cache-folder")


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (MANIFEST, FEATURES, CHECKSUMS))


def _damaged(folder: Path) -> SrnError:
    return SrnError(
        f"{folder / MANIFEST} is damaged or of another cache of features",
        f"delete the folder {folder}: its features are computed anew",
    )


def _checksum(values: np.ndarray, row: int) -> bytes:
    """Of a row's values and its number: one that was moved is damaged, too."""
    return np.array(THERE | zlib.crc32(values, row & 0xFFFFFFFF), CHECKSUM).tobytes()


def row_bytes(shape: Iterable[int], precision: str) -> int:
    """Bytes of a row of this shape."""
    return math.prod(shape) * PRECISIONS[precision].itemsize


def size_text(size: float) -> str:
    """A size in KiB, MiB or GiB."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 2**10:.0f} KiB"
