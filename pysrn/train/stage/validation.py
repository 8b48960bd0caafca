"""The validation loss of a stage: images held out of the training records, seen whole, through the stage's own net.

The net is the training net's twin in Caffe's TEST phase and shares its weights. `pipeline.py` writes it beside the
training net, `runner.py` asks it for the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import caffe
import numpy as np

from pysrn.console import UsageError
from pysrn.nets import messages
from pysrn.nets.losses import image_losses, loss_layers
from pysrn.nets.prototxt import read_message
from pysrn.recipes import PLATEAU, Recipe
from pysrn.train.fixed.settings import change_feed, feed_of

BATCH = 16  # assumed: at most so many images at once, because the training net's memory is taken beside it


def check_parts(recipe: Recipe) -> None:
    """Raise UsageError when a recipe needs validation images and has none, or has no others."""
    held_out, images = recipe.validation_images, recipe.dataset.train_images
    if held_out >= images:
        raise UsageError(
            f"--validation-fraction {recipe.validation_fraction:g} leaves none of {images} images to train"
        )
    if not held_out and (recipe.validation_fraction or any(plan.schedule == PLATEAU for plan in recipe.stages)):
        raise UsageError(
            f"a validation loss needs images: --validation-fraction {recipe.validation_fraction:g} of {images} is none",
            "give a greater fraction, or --schedule multistep with --validation-fraction 0",
        )


def batches_of(images: int, batch_size: int) -> int:
    """Batches that one validation takes; the last one goes around to the first images."""
    return math.ceil(images / batch_size)


def validation_net(net: messages.NetParameter, records: tuple[int, int], validations: int = 0) -> messages.NetParameter:
    """The twin of a training net for its validation records.

    `validations` have been done already: the twin goes on with the images as if it had been there from the start,
    so that a resumed stage has the same images in the same rows and rounds alike.
    """
    twin = messages.copy_of(net)
    twin.name = f"{net.name}_validation"
    images, feed = records[1] - records[0], feed_of(net)
    batch_size = min(feed.batch_size, BATCH)
    first = validations * batches_of(images, batch_size) * batch_size
    change_feed(twin, records=records, train=False, batch_size=batch_size, first_sample=first)
    for layer in twin.layer:
        if layer.type == "BatchNorm":  # false would use the batch's statistics, and move the stored ones
            layer.batch_norm_param.use_global_stats = True
    return twin


class Validation:
    """A validation net on disk, sharing the weights of the net that is trained."""

    def __init__(self, path: Path, trained, images: int) -> None:
        message = read_message(path, messages.NetParameter)
        self._losses = loss_layers(message)
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
            per_image.append(sum(image_losses(layer, self._net.blobs) for layer in self._losses))
        return float(np.concatenate(per_image)[: self._images].mean())
