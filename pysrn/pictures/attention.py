"""Attention maps drawn over their images, beside the labels' boxes where these are known; and over a user's photos.

Boxes are fractions of the image's width and height (see `pointing.py`). The baseline of attention maps are
class-activation maps (Zhou et al. 2016, "CAM"), which need no attention branch: a classifier averages the last
features of the trunk and multiplies them by a row of weights a label. Multiplied place by place instead, before the
average, the same weights say where the evidence is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pysrn.console import Progress, UsageError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.readers.label_text import printable
from pysrn.nets.map_places import Places
from pysrn.pictures.pointing import Box
from pysrn.predict.deploy import DeployNet
from pysrn.predict.photo_files import Member
from pysrn.predict.photos import read_photos
from pysrn.predict.probability import sigmoid
from pysrn.predict.splits import batches, check_labels, whole_views

OPACITY = 0.65  # of an overlay where its map is greatest
COLOURS = "turbo"
LABELS_SHOWN = 6  # of an image


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the grid: pixels (H x W x 3 RGB), a title, and panels of (label, title, map h x w).

    `places`: where the maps' cells lie in the image.
    """

    image: np.ndarray
    title: str
    panels: Sequence[tuple[int, str, np.ndarray]]
    boxes: Mapping[int, Sequence[Box]]
    places: Places


def compute_maps(net: DeployNet, pair: PairReader, indices: Sequence[int], names: Sequence[str], batch_size: int = 16):
    """The named outputs (maps, scores) of chosen samples: name -> N x ... array."""
    check_labels(net, pair)
    _check_outputs(net, names)
    parts = _in_batches(net, pair, indices, batch_size, "maps", lambda views: net.forward(views, names))
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def activation_maps(net: DeployNet, images: np.ndarray) -> np.ndarray:
    """Class-activation maps, N x C x H x W, of N x 3 x S x S images; their means, plus the biases, are the score.

    UsageError where the net has no such classifier.
    """
    if net.features is None:
        raise UsageError(f"{net.system.title} has no class-activation maps")
    features = net.forward(images, [net.features])[net.features]
    weights = net.net.params[net.system.activation.classifier][0].data
    return np.einsum("cf,nfhw->nchw", weights.reshape(-1, features.shape[1]), features, optimize=True)


def activation_maps_of(net: DeployNet, pair: PairReader, indices: Sequence[int], batch_size: int = 16) -> np.ndarray:
    """The same of chosen samples of a pair."""
    found = partial(activation_maps, net)
    return np.concatenate(_in_batches(net, pair, indices, batch_size, "class-activation maps", found))


def _check_outputs(net: DeployNet, names: Sequence[str]) -> None:
    if absent := [name for name in names if name not in (*net.scores, *net.maps)]:
        raise UsageError(f"{net.path} does not compute {', '.join(absent)}", "give the weights of a later stage")


def _in_batches(
    net: DeployNet, pair: PairReader, indices: Sequence[int], size: int, what: str, work: Callable[[np.ndarray], object]
) -> list:
    """What `work` makes of the views of chosen samples, batch by batch."""
    parts, bar = [], Progress(len(indices), what, "images")
    for part in batches(len(indices), size):
        parts.append(work(whole_views(pair, [indices[i] for i in part], net.architecture.input)))
        bar.update(len(part))
    bar.close()
    return parts


def attention_rows(
    net: DeployNet,
    pair: PairReader,
    indices: Sequence[int],
    maps: Sequence[str],
    labels: Sequence[int] | None,
    boxes: Sequence[Mapping[int, Sequence[Box]]],
) -> list[Row]:
    """A row for every chosen sample and map; panels are `labels`, or (None) the sample's own labels."""
    score = net.scores[-1]
    outputs = compute_maps(net, pair, indices, (*maps, score))
    rows, titles = [], {one.name: one.title for one in net.system.maps}
    places = {name: net.places(name) for name in maps}
    for position, index in enumerate(indices):
        truth = pair.labels(index)
        shown = np.flatnonzero(truth == 1)[:LABELS_SHOWN] if labels is None else labels
        probabilities = sigmoid(outputs[score][position])
        image = np.ascontiguousarray(pair.image(index)[..., ::-1])
        for name in maps:
            panels = [
                (label, f"{pair.classes[label]}\np = {probabilities[label]:.2f}", outputs[name][position, label])
                for label in shown
            ]
            rows.append(Row(image, f"{pair.keys[index]}\n{titles[name]}", panels, boxes[position], places[name]))
    return rows


