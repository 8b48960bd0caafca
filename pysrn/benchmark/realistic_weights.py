"""Random weights of realistic size for a deploy net, so that a comparison of outputs can fail.

Batch statistics are not trivial (and stored with a scale factor, as Caffe does), attention values and
confidences spread by 2, which makes maps with clear peaks, and every score is of order 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pysrn.nets import prototxt
from pysrn.nets.caffemodel import read_layers, write_weights
from pysrn.predict.deploy import deploy_message
from pysrn.predict.trained import Architecture
from pysrn.systems.srn.nets import parameter_layers

SCALE_FACTOR = 999.98  # of a net that saw some thousand batches
SPREAD = {  # layer -> standard deviation of its output over the check batch; where BN follows, about
    "att_conv1": 1.0, "att_conv2": 1.0, "att_conv3": 2.0, "conf_conv1": 2.0, "conf_conv2": 2.0,
    "sr_conv2": 1.0, "sr_conv3": 1.0, "sr_conv4": 1.0, "sr_fc": 1.5, "cls_fc": 1.5,
}  # fmt: skip


def write_realistic(path: Path, architecture: Architecture, images: np.ndarray, seed: int = 0) -> Path:
    """Write a caffemodel of `architecture`, its heads scaled on `images` (N x 3 x 224 x 224)."""
    import caffe

    message = deploy_message(architecture, batch_size=len(images))
    net_path = path.with_suffix(".prototxt")
    prototxt.write_message(message, net_path)
    net = caffe.Net(str(net_path), caffe.TEST)
    random = np.random.default_rng(seed)
    normalised = {layer.bottom[0] for layer in message.layer if layer.type == "BatchNorm"}
    for layer in message.layer:
        if layer.name in net.params:
            _fill(layer, net.params[layer.name], random, bool(normalised.intersection(layer.top)))
    net.blobs["data"].data[...] = images
    net.forward()
    for name, spread in SPREAD.items():
        if name not in net.params:
            continue
        layer = next(layer for layer in message.layer if layer.name == name)
        # A rectifier works in place: what is measured is what the next layer reads.
        net.params[name][0].data[...] *= spread / net.blobs[layer.top[0]].data.std()
        net.forward(start=name)
    kinds = {layer.name: layer.type for layer in message.layer}
    layers = {
        name: (kinds[name], [blob.data.copy() for blob in net.params[name]]) for name in parameter_layers(message)
    }
    write_weights(path, message.name, layers)
    return path


def without(path: Path, target: Path, *prefixes: str) -> Path:
    """Write a copy of a caffemodel without the layers that begin with one of `prefixes`."""
    layers = {name: layer for name, layer in read_layers(path).items() if not name.startswith(prefixes)}
    write_weights(target, "cut", layers)
    return target


def _fill(layer, blobs, random: np.random.Generator, normalised: bool) -> None:
    """Random values of the usual size for the blobs of one layer; `normalised`: BN reads its output."""
    if layer.type == "BatchNorm":
        blobs[0].data[...] = SCALE_FACTOR * random.normal(0, 0.1, blobs[0].data.shape)
        blobs[1].data[...] = SCALE_FACTOR * random.uniform(0.5, 1.5, blobs[1].data.shape)
        blobs[2].data[...] = SCALE_FACTOR
    elif layer.type == "Scale":
        # The last branch of a block is small, so that sums over many blocks keep their size.
        size = 0.3 if layer.name.endswith("2c") else 1.0
        blobs[0].data[...] = random.normal(size, 0.1, blobs[0].data.shape)
        blobs[1].data[...] = random.normal(0, 0.1, blobs[1].data.shape)
    else:
        inputs = np.prod(blobs[0].data.shape[1:])
        blobs[0].data[...] = random.normal(0, np.sqrt(2 / inputs), blobs[0].data.shape)
        if layer.name.endswith("2c") and not normalised:
            blobs[0].data[...] *= 0.3  # a pre-activation block's last branch, likewise
        if layer.name == "conv1":
            blobs[0].data[...] /= 64  # the pixels' own spread
        for bias in blobs[1:]:
            bias.data[...] = random.normal(0, 0.05, bias.data.shape)
