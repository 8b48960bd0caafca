"""From a data set on disk (`shapes`: from nothing) to its LMDB pairs: the work of `tools/make_lmdb.py`.

Whatever ends a build (Ctrl-C, kill, a full disk), the same call goes on with it: `pair_writer.py` within a split,
this module between them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pysrn.console import SrnError, UsageError, existing_folder, message
from pysrn.data.pair.build_journal import fingerprint, journal_path
from pysrn.data.pair.build_lock import resumable, sole_builder
from pysrn.data.pair.encoding import DEFAULT_ENCODING, Encoding
from pysrn.data.pair.lmdb_file import check_whole, pair_paths
from pysrn.data.pair.manifest import NAME, read_manifest
from pysrn.data.pair.pair_reader import REBUILD
from pysrn.data.pair.pair_writer import discard_unfinished, partial_paths, write_pair
from pysrn.data.pair.skipped_images import SKIPPED_NAME
from pysrn.data.readers.options import NO_OPTIONS, ReaderOptions
from pysrn.data.readers.records import AnnotatedSplit
from pysrn.data.readers.registry import SPLITS, check_options, read_splits
from pysrn.data.shapes.dataset import write_shapes
from pysrn.recipes import split_counts
from pysrn.whole_files import discard, replace_text

DRAWING = "drawing.partial"  # pictures that are being drawn
DRAWN = ("images", "annotations")  # the annotations last: they say that the images are there
REPLACED = "replaced.partial"  # fingerprints of what an unfinished build with `force` has replaced
_DRAWN_WITH = "shapes, drawn with seed"  # what `shapes.py` writes into its annotations


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
    images of each split of `shapes` (default: the recipe's). A split that is there with the same fingerprint is
    kept. Any other, and with `force` every one, is replaced only with `force`, and only when its successor is
    complete. A build that was interrupted goes on.
    Raises UsageError for an unknown data set or option or an `out` that holds another data set, MissingError when
    there is none in `root`, SrnError when another process builds in `out` or it cannot be written, InterruptedRun
    on Ctrl-C.
    """
    check_options(dataset, options)
    if (dataset == "shapes") != (root is None):
        raise UsageError("shapes is drawn, it has no --root" if root else f"--root: where does {dataset} lie?")
    out = Path(out)
    if dataset != "shapes":  # all splits are read before anything is written
        annotated = read_splits(dataset, existing_folder(root, f"folder of {dataset}"), options)
    with resumable(out):
        out.mkdir(parents=True, exist_ok=True)
        with sole_builder(out):
            held = (read_manifest(out) or {}).get("dataset", dataset)
            if held != dataset:
                raise UsageError(f"{out} holds the data set {held}, not {dataset}", "choose another --out")
            if dataset == "shapes":
                _draw_shapes(out, counts or split_counts(dataset), seed, workers, force)
                annotated = read_splits(dataset, out, options)
            return _write_splits(dataset, out, annotated, seed, encoding, workers, force)


def _write_splits(
    dataset: str,
    out: Path,
    annotated: Mapping[str, AnnotatedSplit],
    seed: int,
    encoding: Encoding,
    workers: int | None,
    force: bool,
) -> dict[str, int]:
    marks = {
        split: fingerprint(part.samples, split, part.classes, seed, dataset, encoding)
        for split, part in annotated.items()
    }
    there = _splits_there(out)
    if not force:
        for split in there:
            if not there[split]:
                raise _occupied(out, f"its {NAME} does not know the databases of {split}")
            if there[split].get("fingerprint") != marks.get(split):
                raise _occupied(out, f"{split} was made from other labels or with other settings or versions")
            for path in pair_paths(out, split):
                check_whole(path, REBUILD)
    replaced = out / REPLACED
    fresh = replaced.read_text("utf-8").split() if replaced.is_file() else []
    written = {}
    for split, part in annotated.items():
        old = there.get(split, {})
        if old.get("fingerprint") == marks[split] and (not force or (marks[split] in fresh and _whole(out, split))):
            message(f"{split}: {old['count']:,} images, complete already")
            written[split] = old["count"]
            discard_unfinished(out, split)
            continue
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
            left_out=part.left_out,
            force=force,
        )
        if force:
            fresh.append(marks[split])
            replace_text(replaced, "".join(f"{mark}\n" for mark in fresh))
    discard(replaced)
    return written