def photo_rows(
    net: DeployNet, paths: Sequence[Path | Member], classes: Sequence[str], score: str, maps: Sequence[str], count: int
) -> list[Row]:
    """A row for every readable file and map: the photo, and the maps of its `count` highest labels over it."""
    _check_outputs(net, maps)
    rows, titles = [], {one.name: one.title for one in net.system.maps}
    places = {name: net.places(name) for name in maps}
    for photo in read_photos(paths, net.architecture.input, shown=True):
        outputs = net.forward(photo.view[None], (*maps, score))
        logits = outputs[score][0]
        best = np.argsort(-logits, kind="stable")[:count]
        for name in maps:
            panels = [
                (int(label), f"{classes[label]}\np = {sigmoid(logits[label]):.2f}", outputs[name][0, label])
                for label in best
            ]
            title = f"{printable(photo.path.name, 30)}\n{titles[name]}"
            rows.append(Row(cv2.cvtColor(photo.shown, cv2.COLOR_BGR2RGB), title, panels, {}, places[name]))
    return rows


def spread(values: np.ndarray, places: Places, height: int, width: int) -> np.ndarray:
    """A map (h x w) at each pixel of its image: bilinear between the centres of its cells, level beyond the outer ones.

    The image may have any size and proportions: it is the whole of what the net saw.
    """
    between = [
        np.stack([np.interp((np.arange(size) + 0.5) / size, centres, row) for row in np.eye(len(centres))], axis=1)
        for size, centres in zip((height, width), places.centres(), strict=True)
    ]
    return between[0] @ values @ between[1].T


def overlay(image: np.ndarray, values: np.ndarray, places: Places) -> np.ndarray:
    """A map (h x w) over its image (uint8 H x W x 3 RGB, as is the result), strongest where the map is."""
    smooth = spread(values, places, *image.shape[:2])
    smooth -= smooth.min()
    smooth /= max(float(smooth.max()), np.finfo(np.float32).tiny)
    colours = matplotlib.colormaps[COLOURS](smooth)[..., :3] * 255
    opacity = OPACITY * smooth[..., None]
    return np.rint(image * (1 - opacity) + colours * opacity).astype(np.uint8)


def grid(rows: Sequence[Row]) -> Figure:
    """Images on the left with all known boxes, beside each its labels' maps with that label's boxes."""
    columns = 1 + max(len(row.panels) for row in rows)
    figure = Figure(figsize=(2.3 * columns, 2.55 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axis in axes:
            axis.axis("off")
        axes[0].imshow(row.image)
        axes[0].set_title(row.title, fontsize=7, parse_math=False)
        _draw_boxes(axes[0], row.image, [box for places in row.boxes.values() for box in places])
        for axis, (label, title, values) in zip(axes[1:], row.panels, strict=False):
            axis.imshow(overlay(row.image, values, row.places))
            axis.set_title(title, fontsize=7, parse_math=False)
            _draw_boxes(axis, row.image, row.boxes.get(label, ()))
    return figure


def _draw_boxes(axis, image: np.ndarray, boxes: Sequence[Box]) -> None:
    """Draw frames; of the axis' coordinates the first pixel's middle is 0."""
    height, width = image.shape[:2]
    for left, top, right, bottom in boxes:
        corner, size = (left * width - 0.5, top * height - 0.5), ((right - left) * width, (bottom - top) * height)
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=2))
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=0.8))
