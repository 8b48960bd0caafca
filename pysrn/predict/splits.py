"""Running the deploy net over a split of an LMDB pair: every score of every image, in key order.

The images go through the net batch by batch, and the scores are kept in chunks of a few batches (`score_chunks.py`): a
run that was killed goes on, and several processes can share the work. Which images make a batch depends on the batch
size alone, so the result is the same however it was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pysrn.console import Progress, SrnError, UsageError, existing_folder, message
from pysrn.data.feed.augment import whole_image, write_view
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.manifest import NAME as DATA_MANIFEST
from pysrn.data.pair.pair_reader import ELSEWHERE
from pysrn.nets.caffemodel import sha256_of
from pysrn.nets.in_caffe import kind_of_device
from pysrn.precision import about_precision
from pysrn.predict.cached_deploy import CachedDeployNet
from pysrn.predict.chunks import ScoreChunks
from pysrn.predict.columns import Column, OddValue, Outline, checked, in_blocks, read_columns, write_columns
from pysrn.predict.deploy import DeployNet
from pysrn.predict.parts import OF_DATA, RECORDS
from pysrn.predict.predictions import Predictions, load_predictions
from pysrn.predict.trained import check_own_classes, settings_of
from pysrn.predict.workers import share_out
from pysrn.recipes import EMBEDDED, Input

BATCH_SIZE = 16
CHUNK_BATCHES = 4  # assumed: what a kill costs is half a minute of ResNet-101 on a CPU core
LARGEST_BATCH = 1024  # Caffe's blobs hold less than 2^31 numbers: 2,674 of ResNet's 64 x 112 x 112
DEFAULT_DATA = f"data/{EMBEDDED}"  # the embedded data set


def predict(weights: Path, pair: PairReader, out: Path, **how) -> Predictions:
    """What `predict_to` writes, all of it in memory."""
    predict_to(weights, pair, out, **how)
    return load_predictions(out)


def predict_to(
    weights: Path,
    pair: PairReader,
    out: Path,
    *,
    batch_size: int = BATCH_SIZE,
    scores: Sequence[str] = (),
    workers: int = 1,
    gpu: int | None = None,
    cache: tuple[str, Path] | None = None,
    search: Mapping[str, int] | None = None,
) -> Outline:
    """Logits of all images that a reader has, a split or a part, with their labels: written to `out`.

    Memory does not grow with the images where the reader is `sparse`. Goes on with what an interrupted call for the
    same result has left in a hidden folder beside `out`. `scores`: which of the net's scores (default: all). With
    several `workers` each process has its own net and its share of the CPU. `cache`: precision and folder of trunk
    features that are kept, so that the stages with one trunk share them. `search`: settings of a system that searches
    (`DeployNet`).
    Raises UsageError for a score that the net does not have, SrnError when the net has another number of labels than
    the pair, an image is broken, an output is not finite, or a worker dies.
    """
    cache = cache and (cache[0], str(cache[1].absolute()))
    net = net_for(weights, batch_size, pair, cache, gpu, search=search)
    check_labels(net, pair)
    if pair.image_size != (usual := net.architecture.input.stored_size):
        message(f"warning: {pair.folder} stores {pair.image_size} x {pair.image_size}, training sees {usual} x {usual}")
    job = {
        "weights": str(weights.absolute()),
        "weights_sha256": sha256_of(weights),
        "data": str(pair.folder.absolute()),
        "data_sha256": sha256_of(pair.folder / DATA_MANIFEST),
        "split": pair.split,
        "images": len(pair),
        **({"first": pair.span.start} if pair.is_part else {}),
        "classes": len(pair.classes),
        "scores": list(chosen_scores(net, scores)),
        "batch_size": batch_size,
        "chunk": batch_size * CHUNK_BATCHES,
        "cache": cache and list(cache),
        **({"search": dict(search)} if search else {}),
        **about_precision(),
        **({} if gpu is None else {"device": kind_of_device(True)}),  # not half of it by the CPU
    }
    chunks = ScoreChunks(out.with_name(f".{out.name}.chunks"), job)
    with chunks.opened():
        numbers = chunks.missing()
        left = sum(len(chunks.images(number)) for number in numbers)
        bar = Progress(len(pair), f"predicting {pair.split}", "images", initial=len(pair) - left)
        if workers > 1 and len(numbers) > 1:
            share_out(chunks, numbers, workers, bar.update)
        else:
            fill_chunks(net, pair, chunks, numbers, bar.update)
        bar.close()
        about = {"weights": str(weights), "weights_sha256": job["weights_sha256"]}
        about |= {"data": str(pair.folder), "split": pair.split, **about_precision()}
        if pair.is_part:
            about |= {RECORDS: [pair.span.start, pair.span.stop, pair.total], OF_DATA: job["data_sha256"]}
        try:
            found = _write(out, pair, chunks, about, f"{weights} on {pair.folder}, {pair.split}")
        except OddValue:
            chunks.remove()  # scores that are no numbers are not worth keeping
            raise
        chunks.remove()
    return found


def _write(out: Path, pair: PairReader, chunks: ScoreChunks, about: Mapping, where: str) -> Outline:
    """The predictions file of what the chunks hold."""
    names, classes = chunks.job["scores"], tuple(pair.classes)
    shape, text = (len(pair), len(classes)), np.dtype(f"U{max(map(len, pair.keys), default=1)}")

    def of_score(name: str) -> Iterator[np.ndarray]:
        return checked(name, chunks.column(name), classes, pair.keys.__getitem__, where)

    def of_labels() -> Iterator[np.ndarray]:
        blocks = in_blocks(map(pair.labels, range(len(pair))), np.int8)
        return checked("labels", blocks, classes, pair.keys.__getitem__, where)

    columns = {"keys": Column(text, shape[:1], lambda: in_blocks(pair.keys, text))}
    columns["classes"] = Column.of(np.array(classes))
    columns |= {name: Column(np.dtype(np.float32), shape, partial(of_score, name)) for name in names}
    columns["labels"] = Column(np.dtype(np.int8), shape, of_labels)
    write_columns(out, about, columns)
    return Outline(len(pair), classes, tuple(names), read_columns(out)[1][names[-1]])


def net_for(
    weights: Path,
    batch_size: int,
    pair: PairReader,
    cache: Sequence[str] | None,
    gpu: int | None = None,
    announced: bool = False,
    search: Mapping[str, int] | None = None,
) -> DeployNet:
    """The net that predicts; `cache`: precision and folder of the trunk's features, whose size is said once."""
    if cache is None:
        return DeployNet(weights, batch_size, gpu, folded=True, search=search)
    return CachedDeployNet(weights, batch_size, gpu, pair, cache[0], Path(cache[1]), announced, search)


