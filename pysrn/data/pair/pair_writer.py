"""Writing the LMDB pair of a split (`lmdb_pair.py` says what that is), so that it can be interrupted at any moment.

Stock Caffe `Data` layers read in key order, so the order is shuffled once, here: two layers that shuffle for
themselves get out of step. The images are stored first (`image_writer.py`), then the label vectors under the
same keys, then both take their place. `build_journal.py` says what an interrupted build goes on with.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, message
from pysrn.data.in_threads import thread_count
from pysrn.data.pair import datum
from pysrn.data.pair.build_journal import Journal, fingerprint
from pysrn.data.pair.encoding import DEFAULT_ENCODING, Encoding
from pysrn.data.pair.image_writer import shuffled, write_images
from pysrn.data.pair.lmdb_file import RecordsHash, append, open_growing, pair_paths
from pysrn.data.pair.manifest import file_hashes, read_manifest, versions, write_manifest
from pysrn.data.pair.skipped_images import SKIPPED_NAME, say_skipped, write_skipped
from pysrn.data.readers.records import NEGATIVE, UNSPECIFIED, Sample
from pysrn.recipes import DATASETS, EMBEDDED
from pysrn.whole_files import discard, sync_folder

_LABEL_TRANSACTION = 1 << 13  # records: a few megabytes


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
    left_out: Iterable[tuple[str, str]] = (),
    force: bool = False,
) -> int:
    """Write the pair of a split and enter it into the manifest; returns the number of records.

    Images that cannot be read are left out and listed in `skipped.csv`, behind the (file, reason) that the
    reader `left_out`. Everything is written beside and renamed at the end; a pair that was there is replaced.
    A build of the same records that was interrupted goes on. `sources`: files whose hashes go into the
    manifest. `workers`: decoding threads (default: one a CPU); the bytes do not depend on them. With `force` a
    folder that has other classes gets these, and the manifest forgets its other splits.
    Raises MissingError when there is no sample or none can be read, SrnError when the folder holds other
    classes or cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not samples:
        raise MissingError(f"the {split} split of {dataset} is empty")
    manifest = read_manifest(folder) or {"dataset": dataset, "classes": list(classes), "splits": {}}
    if manifest.get("dataset") != dataset:
        raise SrnError(f"{folder} holds another data set ({manifest.get('dataset')})", "choose another folder")
    if manifest["classes"] != list(classes):
        if not force:
            raise SrnError(f"{folder} holds {dataset} with other classes", "choose another folder")
        manifest |= {"classes": list(classes), "splits": {}}
    journal = _journal(folder, split, fingerprint(samples, split, classes, seed, dataset, encoding))
    if journal.entry is None:
        order = shuffled(len(samples), split, seed)
        images, labels = partial_paths(folder, split)
        how = f"writing {split} LMDB pair", encoding, thread_count(workers)
        hashes = {"images": write_images(samples, order, images, journal, *how)}
        if len(journal.skipped) == len(samples):
            discard_unfinished(folder, split)
            reason = ", ".join(journal.skipped[0])
            raise MissingError(f"no image of the {split} split can be read; the first: {reason}")
        hashes["labels"], values = _write_labels(samples, order, images, labels, encoding.labels_as)
        if encoding.labels_as == datum.ZERO_ONE and (unspecified := int((values == UNSPECIFIED).sum())):
            message(f"warning: {split}: {unspecified:,} unspecified labels are stored as no")
            values = np.where(values == UNSPECIFIED, NEGATIVE, values)
        entry = {
            "count": len(values),
            **_published(dataset, split, len(values)),
            "fingerprint": journal.fingerprint,
            **encoding.facts(),
            "sha256": {kind: found.hexdigest() for kind, found in hashes.items()},
            **label_sums(classes, values),
            "sources": file_hashes(sources),
        }
        journal.complete(entry)
    skipped = [*left_out, *journal.skipped.values()]
    say_skipped(split, skipped, folder / SKIPPED_NAME)
    _put_in_place(folder, split, skipped, manifest, seed, encoding.size, journal.entry)
    journal.path.unlink()
    return journal.entry["count"]


