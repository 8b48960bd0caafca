"""Pairs made of a pair: its training images in two, so that recipes can be chosen without its test images; labels dealt
out anew, so that a net can learn nothing.

Records are copied as they are, with their keys. The same pair, fraction and seed give the same records.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pysrn.console import UsageError, message
from pysrn.data.pair.lmdb_file import RecordsHash, append, open_growing, open_whole, pair_paths
from pysrn.data.pair.manifest import read_manifest, write_manifest
from pysrn.data.pair.pair_reader import REBUILD, PairReader
from pysrn.data.pair.pair_writer import label_sums
from pysrn.whole_files import sync_folder

TRAIN, TEST = "train", "test"
_TOGETHER = 256  # records of a transaction: some megabytes


def cut_pair(source: Path, out: Path, fraction: float, seed: int = 0) -> dict[str, int]:
    """Divide the training images of a pair into training and, as its test split, validation images.

    Returns their numbers. What is there already, cut alike, is kept. UsageError where a part would be empty, or `out`
    holds something else; MissingError and SrnError as reading a pair raises them.
    """
    pair = PairReader(source, TRAIN)
    held_out = round(fraction * len(pair))
    if not 0 < held_out < len(pair):
        raise UsageError(f"{fraction:g} of {len(pair)} training images leaves one part empty", "give another fraction")
    chosen = np.zeros(len(pair), bool)
    chosen[np.random.default_rng(seed).permutation(len(pair))[:held_out]] = True
    about = {"of": _marks(source), "validation_fraction": fraction, "seed": seed}
    parts = {TRAIN: (TRAIN, np.flatnonzero(~chosen), None), TEST: (TRAIN, np.flatnonzero(chosen), None)}
    return _written(source, out, about, parts)


def shuffle_labels(source: Path, out: Path, seed: int = 0) -> dict[str, int]:
    """The pair with the label vectors of its training images dealt out anew; its test split stays. Likewise else."""
    count = len(PairReader(source, TRAIN))
    dealt = np.random.default_rng(seed).permutation(count)
    parts = {TRAIN: (TRAIN, np.arange(count), dealt), TEST: (TEST, np.arange(len(PairReader(source, TEST))), None)}
    return _written(source, out, {"of": _marks(source), "labels_shuffled": True, "seed": seed}, parts)


def _marks(source: Path) -> dict[str, dict]:
    """What tells a pair from any other: the hashes of its splits."""
    splits = read_manifest(source)["splits"]
    return {split: splits[split].get("sha256") for split in (TRAIN, TEST) if split in splits}


def _written(
    source: Path, out: Path, about: dict, parts: dict[str, tuple[str, np.ndarray, np.ndarray | None]]
) -> dict[str, int]:
    """Write split -> (split of the source, its records, whose labels they get: their own)."""

    def make(folder: Path) -> dict:
        manifest = read_manifest(source)
        splits = {split: _part(source, folder, split, manifest, *words) for split, words in parts.items()}
        return manifest | {"splits": splits}

    manifest = made_beside(out, {"cut": about}, make)
    counts = {split: manifest["splits"][split]["count"] for split in parts}
    message(f"{out}: {', '.join(f'{split} {count:,}' for split, count in counts.items())} images of {source}")
    return counts


def _part(
    source: Path, folder: Path, split: str, manifest: dict, origin: str, records: np.ndarray, dealt: np.ndarray | None
) -> dict:
    """Write a split; returns its manifest entry."""
    pair = PairReader(source, origin)
    labels = pair.all_labels()[records if dealt is None else dealt]
    known = _keys(pair_paths(source, origin)[0])
    keys = [known[index] for index in records]
    reads = keys, keys if dealt is None else [known[index] for index in dealt]
    paths = zip(pair_paths(source, origin), pair_paths(folder, split), reads, strict=True)
    hashes = [_copied(old, new, keys, read).hexdigest() for old, new, read in paths]
    entry = manifest["splits"][origin] | {"count": len(records), "skipped": 0}
    for name in ("published", "difference", "fingerprint", "sources"):
        entry.pop(name, None)
    entry["sha256"] = dict(zip(("images", "labels"), hashes, strict=True))
    return entry | label_sums(pair.classes, labels)


def made_beside(out: Path, about: dict, make: Callable[[Path], dict]) -> dict:
    """The manifest of the pair `out`: with `about` in it, as it is there, or as `make(folder)` writes it beside.

    Until all is written `out` is not there, and what ends it early leaves nothing: it could not go on from there.
    UsageError where `out` holds something else.
    """
    there = read_manifest(out) if out.is_dir() else None
    if there and about.items() <= there.items():
        return there
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} holds something else", "give another --out, or remove it yourself")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        manifest = make(partial) | about
        write_manifest(partial, manifest)
        if out.exists():
            out.rmdir()  # empty
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(out.parent)
    return manifest


def _keys(path: Path) -> list[bytes]:
    with open_whole(path, REBUILD).begin() as transaction:
        return list(transaction.cursor().iternext(values=False))


def _copied(old: Path, new: Path, keys: Sequence[bytes], read: Sequence[bytes]) -> RecordsHash:
    """Copy to `keys` what another database has under `read`; returns the hash of what was written."""
    source, target, digest = open_whole(old, REBUILD), open_growing(new), RecordsHash()
    try:
        for start in range(0, len(keys), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            with source.begin() as transaction:
                batch = [(key, transaction.get(other)) for key, other in zip(keys[part], read[part], strict=True)]
            for key, value in batch:
                digest.update(key, value)
            append(target, batch)
    finally:
        target.close()
    return digest
