"""One LMDB pair of several that were built apart: each record once, whatever the parts are and their order.

A record's place comes from the hash of seed, split and name. So any division of the same records into parts ends in the
same bytes. Memory does not grow with the records: their places are kept in an LMDB, too, until the end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

import lmdb
import numpy as np

from pysrn.console import MissingError, Progress, SrnError, UsageError, message
from pysrn.data.cut import made_beside
from pysrn.data.pair.datum import SIGNED, Datum, label_values
from pysrn.data.pair.lmdb_file import RecordsHash, append, open_growing, open_whole, pair_paths
from pysrn.data.pair.manifest import read_manifest
from pysrn.data.pair.pair_reader import BUILD, KEY_NUMBER, REBUILD
from pysrn.data.pair.pair_writer import label_sums
from pysrn.data.pair.skipped_images import SKIPPED_NAME
from pysrn.recipes import STORED_SIZE

_TOGETHER = 256  # records of a transaction: some megabytes
_PLACES_TOGETHER = 1 << 13  # likewise of places: less than one
_PLACES = "places_"  # folders of databases, one a split, that are not part of the result
_ALIKE = ("encoding", "quality", "interpolation", "labels_as")  # of a split


def merge_pairs(dataset: str, parts: Sequence[Path], out: Path) -> dict[str, int]:
    """Merge the pairs in the folders `parts`; returns the number of records of each split.

    What is there already, merged alike, is kept. UsageError where parts are of other data sets, labels, sizes,
    encodings or seeds, where a record is in two of them, or `out` holds something else; MissingError and SrnError where
    a part is not there, or damaged. Whatever ends a merge, `out` is whole or not there.
    """
    if len(parts) < 2:
        raise UsageError("--merge needs two parts at least", "give all of them")
    manifests = [read_manifest(part) if part.is_dir() else None for part in parts]
    for part, manifest in zip(parts, manifests, strict=True):
        if manifest is None or not manifest["splits"]:
            raise MissingError(f"no LMDB pair in {part}", BUILD)
        _check_alike(dataset, parts[0], manifests[0], part, manifest)
    splits = list(dict.fromkeys(chain.from_iterable(manifest["splits"] for manifest in manifests)))
    # in no order: that of the parts changes nothing
    about = sorted(str({split: entry.get("sha256") for split, entry in one["splits"].items()}) for one in manifests)
    marks = [hashlib.sha256(mark.encode()).hexdigest() for mark in about]

    def make(folder: Path) -> dict:
        _join_skipped(parts, folder)
        own = {name: value for name, value in manifests[0].items() if name != "cut"}
        entries = {split: _merged(split, parts, manifests, folder) for split in splits}
        _say_shared_images(folder, splits, manifests[0].get("seed"))
        for split in splits:
            shutil.rmtree(folder / f"{_PLACES}{split}")
        return own | {"splits": entries}

    manifest = made_beside(out, {"merged": marks}, make)
    counts = {split: manifest["splits"][split]["count"] for split in splits}
    message(f"{out}: {', '.join(f'{split} {count:,}' for split, count in counts.items())} images of {len(parts)} pairs")
    return counts


def _check_alike(dataset: str, first: Path, expected: dict, part: Path, manifest: dict) -> None:
    def facts(of: dict) -> dict:
        entry = next(iter(of["splits"].values()))
        own = {name: entry.get(name) for name in _ALIKE} | {"labels_as": entry.get("labels_as", SIGNED)}
        return {"seed": of.get("seed"), "image size": of.get("image_size", STORED_SIZE), "labels": of["classes"], **own}

    if manifest.get("dataset") != dataset:
        raise UsageError(f"{part} holds {manifest.get('dataset')}, not {dataset}")
    ours, theirs = facts(manifest), facts(expected)
    if odd := [name for name in ours if ours[name] != theirs[name]]:
        how = ", ".join(f"{name} {_short(ours[name])}, not {_short(theirs[name])}" for name in odd)
        raise UsageError(f"{part} was built with other settings than {first}: {how}", "build all parts alike")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _merged(split: str, parts: Sequence[Path], manifests: Sequence[dict], folder: Path) -> dict:
    """Write a split; returns its manifest entry."""
    having = [number for number, manifest in enumerate(manifests) if split in manifest["splits"]]
    entries = [manifests[number]["splits"][split] for number in having]
    pairs = {number: [open_whole(path, REBUILD) for path in pair_paths(parts[number], split)] for number in having}
    places, seed = open_growing(folder / f"{_PLACES}{split}"), manifests[0].get("seed")
    classes, total = manifests[0]["classes"], sum(entry["count"] for entry in entries)
    try:
        for number, entry in zip(having, entries, strict=True):
            records = (
                (_place(seed, split, key), number.to_bytes(4, "big") + key)
                for key in _checked_keys(parts[number], split, pairs[number], entry)
            )
            while batch := list(islice(records, _PLACES_TOGETHER)):
                if twice := append(places, batch, anywhere=True):
                    name = twice[4 + KEY_NUMBER :].decode(errors="replace")
                    other = parts[int.from_bytes(twice[:4], "big")]
                    raise UsageError(f"{name} is in {split} of {other} and of {parts[number]}", "give each record once")
        hashes, sums = _copied(places, pairs, split, folder, classes, entries[0].get("labels_as", SIGNED), total)
    finally:
        places.close()
    entry = {name: value for name, value in entries[0].items() if name in _ALIKE}
    return {**entry, "count": total, "sha256": hashes, **sums, "skipped": sum(one.get("skipped", 0) for one in entries)}


def _place(seed: object, split: str, key: bytes) -> bytes:
    """Where a record lies among the others of its split: its name's hash."""
    return hashlib.sha256(f"{seed} {split} ".encode() + key[KEY_NUMBER:]).digest()


