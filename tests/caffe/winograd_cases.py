"""Cases of the engine's part `winograd`: 3 x 3 convolutions of many shapes, alone and in a chain."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.caffe.running import Record, build, layer, text_net

NAMES = ["channels", "outputs", "height", "width", "pad_h", "pad_w", "images", "bias"]


def _shape(number: int) -> dict[str, int]:
    random = np.random.default_rng(number)
    sizes = [*random.choice([64, 80, 96, 128], 2), *random.integers(14, 22, 2), *random.integers(1, 3, 2)]
    return dict(zip(NAMES, [*map(int, sizes), 1 + number % 7, number % 2], strict=True))


SHAPES = [_shape(number) for number in range(14)]
# What trunks and heads have, and a map without a border whose last tiles are half outside.
SHAPES += [
    dict(zip(NAMES, sizes, strict=True)) for sizes in [(256, 256, 14, 14, 1, 1, 4, 0), (64, 64, 17, 19, 0, 0, 3, 1)]
]


def _convolution(shape: dict[str, int]) -> str:
    window = f"num_output: {shape['outputs']} kernel_size: 3 pad_h: {shape['pad_h']} pad_w: {shape['pad_w']}"
    window += f" bias_term: {'true' if shape['bias'] else 'false'}"
    return layer("conv", "Convolution", "data", "", f"convolution_param {{ {window} }}")


def _sizes(shape: dict[str, int]) -> tuple[int, int, int, int]:
    return shape["images"], shape["channels"], shape["height"], shape["width"]


def alone(shape: dict[str, int], phase: str, record: Record) -> None:
    """A convolution three times: the third time with other weights."""
    net = build(text_net(_convolution(shape), data=_sizes(shape)), phase)
    record.outputs(first=net.forward()["conv"])
    record.outputs(second=net.forward()["conv"])
    net.params["conv"][0].data[...] *= -2
    record.outputs(third=net.forward()["conv"], data=net.blobs["data"].data)
    record.outputs(**{f"weight{number}": blob.data for number, blob in enumerate(net.params["conv"])})


def chain(shape: dict[str, int], record: Record) -> None:
    """A convolution, BN, Scale, a sum and ReLU, in one pass."""
    outside = 2 * shape["pad_h"] - 2, 2 * shape["pad_w"] - 2
    other = shape["images"], shape["outputs"], shape["height"] + outside[0], shape["width"] + outside[1]
    text = _convolution(shape)
    text += layer("bn", "BatchNorm", "conv", "conv", "batch_norm_param { use_global_stats: true }")
    text += layer("scale", "Scale", "conv", "conv", "scale_param { bias_term: true }")
    text += layer("sum", "Eltwise", "conv other") + layer("relu", "ReLU", "sum", "sum")
    net = build(text_net(text, data=_sizes(shape), other=other), "test")
    record.outputs(sum=net.forward()["sum"])


CASES = {f"test{number}": partial(alone, shape, "test") for number, shape in enumerate(SHAPES)}
CASES |= {f"train{number}": partial(alone, shape, "train") for number, shape in enumerate(SHAPES[:2])}
CASES |= {f"chain{number}": partial(chain, shape) for number, shape in enumerate(SHAPES)}
