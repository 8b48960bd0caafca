"""Writing the LMDB pair of a split (`lmdb_pair.py` says what that is): threads decode, one writer stores.

Stock Caffe `Data` layers read in key order, so the order is shuffled once, here: two layers that shuffle for
themselves get out of step.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pysrn.console import MissingError, SrnError, message, progress
from pysrn.data import datum
from pysrn.data.lmdb_file import append, create, pair_paths
from pysrn.data.manifest import file_hashes, read_manifest, replace_text, versions, write_manifest
from pysrn.data.pixels import BadImage, sample_pixels
from pysrn.data.records import Sample
from pysrn.recipes import IMAGE_SIZE

JPEG_QUALITY = 95  # assumed: no visible loss; a quarter of the bytes of raw pixels
SKIPPED_NAME = "skipped.csv"
_TRANSACTION = 256  # records
_IN_FLIGHT = 64  # images decoded ahead of the writer: bounds the memory


@dataclass(frozen=True)
class Encoding:
    """How images are stored: `name` is "jpeg" or "raw"."""

    name: str = "jpeg"
    quality: int = JPEG_QUALITY

    def record(self, image: np.ndarray) -> bytes:
        """Serialized Datum of a uint8 H x W x 3 BGR image."""
        if self.name == "raw":
            return datum.raw_image(image)
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return datum.encoded_image(jpeg.tobytes(), *image.shape[:2])


DEFAULT_ENCODING = Encoding()


def write_pair(
    samples: Sequence[Sample],
    folder: str | Path,
    split: str,
    classes: Sequence[str],
    seed: int,
    *,
    dataset: str,
    encoding: Encoding = DEFAULT_ENCODING,
    sources: Iterable[Path] = (),
    workers: int | None = None,
) -> int:
    """Write the pair of a split and enter it into the manifest; returns the number of records.

    Images that cannot be read are left out and listed in `skipped.csv`. Everything is written beside and
    renamed at the end; a pair that was there is replaced. `sources`: files whose hashes go into the manifest.
    `workers`: decoding threads (default: one a CPU); the bytes do not depend on them.
    Raises MissingError when there is no sample or none can be read, SrnError when the folder holds other
    classes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not samples:
        raise MissingError(f"the {split} split of {dataset} is empty")
    manifest = read_manifest(folder) or {"dataset": dataset, "classes": list(classes), "splits": {}}
    if (manifest.get("dataset"), manifest["classes"]) != (dataset, list(classes)):
        raise SrnError(f"{folder} holds another data set ({manifest.get('dataset')})", "choose another folder")
    paths = pair_paths(folder, split)
    partial = [path.with_name(f"{path.name}.partial") for path in paths]
    for path in partial:
        shutil.rmtree(path, ignore_errors=True)
    count, skipped = _write_records(samples, partial, split, seed, encoding, workers)
    if not count:
        raise MissingError(f"no image of the {split} split can be read; the first: {', '.join(skipped[0])}")

    if skipped:
        message(f"{split}: {len(skipped)} of {len(samples)} images cannot be used; {folder / SKIPPED_NAME} says why")
    # From here on the old pair is gone for readers, and the new one is there only with the last line.
    manifest["splits"].pop(split, None)
    write_manifest(folder, manifest)
    for old, new in zip(paths, partial, strict=True):
        shutil.rmtree(old, ignore_errors=True)
        os.replace(new, old)
    _write_skipped(folder / SKIPPED_NAME, split, skipped)
    manifest |= {"seed": seed, "image_size": IMAGE_SIZE, "versions": versions()}
    manifest["splits"][split] = {
        "count": count,
        "skipped": len(skipped),
        "encoding": encoding.name,
        **({"quality": encoding.quality} if encoding.name == "jpeg" else {}),
        "sources": file_hashes(sources),
    }
    write_manifest(folder, manifest)
    return count


def _write_records(samples, partial, split, seed, encoding, workers) -> tuple[int, list[tuple[str, str]]]:
    """Fill the two databases; returns the number of records and (file, reason) of what was left out."""
    order = np.random.RandomState([seed & 0xFFFFFFFF, *split.encode()]).permutation(len(samples))

    def image_record(number: int) -> bytes | BadImage:
        try:
            return encoding.record(sample_pixels(samples[number], IMAGE_SIZE))
        except BadImage as error:
            return error

    count, skipped, batch = 0, [], []
    environments = [create(path) for path in partial]

    def flush() -> None:
        for environment, column in zip(environments, (1, 2), strict=True):
            append(environment, [(row[0], row[column]) for row in batch])
        batch.clear()

    try:
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            records = _ordered(pool, image_record, order.tolist())
            records = progress(records, len(samples), f"writing {split} LMDB pair", "images")
            for position, (number, record) in enumerate(zip(order.tolist(), records, strict=True)):
                sample = samples[number]
                if isinstance(record, BadImage):
                    skipped.append((str(sample.path), str(record)))
                    continue
                key = f"{position:08d}_{sample.key_name}".encode()
                batch.append((key, record, datum.label_vector(sample.labels)))
                count += 1
                if len(batch) == _TRANSACTION:
                    flush()
        flush()
    finally:
        for environment in environments:
            environment.close()
    return count, skipped


def _ordered(pool: ThreadPoolExecutor, function: Callable, items: Iterable) -> Iterator:
    """Like `pool.map`, but never more than `_IN_FLIGHT` results ahead of the reader."""
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _write_skipped(path: Path, split: str, skipped: list[tuple[str, str]]) -> None:
    """Replace this split's rows in `skipped.csv`."""
    rows = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if row[0] not in ("split", split)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("split", "file", "reason"), *rows])
    csv.writer(text, lineterminator="\n").writerows((split, *row) for row in skipped)
    replace_text(path, text.getvalue())
