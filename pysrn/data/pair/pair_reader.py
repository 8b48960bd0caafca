"""Reading an LMDB pair: images, labels, and the check that both belong together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

import cv2
import lmdb
import numpy as np
from google.protobuf.message import DecodeError

from pysrn.console import MissingError, SrnError, existing_folder
from pysrn.data.pair.datum import SIGNED, Datum, label_values
from pysrn.data.pair.lmdb_file import open_whole, pair_paths
from pysrn.data.pair.manifest import NAME, read_manifest
from pysrn.data.pair.pixels import BadImage, decode_bytes
from pysrn.data.pair.sparse_keys import DecodedKeys, SparseKeys
from pysrn.recipes import STORED_SIZE

BUILD = "tools/make_lmdb.py builds it"
ELSEWHERE = f"--data FOLDER, or {BUILD}"  # for a run whose data may have moved
REBUILD = "build it again: tools/make_lmdb.py ... --force"

KEY_NUMBER = 9  # a sample key is `%08d_<name>`: so many characters before the name


class PairReader:
    """Random access to the samples of a split, in key order; or to a run of them: those alone take memory.

    `span`: from the number of records in the split to the run; sample 0 is its first, record `span.start` of `total`.
    `sparse`: for going through very many in order, memory is next to none.
    Raises MissingError when the folder, its manifest, the split or a database is missing, SrnError when a
    database is truncated or the two do not pair up.
    """

    def __init__(
        self, folder: str | Path, split: str, span: Callable[[int], range] | None = None, sparse: bool = False
    ) -> None:
        self.folder = existing_folder(folder, "LMDB folder", BUILD)
        self.split = split
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise MissingError(f"no LMDB pair in {self.folder}: no {NAME}", BUILD)
        if split not in manifest["splits"]:
            have = ", ".join(manifest["splits"]) or "none"
            raise MissingError(f"no split {split!r} in {self.folder} (there: {have})", BUILD)
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self.image_size: int = manifest.get("image_size", STORED_SIZE)  # pixels of a stored image's side
        self._images, self._labels = (open_whole(path, REBUILD) for path in pair_paths(self.folder, split))
        self._labels_as = manifest["splits"][split].get("labels_as", SIGNED)
        found, label_vectors = (environment.stat()["entries"] for environment in (self._images, self._labels))
        if found != label_vectors:
            raise SrnError(f"{self.folder}: {split} has {found} images but {label_vectors} label vectors", REBUILD)
        self.total = manifest["splits"][split].get("count")
        if found != self.total:
            raise SrnError(f"{self.folder}: {split} holds {found} records, its {NAME} says {self.total}", REBUILD)
        self.span, self.is_part = (span or range)(self.total), span is not None
        self._keys = SparseKeys(self._images, self._paired_keys()) if sparse else list(self._paired_keys())
        if len(self._keys) != len(self.span):
            raise SrnError(f"{self.folder}: {len(self._keys)} records of {split} are there, not {self.span}", REBUILD)
        self.keys: Sequence[str] = DecodedKeys(self._keys) if sparse else list(DecodedKeys(self._keys))

    def __len__(self) -> int:
        return len(self._keys)

    def image(self, index: int) -> np.ndarray:
        """Pixels of a sample: uint8 H x W x 3 BGR. Raises SrnError for a broken record."""
        record = self._datum(self._images, "image", index)
        try:
            return _pixels(record)
        except BadImage as error:
            raise self._broken("image", index, error) from None

    def labels(self, index: int) -> np.ndarray:
        """Label vector of a sample (1, -1, 0), however it is stored: float32 of shape (C,)."""
        values = label_values(self._datum(self._labels, "label", index), self._labels_as)
        if len(values) != len(self.classes):
            raise self._broken("label", index, f"{len(values)} labels instead of {len(self.classes)}")
        return values

    def all_labels(self) -> np.ndarray:
        """Labels of all samples: float32 of shape (N, C)."""
        return np.stack([self.labels(index) for index in range(len(self))])

    def _paired_keys(self) -> Iterator[bytes]:
        """The keys of the span; SrnError where images and labels have not the same."""
        both = zip_longest(*(_keys(environment, self.span) for environment in (self._images, self._labels)))
        for number, (key, other) in enumerate(both, self.span.start):
            if key != other:
                there = " and ".join("none" if one is None else one.decode(errors="replace") for one in (key, other))
                raise SrnError(
                    f"{self.folder}: images and labels of {self.split} are out of step: record {number} is {there}",
                    REBUILD,
                )
            yield key

    def _datum(self, environment: lmdb.Environment, kind: str, index: int):
        try:
            with environment.begin(buffers=True) as transaction:
                return Datum.FromString(transaction.get(self._keys[index]))
        except (DecodeError, lmdb.Error) as error:
            raise self._broken(kind, index, error) from None

    def _broken(self, kind: str, index: int, reason: object) -> SrnError:
        path = pair_paths(self.folder, self.split)[kind == "label"]
        return SrnError(f"{path}: broken record {self.keys[index]}: {reason}", REBUILD)


def _pixels(record) -> np.ndarray:
    """The image of a Datum. Raises BadImage."""
    if record.encoded:
        return decode_bytes(record.data)
    shape = (record.channels, record.height, record.width)
    if record.channels != 3 or not record.data or len(record.data) != math.prod(shape):
        raise BadImage(f"{len(record.data)} bytes are not an image of {' x '.join(map(str, shape))}")
    return cv2.merge(list(np.frombuffer(record.data, np.uint8).reshape(shape)))


def _keys(environment: lmdb.Environment, span: range) -> Iterator[bytes]:
    """The keys of a run of records; those before it are not read where each number of a key is its record's."""
    try:
        with environment.begin() as transaction:
            cursor, first = transaction.cursor(), b"%08d" % span.start
            last = b"%08d" % (environment.stat()["entries"] - 1)
            if span.start and cursor.last() and cursor.key().startswith(last) and cursor.set_range(first):
                yield from islice(cursor.iternext(values=False), len(span))
                return
            cursor.first()
            yield from islice(cursor.iternext(values=False), span.start, span.stop)
    except lmdb.Error as error:
        raise SrnError(f"{environment.path()} is damaged: {error}", REBUILD) from None
