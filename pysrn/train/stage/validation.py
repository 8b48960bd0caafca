"""The validation loss of a stage: images held out of the training records, seen whole, through the stage's own net.

The net is the training net's twin in Caffe's TEST phase and shares its weights. `pipeline.py` writes it beside the
training net, `runner.py` asks it for the loss.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2

from pysrn.console import UsageError
from pysrn.data.feed.batches import FeedSettings
from pysrn.nets.prototxt import read_message
from pysrn.recipes import Recipe
from pysrn.train.fixed.cached_layer import FEATURES

BATCH = 16  # assumed: at most so many images at once, because the training net's memory is taken beside it
LOSS_TYPE = "SigmoidCrossEntropyLoss"


def training_records(recipe: Recipe) -> tuple[int, int]:
    """The records [begin, end) that are trained with."""
    return 0, recipe.dataset.train_images - recipe.validation_images


def validation_records(recipe: Recipe) -> tuple[int, int]:
    """The records that are held out: the last ones, a random sample because a pair is shuffled when it is built.

    Two persons of one WIDER-Attribute photograph may therefore be on both sides.
    """
    return training_records(recipe)[1], recipe.dataset.train_images


def check_parts(recipe: Recipe) -> None:
    """Raise UsageError when a recipe needs validation images and has none, or has no others."""
    held_out, images = recipe.validation_images, recipe.dataset.train_images
    if held_out >= images:
        raise UsageError(
            f"--validation-fraction {recipe.validation_fraction:g} leaves none of {images} images to train"
        )
    if not held_out and (recipe.validation_fraction or any(plan.schedule == "plateau" for plan in recipe.stages)):
        raise UsageError(
            f"a validation loss needs images: --validation-fraction {recipe.validation_fraction:g} of {images} is none",
            "give a greater fraction, or --schedule multistep with --validation-fraction 0",
        )


def batches_of(images: int, batch_size: int) -> int:
    """Batches that one validation takes; the last one goes around to the first images."""
    return math.ceil(images / batch_size)


def hold_out(net: caffe_pb2.NetParameter, records: tuple[int, int]) -> None:
    """Let a training net's data layer read only the records [begin, end)."""
    _set_feed(net, records=records)


def validation_net(
    net: caffe_pb2.NetParameter, records: tuple[int, int], validations: int = 0
) -> caffe_pb2.NetParameter:
    """The twin of a training net for its validation records.

    `validations` have been done already: the twin goes on with the images as if it had been there from the start,
    so that a resumed stage has the same images in the same rows and rounds alike.
    """
    twin = caffe_pb2.NetParameter()
    twin.CopyFrom(net)
    twin.name = f"{net.name}_validation"
    images, feed = records[1] - records[0], feed_of(net)
    batch_size = min(feed.batch_size, BATCH)
    first = validations * batches_of(images, batch_size) * batch_size
    _set_feed(twin, records=records, train=False, batch_size=batch_size, first_sample=first)
    for layer in twin.layer:
        if layer.type == "BatchNorm":  # false would use the batch's statistics, and move the stored ones
            layer.batch_norm_param.use_global_stats = True
    return twin


def feed_of(net: caffe_pb2.NetParameter) -> FeedSettings:
    """The settings of a net's data layer, with or without a cache."""
    values = json.loads(_data_layer(net).python_param.param_str)
    values.pop(FEATURES, None)
    return FeedSettings.from_json(json.dumps(values))


class Validation:
    """A validation net on disk, sharing the weights of the net that is trained."""

    def __init__(self, path: Path, trained, images: int) -> None:
        message = read_message(path, caffe_pb2.NetParameter)
        self._losses = [layer for layer in message.layer if layer.type == LOSS_TYPE]
        self._images, self._batch_size = images, feed_of(message).batch_size
        self._net = caffe.Net(str(path), caffe.TEST)
        self._net.share_with(trained)

    def loss(self, stop: Callable[[], bool]) -> float | None:
        """Mean over the images of the stage's loss (summed over labels and scores); None when `stop` says so.

        The twin's next call starts where this one ended; what `stop` broke off must be done by a new process.
        """
        per_image: list[np.ndarray] = []
        for _ in range(batches_of(self._images, self._batch_size)):
            if stop():
                return None
            self._net.forward()
            per_image.append(sum(self._image_losses(layer) for layer in self._losses))
        return float(np.concatenate(per_image)[: self._images].mean())

    def _image_losses(self, layer: caffe_pb2.LayerParameter) -> np.ndarray:
        """Sigmoid cross entropy of each image of the batch, summed over the labels, times the loss's weight."""
        score, label = (self._net.blobs[name].data.astype(np.float64) for name in layer.bottom[:2])
        score, label = score.reshape(len(score), -1), label.reshape(len(label), -1)
        entropy = np.maximum(score, 0) - score * label + np.log1p(np.exp(-np.abs(score)))
        return entropy.sum(axis=1) * (layer.loss_weight[0] if layer.loss_weight else 1.0)


def _set_feed(net: caffe_pb2.NetParameter, **changes) -> None:
    _data_layer(net).python_param.param_str = replace(feed_of(net), **changes).to_json()


def _data_layer(net: caffe_pb2.NetParameter) -> caffe_pb2.LayerParameter:
    return next(layer for layer in net.layer if layer.type == "Python")