def _say_shared_images(folder: Path, splits: Sequence[str], seed: object) -> None:
    """A test image among the training images makes every result too good: say so, as a build does."""
    for number, split in enumerate(splits):
        for earlier in splits[:number]:
            with (
                open_whole(pair_paths(folder, split)[0], REBUILD) as images,
                open_growing(folder / f"{_PLACES}{earlier}") as places,
                images.begin() as records,
                places.begin() as known,
            ):
                keys = records.cursor().iternext(values=False)
                shared = (key for key in keys if known.get(_place(seed, earlier, key)))
                first = next(shared, None)
                count = 1 + sum(1 for _ in shared)
            if first:
                name = first[KEY_NUMBER:].decode(errors="replace")
                message(f"warning: {count} images are in both {earlier} and {split}, the first: {name}")


def _checked_keys(part: Path, split: str, pair: Sequence[lmdb.Environment], entry: dict) -> Iterator[bytes]:
    """The keys of a split; SrnError where it is not what its manifest says."""
    hashes, count = (RecordsHash(), RecordsHash()), 0
    try:
        with pair[0].begin(buffers=True) as images, pair[1].begin(buffers=True) as labels:
            for image, label in zip_longest(images.cursor(), labels.cursor()):
                if image is None or label is None or image[0] != label[0]:
                    raise SrnError(f"{part}: images and labels of {split} are out of step at record {count}", REBUILD)
                for digest, (key, value) in zip(hashes, (image, label), strict=True):
                    digest.update(bytes(key), value)
                count += 1
                yield bytes(image[0])
    except lmdb.Error as error:
        raise SrnError(f"{part}: {split} is damaged: {error}", REBUILD) from None
    found = {kind: digest.hexdigest() for kind, digest in zip(("images", "labels"), hashes, strict=True)}
    if count != entry["count"] or entry.get("sha256", found) != found:
        raise SrnError(f"{part}: {split} is damaged: its records are not those of its manifest.json", REBUILD)


def _copied(
    places: lmdb.Environment,
    pairs: dict[int, Sequence[lmdb.Environment]],
    split: str,
    folder: Path,
    classes: Sequence[str],
    labels_as: str,
    total: int,
) -> tuple[dict[str, str], dict]:
    """Copy the records in the order of their places; returns the hashes and label sums of what was written."""
    targets = [open_growing(path) for path in pair_paths(folder, split)]
    hashes = RecordsHash(), RecordsHash()
    sums: dict[str, dict[str, int]] = {}
    bar, position = Progress(total, f"merging {split}", "images"), 0
    try:
        with places.begin() as transaction:
            found = transaction.cursor().iternext(keys=False)
            while batch := list(islice(found, _TOGETHER)):
                keys = [b"%08d_" % number + one[4 + KEY_NUMBER :] for number, one in enumerate(batch, position)]
                for kind, (target, digest) in enumerate(zip(targets, hashes, strict=True)):
                    values = [_value(pairs[int.from_bytes(one[:4], "big")][kind], one[4:]) for one in batch]
                    for key, value in zip(keys, values, strict=True):
                        digest.update(key, value)
                    append(target, zip(keys, values, strict=True))
                # those of the labels, which came last
                vectors = np.stack([label_values(Datum.FromString(value), labels_as) for value in values])
                for name, counts in label_sums(classes, vectors).items():
                    known = sums.setdefault(name, {})
                    known |= {label: known.get(label, 0) + count for label, count in counts.items()}
                position += len(batch)
                bar.update(len(batch))
    finally:
        bar.close()
        for target in targets:
            target.close()
    return {kind: digest.hexdigest() for kind, digest in zip(("images", "labels"), hashes, strict=True)}, sums


def _value(environment: lmdb.Environment, key: bytes) -> bytes:
    with environment.begin() as transaction:
        return transaction.get(key)


def _join_skipped(parts: Sequence[Path], folder: Path) -> None:
    """The rows of all parts' skipped.csv."""
    with open(folder / SKIPPED_NAME, "w", encoding="utf-8", newline="") as joined:
        for path in (part / SKIPPED_NAME for part in parts):
            if path.is_file():
                with open(path, encoding="utf-8", errors="replace", newline="") as rows:
                    header = rows.readline()
                    joined.write(header if joined.tell() == 0 else "")
                    shutil.copyfileobj(rows, joined)
        joined.flush()
        os.fsync(joined.fileno())