def partial_paths(folder: Path, split: str) -> tuple[Path, Path]:
    """The image and the label database of a split while they are being written."""
    images, labels = (path.with_name(f"{path.name}.partial") for path in pair_paths(folder, split))
    return images, labels


def label_sums(classes: Sequence[str], values: np.ndarray) -> dict[str, dict[str, int]]:
    """Of label vectors (N, C): how many are 1, by class, and how many 0, by class where there are any."""
    positives, unspecified = (values > 0).sum(0).tolist(), (values == 0).sum(0).tolist()
    return {
        "positives": dict(zip(classes, positives, strict=True)),
        "unspecified": {name: count for name, count in zip(classes, unspecified, strict=True) if count},
    }


def _journal(folder: Path, split: str, mark: str) -> Journal:
    """The journal of the build with this fingerprint; anything else that was begun is discarded."""
    journal = Journal(folder, split)
    if journal.fingerprint != mark:
        if journal.path.exists():
            message(f"{split}: what was begun has other settings, labels or versions: starts anew")
        discard_unfinished(folder, split)
        journal.begin(mark)
    return journal


def discard_unfinished(folder: Path, split: str) -> None:
    """Remove an unfinished build; the journal goes first, without which the rest counts for nothing."""
    discard(Journal(folder, split).path)
    for path in partial_paths(folder, split):
        shutil.rmtree(path, ignore_errors=True)


def _write_labels(
    samples: Sequence[Sample], order: Sequence[int], images: Path, labels: Path, labels_as: str
) -> tuple[RecordsHash, np.ndarray]:
    """Store the label vectors under the keys of the image database; returns their hash and all values (N, C).

    It takes seconds, so that it is done again from its beginning after an interruption.
    """
    environment = open_growing(images)
    try:
        with environment.begin() as transaction:
            keys = list(transaction.cursor().iternext(values=False))
    finally:
        environment.close()
    vectors = [samples[order[int(key[:8])]].labels for key in keys]
    digest = RecordsHash()
    shutil.rmtree(labels, ignore_errors=True)
    environment = open_growing(labels)
    try:
        for start in range(0, len(keys), _LABEL_TRANSACTION):
            part = slice(start, start + _LABEL_TRANSACTION)
            pairs = zip(keys[part], vectors[part], strict=True)
            batch = [(key, datum.label_vector(vector, labels_as)) for key, vector in pairs]
            for key, value in batch:
                digest.update(key, value)
            append(environment, batch)
    finally:
        environment.close()
    return digest, np.stack(vectors)


def _published(dataset: str, split: str, count: int) -> dict[str, int]:
    """What the paper counts in this split and the difference to it, for the manifest; says so on stderr."""
    spec = DATASETS.get(dataset)
    published = spec and {"train": spec.train_images, "test": spec.test_images}.get(split)
    if not published or dataset == EMBEDDED:  # ours: drawn in any number
        return {}
    if count == published:
        message(f"{split}: {count:,} images, as published")
    else:
        side = "more" if count > published else "fewer"
        message(f"{split}: {count:,} images, {abs(count - published):,} {side} than the published {published:,}")
    return {"published": published, "difference": count - published}


def _put_in_place(
    folder: Path, split: str, skipped: list[tuple[str, str]], manifest: dict, seed: int, size: int, entry: dict
) -> None:
    """Rename complete databases over the old ones; an interruption anywhere leaves what a second call finishes."""
    # From here on the old pair is gone for readers, and the new one is there only with the last line.
    manifest["splits"].pop(split, None)
    write_manifest(folder, manifest)
    for new, place in zip(partial_paths(folder, split), pair_paths(folder, split), strict=True):
        if new.exists():  # else an interrupted call has renamed it
            shutil.rmtree(place, ignore_errors=True)
            os.replace(new, place)
    sync_folder(folder)
    write_skipped(folder, split, skipped)
    manifest |= {"seed": seed, "image_size": size, "versions": versions()}
    manifest["splits"][split] = {**entry, "skipped": len(skipped)}
    write_manifest(folder, manifest)
