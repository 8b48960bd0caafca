"""Re-reading a finished LMDB pair: `tools/make_lmdb.py --verify`."""

from __future__ import annotations

import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import lmdb
import numpy as np

from pysrn.console import Progress, SrnError, UsageError, message
from pysrn.data.in_threads import in_order, thread_count
from pysrn.data.pair.lmdb_file import RecordsHash, open_whole, pair_paths
from pysrn.data.pair.manifest import NAME, read_manifest
from pysrn.data.pair.pair_reader import REBUILD, PairReader
from pysrn.data.pair.pair_writer import label_sums
from pysrn.data.readers.records import NEGATIVE, POSITIVE, UNSPECIFIED
from pysrn.data.readers.registry import SPLITS
from pysrn.processes import end_with_parent
from pysrn.recipes import STORED_SIZE

_KEY = re.compile(rb"(\d{8})_", re.DOTALL)
_SHOWN = 10  # faults


def verify_dataset(dataset: str, out: str | Path, workers: int | None = None) -> dict[str, int]:
    """`verify_here` in a process of its own: reading a database whose tree is damaged may end the process.

    Raises UsageError when `out` holds another data set.
    """
    held = (read_manifest(Path(out)) or {}).get("dataset", dataset)
    if held != dataset:
        raise UsageError(f"{out} holds the data set {held}, not {dataset}")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, end_with_parent, (os.getpid(),)) as pool:
        try:
            return pool.submit(verify_here, out, workers).result()
        except BrokenProcessPool:
            raise SrnError(f"{out} is damaged: LMDB cannot walk through one of its databases", REBUILD) from None


def verify_here(out: str | Path, workers: int | None = None) -> dict[str, int]:
    """Re-read all pairs in the folder `out`; returns the number of records of each split.

    Every fault is one line on stderr. Raises MissingError where a split is not there, SrnError where one is
    damaged, after all have been read.
    """
    verified, damaged = {}, []
    for split in SPLITS:
        reader = PairReader(out, split)
        manifest = read_manifest(reader.folder)
        try:
            faults = pair_faults(reader, manifest, thread_count(workers))
        except lmdb.Error as error:
            faults = [f"{reader.folder}: {split} cannot be read to its end: {error}"]
        for fault in faults[:_SHOWN]:
            message(fault)
        if len(faults) > _SHOWN:
            message(f"{split}: and {len(faults) - _SHOWN:,} more")
        if faults:
            damaged.append(f"{split} ({len(faults):,} faults)")
        verified[split] = len(reader)
    if damaged:
        raise SrnError(f"{out} is damaged: {', '.join(damaged)}", REBUILD)
    return verified


def pair_faults(reader: PairReader, manifest: dict, workers: int = 1) -> list[str]:
    """What is wrong with a pair, one line each: keys, pixels and labels of every record, sums and hashes.

    `manifest` is that of the folder; what an old one does not say is not checked, and a line on stderr says so.
    """
    entry, size = manifest["splits"][reader.split], manifest.get("image_size", STORED_SIZE)
    images, labels = pair_paths(reader.folder, reader.split)
    faults: list[str] = []
    if list(entry.get("positives", reader.classes)) != list(reader.classes):
        faults.append(f'{reader.folder / NAME}: the labels of {reader.split} have other names in "positives"')
    values: list[np.ndarray] = []
    bar = Progress(len(reader), f"verifying {reader.split}", "images")

    def record_faults(index: int) -> tuple[list[str], np.ndarray | None]:
        found, vector = [], None
        try:
            shape = reader.image(index).shape
            if shape != (size, size, 3):
                found.append(f"{images}: record {reader.keys[index]} is {shape}, not {(size, size, 3)}")
        except SrnError as error:
            found.append(str(error))
        try:
            vector = reader.labels(index)
            if not np.isin(vector, (POSITIVE, UNSPECIFIED, NEGATIVE)).all():
                found.append(f"{labels}: record {reader.keys[index]} has a label that is not 1, 0 or -1")
        except SrnError as error:
            found.append(str(error))
        return found, vector

    try:
        for found, vector in in_order(record_faults, range(len(reader)), workers):
            faults += found
            if vector is not None:
                values.append(vector)
            bar.update()
    finally:
        bar.close()
    faults += _key_faults(images)
    unchecked = [name for name in ("positives", "sha256") if name not in entry]
    if unchecked:
        message(f"{reader.split}: not checked, because its manifest.json does not have them: {', '.join(unchecked)}")
    if "positives" in entry and len(values) == len(reader):
        sums = label_sums(reader.classes, np.stack(values))
        for kind, found in sums.items():
            wrong = [name for name in reader.classes if found.get(name, 0) != entry.get(kind, {}).get(name, 0)]
            if wrong:
                faults.append(f"{labels}: {kind} of {', '.join(wrong[:5])} are not those of manifest.json")
    for kind, path in (("images", images), ("labels", labels)) if "sha256" in entry else ():
        digest = RecordsHash()
        with open_whole(path).begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                digest.update(bytes(key), value)
        if digest.hexdigest() != entry["sha256"].get(kind):
            faults.append(f"{path}: its records are not those that were written (SHA-256)")
    return faults


def _key_faults(path: Path) -> list[str]:
    faults, last = [], -1
    with open_whole(path).begin() as transaction:
        for key in transaction.cursor().iternext(values=False):
            found = _KEY.match(key)
            if found is None or int(found[1]) <= last:
                faults.append(f"{path}: key {key.decode(errors='replace')} does not start with its place in the order")
            else:
                last = int(found[1])
    return faults
