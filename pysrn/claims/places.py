"""Measures of where maps look, against the boxes of the test images (`DataSet.annotations`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pysrn.claims.claim import Measure, Trained
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.map_places import Places
from pysrn.pictures.attention import activation_maps_of, compute_maps
from pysrn.pictures.overlap import box_overlap
from pysrn.pictures.pointing import pointing, read_boxes
from pysrn.predict.deploy import DeployNet

Judge = Callable[[np.ndarray, list, Places], float]  # maps, boxes of each image, where the cells lie -> a fraction


def boxes_of_test(trained: Trained) -> tuple[PairReader, list]:
    """The test images, and for each of them label -> boxes."""
    pair, drawn = PairReader(trained.data, "test"), trained.data / "images" / "test"
    images = drawn if drawn.is_dir() else trained.boxes.parent
    return pair, read_boxes(trained.boxes, images, pair, range(len(pair)))


def of_map(name: str, stage: int, title: str, judge: Judge) -> Measure:
    """What `judge` makes of a map that a stage's weights compute."""

    def measured(trained: Trained) -> float:
        pair, boxes = boxes_of_test(trained)
        net = DeployNet(trained.run.weights(stage), 16, trained.gpu, folded=True)
        return judge(compute_maps(net, pair, range(len(pair)), [name])[name], boxes, net.places(name))

    return Measure(f"{title} of {name}", measured, boxes=True)


def of_activation_map(stage: int, title: str, judge: Judge) -> Measure:
    """The same of the class-activation maps of a stage's weights."""

    def measured(trained: Trained) -> float:
        pair, boxes = boxes_of_test(trained)
        net = DeployNet(trained.run.weights(stage), 16, trained.gpu, folded=True)
        return judge(activation_maps_of(net, pair, range(len(pair))), boxes, net.places(net.features))

    return Measure(f"{title} of the class-activation map", measured, boxes=True)


def pointing_accuracy(maps: np.ndarray, boxes: list, places: Places) -> float:
    """How often the greatest value lies in a box, mean over the labels."""
    return pointing(maps, boxes, places).accuracy


def pointing_above_chance(maps: np.ndarray, boxes: list, places: Places) -> float:
    """The same, less what a random cell would reach."""
    found = pointing(maps, boxes, places)
    return found.accuracy - found.mean_chance


def mean_overlap(maps: np.ndarray, boxes: list, places: Places) -> float:
    """Box overlap, mean over the labels that have boxes."""
    return float(np.nanmean(box_overlap(maps, boxes, places)))
