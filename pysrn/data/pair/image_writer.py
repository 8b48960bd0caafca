"""Filling the image database of a split: threads decode, one writer stores, and an interrupted build goes on.

The keys carry the position in the shuffled order, so the last key and the journal say how far a build came.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np

from pysrn.console import Progress, SrnError, message
from pysrn.data.in_threads import in_order
from pysrn.data.pair.build_journal import Journal
from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_file import RecordsHash, append, open_growing
from pysrn.data.pair.pixels import BadImage
from pysrn.data.readers.records import Sample

KEY_BYTES = 511  # lmdb.h: the default MDB_MAXKEYSIZE
TRANSACTION = 256  # records; so many are decoded again after a kill


def shuffled(count: int, split: str, seed: int) -> list[int]:
    """The numbers of a split's samples in the order in which they are stored."""
    return np.random.RandomState([seed & 0xFFFFFFFF, *split.encode()]).permutation(count).tolist()


def record_key(position: int, name: str) -> bytes:
    """The key of a record: always UTF-8, and shortened to what LMDB takes."""
    key = f"{position:08d}_{name}".encode("utf-8", "backslashreplace")
    if len(key) <= KEY_BYTES:
        return key
    mark = b"~" + hashlib.sha256(key).hexdigest()[:16].encode()
    return key[: KEY_BYTES - len(mark)].decode("utf-8", "ignore").encode() + mark


def write_images(
    samples: Sequence[Sample],
    order: Sequence[int],
    path: Path,
    journal: Journal,
    description: str,
    encoding: Encoding,
    workers: int,
) -> RecordsHash:
    """Fill the image database in the folder `path`, or go on with what is there; returns the hash of its records.

    `journal` gets what is left out. Raises SrnError or OSError when the database cannot be written; what is
    there then can be gone on with.
    """
    done, digest = _finished(path, journal, description)
    bar = Progress(len(samples), description, "images", initial=done)
    batch: list[tuple[bytes, bytes]] = []
    skipped: list[tuple[int, str, str]] = []

    def image_record(position: int) -> bytes | str:
        try:
            return encoding.record(samples[order[position]])
        except BadImage as error:
            return str(error)  # the error itself holds on to the file's content

    def flush() -> None:
        journal.skip(skipped)  # first: see the journal's promise
        append(environment, batch)
        skipped.clear()
        batch.clear()

    environment = open_growing(path)
    try:
        for position, record in enumerate(in_order(image_record, range(done, len(samples)), workers), done):
            sample = samples[order[position]]
            if isinstance(record, str):
                skipped.append((position, str(sample.path), record))
            else:
                key = record_key(position, sample.key_name)
                digest.update(key, record)
                batch.append((key, record))
            if len(batch) + len(skipped) == TRANSACTION:
                flush()
            bar.update()
        flush()
    finally:
        environment.close()
        bar.close()
    return digest


def _finished(path: Path, journal: Journal, description: str) -> tuple[int, RecordsHash]:
    """How many samples are through, and the hash of the records that are there; starts anew if they are damaged."""
    digest, records, done = RecordsHash(), 0, 0
    try:
        if path.exists():
            environment = open_growing(path)
            try:
                with environment.begin(buffers=True) as transaction:
                    for key, value in transaction.cursor():
                        digest.update(bytes(key), value)
                        done = int(bytes(key[:8])) + 1
                        records += 1
            finally:
                environment.close()
        while done in journal.skipped:
            done += 1
        if records + sum(position < done for position in journal.skipped) != done:
            raise SrnError("records are missing")
    except (SrnError, lmdb.Error, ValueError) as error:
        message(f"{description}: what an interrupted build left is damaged ({error}): starts anew")
        shutil.rmtree(path)
        journal.keep_before(0)
        return 0, RecordsHash()
    journal.keep_before(done)
    if done:
        message(f"{description}: goes on behind image {done:,}")
    return done, digest