def _splits_there(out: Path) -> dict[str, dict]:
    """The manifest entries of splits that are there; {} for databases that no manifest knows."""
    splits = (read_manifest(out) or {"splits": {}})["splits"]
    for split in SPLITS:
        # An interrupted build has its journal until the manifest knows what it has put in place.
        if any(path.exists() for path in pair_paths(out, split)) and not journal_path(out, split).exists():
            splits.setdefault(split, {})
    return splits


def _whole(out: Path, split: str) -> bool:
    try:
        for path in pair_paths(out, split):
            check_whole(path)
    except SrnError:
        return False
    return True


def _occupied(out: Path, why: str) -> UsageError:
    return UsageError(f"{out} already holds a data set: {why}", "give --force to replace it, or another --out")


def unfinished_shapes(out: str | Path) -> bool:
    """Whether `out` is not there, is empty, or holds what an interrupted drawing of `shapes` left; else hands off."""
    out = Path(out)
    if not out.is_dir():
        return not out.exists()
    manifest = read_manifest(out)
    if manifest is None:
        first = SPLITS[0]
        files = (journal_path(out, first), out / SKIPPED_NAME, out / NAME, out / REPLACED)
        left = {"annotations", "images", DRAWING, *(path.name for path in (*files, *partial_paths(out, first)))}
        left |= {f"{path.name}.partial" for path in files}
        return {path.name for path in out.iterdir()} <= left
    return manifest.get("dataset") == "shapes" and not set(SPLITS) <= set(manifest["splits"])


def _draw_shapes(out: Path, counts: Mapping[str, int], seed: int, workers: int | None, force: bool) -> None:
    """Draw beside, then rename, so that a half-drawn set is never taken for a whole one; keep what is drawn already."""
    unfinished = (out / REPLACED).exists() or any(journal_path(out, split).exists() for split in SPLITS)
    if _drawn(out, counts, seed) and (not force or unfinished):
        return
    if not force and _splits_there(out):
        raise _occupied(out, "shapes of another seed or number")
    drawing = out / DRAWING
    foreign = [out / part for part in DRAWN if (out / part).exists()]
    if foreign and not drawing.exists() and not _annotation(out, SPLITS[0]):  # of another data set: never deleted
        raise UsageError(f"{foreign[0]} was not drawn by this tool", "choose another --out, or remove it yourself")
    shutil.rmtree(drawing, ignore_errors=True)
    drawing.mkdir(parents=True)
    write_shapes(drawing, counts, seed, workers)
    os.sync()  # thousands of files: all at once
    shutil.rmtree(out / "annotations", ignore_errors=True)
    for part in DRAWN:
        shutil.rmtree(out / part, ignore_errors=True)
        os.replace(drawing / part, out / part)
    drawing.rmdir()


def _drawn(out: Path, counts: Mapping[str, int], seed: int) -> bool:
    """Whether the pictures of this seed and number are there, all of them."""
    return all(
        content.get("info", {}).get("description") == f"{_DRAWN_WITH} {seed}"
        and len(content.get("images", ())) == counts[split]
        for split, content in ((split, _annotation(out, split)) for split in counts)
    )


def _annotation(out: Path, split: str) -> dict:
    """The annotation of drawn pictures; {} where there is none."""
    try:
        content = json.loads((out / "annotations" / f"{split}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    drawn = isinstance(content, dict) and str(content.get("info", "")).find(_DRAWN_WITH) >= 0
    return content if drawn else {}
