"""Random weights whose net behaves as a trained one does: its scores differ from picture to picture.

Batch statistics are those of a calibration batch, as training leaves them, so that every layer's values keep their size
through any number of blocks; the heads' outputs are centred and spread over pictures and positions. Each layer draws
from a generator of its own: nets of different label counts have the same trunk.
"""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

import numpy as np

from pysrn.nets import prototxt
from pysrn.nets.caffemodel import write_weights
from pysrn.nets.layers import parameter_layers
from pysrn.predict.deploy import deploy_message
from tests.srn import CROP_SIZE, MEAN_BGR, Architecture

SCALE_FACTOR = 999.98  # BatchNorm's third blob in a net that saw some thousand batches
# Layer -> standard deviation of its output over pictures and positions, about its own mean. Between photos, the logits
# of a trained ResNet-101 SRN differ by 0.6 (score_sr) to 5 (score_cls). Where BN follows, BN sees to it.
SPREAD = {
    "cls_fc": 2.0, "att_conv1": 1.0, "att_conv2": 1.0, "att_conv3": 2.0, "conf_conv1": 1.0, "conf_conv2": 1.0,
    "sr_conv2": 1.0, "sr_conv3": 1.0, "sr_conv4": 1.0, "sr_fc": 0.6,
}  # fmt: skip
# Of a block's last branch beside its shortcut. The greater, the more a random net magnifies any difference from layer
# to layer, rounding too: with 0.1 a few times more than trained nets do (resnet101), with 0.3 some fifty times.
BRANCH = 0.1


def write_calibrated(path: Path, architecture: Architecture, images: np.ndarray, branch: float = BRANCH) -> Path:
    """Write a caffemodel of `architecture`, calibrated on `images` (N x 3 x 224 x 224, N of at least 4)."""
    import caffe

    message = deploy_message(architecture, batch_size=len(images))
    for layer in message.layer:
        if layer.type == "BatchNorm":  # of the batch, which becomes the stored statistics as it is
            layer.batch_norm_param.use_global_stats, layer.batch_norm_param.moving_average_fraction = False, 0
    with tempfile.TemporaryDirectory() as folder:
        prototxt.write_message(message, Path(folder) / "net.prototxt")
        net = caffe.Net(str(Path(folder) / "net.prototxt"), caffe.TEST)
    normalised = {layer.bottom[0] for layer in message.layer if layer.type == "BatchNorm"}
    for layer in message.layer:
        if layer.name in net.params and layer.type != "BatchNorm":
            random = np.random.default_rng(zlib.crc32(layer.name.encode()))
            _fill(layer, net.params[layer.name], random, branch, not normalised.isdisjoint(layer.top))
    net.blobs["data"].data[...] = images
    net.forward()
    for name, spread in SPREAD.items():
        layer = next((layer for layer in message.layer if layer.name == name), None)
        if layer is None or not normalised.isdisjoint(layer.top):
            continue
        net.forward(start=name, end=name)
        values = net.blobs[layer.top[0]].data
        axes = (0, *range(2, values.ndim))
        gain = spread / np.sqrt(values.var(axes).mean())
        weight, bias = (blob.data for blob in net.params[name])
        weight *= gain
        bias[...] = (bias - values.mean(axes)) * gain + np.random.default_rng(0).normal(0, 0.2 * spread, bias.shape)
        net.forward(start=name)
    kinds = {layer.name: layer.type for layer in message.layer}
    layers = {
        name: (kinds[name], [blob.data * (SCALE_FACTOR if kinds[name] == "BatchNorm" else 1) for blob in blobs])
        for name, blobs in ((name, net.params[name]) for name in parameter_layers(message))
    }
    write_weights(path, message.name, layers)
    return path


def random_pictures(count: int, seed: int) -> np.ndarray:
    """Pictures unlike each other, BGR minus mean: float32 count x 3 x 224 x 224.

    Each is the sum of random fields of cells of 112, 56, 28, 14, 7 and 1 pixels with random weights, of random contrast
    about a random colour, cut to 0 to 255.
    """
    random, pictures = np.random.default_rng(seed), []
    for _ in range(count):
        weights = random.exponential(1, 6)
        picture = np.zeros((3, CROP_SIZE, CROP_SIZE))
        for weight, cell in zip(weights / np.sqrt((weights**2).sum()), (112, 56, 28, 14, 7, 1), strict=True):
            field = random.normal(0, 1, (3, CROP_SIZE // cell, CROP_SIZE // cell))
            picture += weight * field.repeat(cell, 1).repeat(cell, 2)
        picture = random.uniform(60, 190, (3, 1, 1)) + random.uniform(20, 80) * picture
        pictures.append(np.clip(picture, 0, 255) - np.array(MEAN_BGR)[:, None, None])
    return np.array(pictures, np.float32)


def _fill(layer, blobs, random: np.random.Generator, branch: float, normalised: bool) -> None:
    """Random values of the usual size for the blobs of one layer; `normalised`: BN reads its output."""
    weight, biases = blobs[0].data, [blob.data for blob in blobs[1:]]
    if layer.type == "Scale":
        mean = branch if layer.name.endswith("2c") else 1.0
        weight[...] = mean * random.normal(1, 0.2, weight.shape)
    else:
        size = branch if layer.name.endswith("2c") and not normalised else 1  # pre-activation: no BN there
        weight[...] = random.normal(0, size * np.sqrt(2 / np.prod(weight.shape[1:])), weight.shape)
        if layer.name == "conv1":
            weight /= 64  # the pixels' own spread
        if layer.name == "sr_conv2":
            weight *= 200  # U is about 1 / 196
    for bias in biases:
        bias[...] = random.normal(0, 0.1, bias.shape)
