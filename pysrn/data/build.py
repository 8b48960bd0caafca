"""From a data set on disk (`shapes`: from nothing) to its LMDB pairs: the work of `tools/make_lmdb.py`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pysrn.console import UsageError, existing_folder, message
from pysrn.data.lmdb_pair import Encoding, PairReader, pair_paths, write_pair
from pysrn.data.manifest import NAME, read_manifest
from pysrn.data.pair_writer import DEFAULT_ENCODING
from pysrn.data.readers import AVAILABLE, NO_OPTIONS, SPLITS, ReaderOptions, read_splits
from pysrn.data.shapes import write_shapes
from pysrn.recipes import DATASETS

DRAWING = "drawing.partial"  # pictures that are being drawn


def build_dataset(
    dataset: str,
    out: str | Path,
    root: str | Path | None = None,
    *,
    seed: int = 0,
    encoding: Encoding = DEFAULT_ENCODING,
    counts: Mapping[str, int] | None = None,
    workers: int | None = None,
    force: bool = False,
    options: ReaderOptions = NO_OPTIONS,
) -> dict[str, int]:
    """Build the LMDB pairs of a data set in the folder `out`; returns the number of records of each split.

    `root` is where the data set lies (not for `shapes`, which is drawn into `out` first); `counts` gives the
    images of each split of `shapes` (default: the recipe's). What is there is replaced only with `force`, and
    a split only when its successor is complete.
    Raises UsageError for an unknown data set or an `out` that holds one, MissingError when there is none in
    `root`.
    """
    if dataset not in AVAILABLE:
        raise UsageError(f"no reader for data set {dataset!r}; there are: {', '.join(AVAILABLE)}")
    if (dataset == "shapes") != (root is None):
        raise UsageError("shapes is drawn, it has no --root" if root else f"--root: where does {dataset} lie?")
    out = Path(out)
    products = [out / NAME, *(path for split in SPLITS for path in pair_paths(out, split))]
    if not force and any(path.exists() for path in products):
        raise UsageError(f"{out} already holds a data set", "give --force to replace it, or another --out")
    if dataset == "shapes":
        _draw_shapes(out, counts or shapes_counts(), seed, workers)
        root = out
    annotated = read_splits(dataset, existing_folder(root, f"folder of {dataset}"), options)
    written = {}  # all splits are read before anything is written
    for split, part in annotated.items():
        written[split] = write_pair(
            part.samples,
            out,
            split,
            part.classes,
            seed,
            dataset=dataset,
            encoding=encoding,
            sources=part.sources,
            workers=workers,
        )
    return written


def unfinished_shapes(out: str | Path) -> bool:
    """Whether `out` is not there, is empty, or holds what an interrupted drawing of `shapes` left; else hands off."""
    out = Path(out)
    if not out.is_dir():
        return not out.exists()
    manifest = read_manifest(out)
    if manifest is None:
        left = {
            "annotations",
            "images",
            DRAWING,
            f"{NAME}.partial",
            *(f"{path.name}.partial" for path in pair_paths(out, SPLITS[0])),
        }
        return {path.name for path in out.iterdir()} <= left
    return manifest.get("dataset") == "shapes" and not set(SPLITS) <= set(manifest["splits"])


def shapes_counts() -> dict[str, int]:
    """Images of each split of `shapes`, from the recipe."""
    spec = DATASETS["shapes"]
    return {"train": spec.train_images, "test": spec.test_images}


def verify_dataset(out: str | Path) -> dict[str, int]:
    """Re-read the pairs in `out`: keys pair up, images decode, label vectors fit; returns the counts.

    Raises as PairReader and its methods do.
    """
    verified = {}
    for split in SPLITS:
        reader = PairReader(out, split)
        for index in range(len(reader)):
            reader.image(index)
        positives = (reader.all_labels() > 0).sum(0)
        message(f"{split}: {len(reader)} records, {int(positives.sum())} positive labels")
        verified[split] = len(reader)
    return verified


def _draw_shapes(out: Path, counts: Mapping[str, int], seed: int, workers: int | None) -> None:
    """Draw beside, then rename, so that a half-drawn set is never taken for a whole one."""
    drawing = out / DRAWING
    shutil.rmtree(drawing, ignore_errors=True)
    drawing.mkdir(parents=True)
    write_shapes(drawing, counts, seed, workers)
    for part in sorted(drawing.iterdir()):
        shutil.rmtree(out / part.name, ignore_errors=True)
        os.replace(part, out / part.name)
    drawing.rmdir()