def fill_chunks(
    net: DeployNet, pair: PairReader, chunks: ScoreChunks, numbers: Sequence[int], advance: Callable[[int], None]
) -> None:
    """Compute the numbered chunks; `advance` hears of every batch, with its number of images."""
    names = chunks.job["scores"]
    for number in numbers:
        images, parts = chunks.images(number), []
        for part in batches(len(images), chunks.job["batch_size"]):
            records = images[part.start : part.stop]
            views = partial(whole_views, pair, records, net.architecture.input)
            parts.append(net.forward_records(records, views, names))
            advance(len(part))
        chunks.write(number, {name: np.concatenate([part[name] for part in parts]) for name in names})


def chosen_scores(net: DeployNet, names: Sequence[str]) -> tuple[str, ...]:
    """The named scores in the net's order, or all; UsageError for one that the weights cannot compute."""
    if absent := [name for name in names if name not in net.scores]:
        have = ", ".join(net.scores)
        raise UsageError(f"{net.path} computes {have}, not {', '.join(absent)}", "give the weights of a later stage")
    return tuple(name for name in net.scores if name in names or not names)


def whole_views(pair: PairReader, indices: Sequence[int], eaten: Input) -> np.ndarray:
    """What a net that eats `eaten` sees in testing: whole images, float32 N x 3 x S x S."""
    return np.stack([view_of(pair.image(index), eaten) for index in indices])


def view_of(image: np.ndarray, eaten: Input) -> np.ndarray:
    """The same of one square image (uint8, BGR): float32 3 x S x S."""
    view = np.empty((3, eaten.size, eaten.size), np.float32)
    mean = np.array(eaten.mean, np.float32).reshape(3, 1, 1)
    write_view(image, whole_image(image.shape[0]), mean, view, eaten.scale)
    return view


def batches(count: int, size: int) -> Iterator[range]:
    """0 ... count - 1 in ranges of at most `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def check_labels(net: DeployNet, pair: PairReader) -> None:
    """Raise SrnError unless the net has as many labels as the pair, and those of its run where it is of one."""
    if net.architecture.classes != len(pair.classes):
        raise SrnError(
            f"{net.path} predicts {net.architecture.classes} labels, {pair.folder} has {len(pair.classes)}",
            "give the data set that these weights were trained on (--data)",
        )
    check_own_classes(pair.classes, net.path, pair.folder)


def data_folder(weights: str | Path, given: str | Path | None) -> Path:
    """The LMDB pair to use: the one `given`, else the one that the run was trained on, else shapes.

    Raises MissingError where there is no such folder; a run's may be relative to where it was trained.
    """
    if given is not None:
        return Path(given)
    settings = settings_of(weights)
    folder = Path(DEFAULT_DATA if settings is None else settings.data)
    existing_folder(folder.absolute(), "LMDB folder", ELSEWHERE)
    return folder
