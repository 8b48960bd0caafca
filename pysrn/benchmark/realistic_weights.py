"""Random weights of realistic size for a deploy net, so that a comparison of outputs can fail.

Batch statistics are not trivial (and stored with a scale factor, as Caffe does), and outputs are as large as the
system's own benchmarks say (`SPREAD` of `usual.own_module`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pysrn.benchmark.usual import own_module
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_layers, write_weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.surgery import save_with_carried
from pysrn.recipes import Recipe
from pysrn.systems.stage_nets import deploy_net
from pysrn.systems.system import Architecture

SCALE_FACTOR = 999.98  # of a net that saw some thousand batches
PIXELS = 64  # how far pixels spread
LAST_OF_BLOCK = 0.3  # the last branch of a residual block is small, so that sums over many blocks keep their size


def random_weights(recipe: Recipe, folder: Path) -> Path:
    """Write a caffemodel of a recipe's net with weights of realistic size; returns its path."""
    from pysrn.convert.torch_export import check_images

    images = check_images(recipe.input, 2, seed=0)
    return write_realistic(folder / "weights.caffemodel", Architecture.of(recipe), images)


def write_realistic(path: Path, architecture: Architecture, images: np.ndarray, seed: int = 0) -> Path:
    """Write a caffemodel of `architecture`, its heads scaled on `images` (N x 3 x S x S, as the net eats them)."""
    message = deploy_net(architecture, batch_size=len(images))
    net = make_net(message)
    random = np.random.default_rng(seed)
    normalised = {layer.bottom[0] for layer in message.layer if layer.type == "BatchNorm"}
    added = _last_of_blocks(message)
    for layer in message.layer:
        if layer.name not in net.params:
            continue
        pixels = PIXELS * architecture.input.scale if "data" in layer.bottom else None
        of_sum, of_norm = (bool(tops.intersection(layer.top)) for tops in (added, normalised))
        _fill(layer, net.params[layer.name], random, normalised=of_norm, added=of_sum, pixels=pixels)
    net.blobs["data"].data[...] = images
    net.forward()
    own = own_module(architecture.system)
    for name, spread in (own.SPREAD if own else {}).items():
        if name not in net.params:
            continue
        layer = next(layer for layer in message.layer if layer.name == name)
        # A rectifier works in place: what is measured is what the next layer reads.
        net.params[name][0].data[...] *= spread / net.blobs[layer.top[0]].data.std()
        net.forward(start=name)
    save_with_carried(net, message, path, {}, {})
    return path


def without(path: Path, target: Path, *prefixes: str) -> Path:
    """Write a copy of a caffemodel without the layers that begin with one of `prefixes`."""
    layers = {name: layer for name, layer in read_layers(path).items() if not name.startswith(prefixes)}
    write_weights(target, "cut", layers)
    return target


def _last_of_blocks(message: messages.NetParameter) -> set[str]:
    """The blobs that plain sums add to their shortcuts."""
    sums = [layer for layer in message.layer if layer.type == "Eltwise" and not layer.eltwise_param.coeff]
    return {layer.bottom[-1] for layer in sums if layer.eltwise_param.operation == layer.eltwise_param.SUM}


def _fill(layer, blobs, random: np.random.Generator, normalised: bool, added: bool, pixels: float | None) -> None:
    """Random values of the usual size for the blobs of one layer.

    `normalised`: BN reads its output; `added`: a sum does, as the last branch of a block; `pixels`: how far those that
    it reads spread, where it reads any.
    """
    if layer.type == "BatchNorm":
        blobs[0].data[...] = SCALE_FACTOR * random.normal(0, 0.1, blobs[0].data.shape)
        blobs[1].data[...] = SCALE_FACTOR * random.uniform(0.5, 1.5, blobs[1].data.shape)
        blobs[2].data[...] = SCALE_FACTOR
    elif layer.type == "Parameter":
        blobs[0].data[...] = random.normal(0, 0.4, blobs[0].data.shape)
    elif layer.type == "Scale":
        blobs[0].data[...] = random.normal(LAST_OF_BLOCK if added else 1.0, 0.1, blobs[0].data.shape)
        blobs[1].data[...] = random.normal(0, 0.1, blobs[1].data.shape)
    else:
        inputs = np.prod(blobs[0].data.shape[1:])
        blobs[0].data[...] = random.normal(0, np.sqrt(2 / inputs), blobs[0].data.shape)
        if added and not normalised:  # a pre-activation block's
            blobs[0].data[...] *= LAST_OF_BLOCK
        if pixels:
            blobs[0].data[...] /= pixels
        for bias in blobs[1:]:
            bias.data[...] = random.normal(0, 0.05, bias.data.shape)
