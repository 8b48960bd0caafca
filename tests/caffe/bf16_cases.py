"""Cases of the engine's part `bf16`: convolutions of many shapes, and a net whose blobs stay bf16 in between."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.caffe.running import Record, build, layer, text_net

# Channels, outputs, kernel, stride, padding, height, width, images, bias: what trunks have, then any.
SHAPES = [(3, 64, 7, 2, 3, 37, 41, 2, 0), (64, 256, 1, 1, 0, 14, 14, 2, 1), (256, 128, 1, 2, 0, 15, 13, 3, 0)]
WINDOWS = (1, 1, 0), (3, 1, 1), (3, 2, 1), (1, 2, 0), (5, 1, 2)
SHAPES += [
    (
        *random.choice([1, 5, 16, 24, 32, 48, 64, 80], 2).tolist(),
        *WINDOWS[number % len(WINDOWS)],
        *random.integers(5, 18, 2).tolist(),
        int(random.integers(1, 5)),
        number % 2,
    )
    for number, random in enumerate(map(np.random.default_rng, range(25)))
]


def convolution(shape: tuple[int, ...], record: Record) -> None:
    """One, forth and back, and what it read."""
    channels, outputs, kernel, stride, padding, height, width, images, bias = shape
    window = f"num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {padding}"
    window += f" bias_term: {'true' if bias else 'false'}"
    text = layer("conv", "Convolution", "data", "", f"convolution_param {{ {window} }}")
    net = build(text_net(text, data=(images, channels, height, width)), "train")
    record.pass_through(net)
    record.outputs(data=net.blobs["data"].data, diff=net.blobs["conv"].diff, weight=net.params["conv"][0].data)
    if bias:
        record.outputs(bias=net.params["conv"][1].data)


def _block(name: str, bottom: str) -> str:
    """Convolution, BN and Scale of 32 channels, the latter two in place."""
    return (
        layer(name, "Convolution", bottom, "", "convolution_param { num_output: 32 kernel_size: 3 pad: 1 }")
        + layer(f"{name}_bn", "BatchNorm", name, name, "batch_norm_param { use_global_stats: true }")
        + layer(f"{name}_scale", "Scale", name, name, "scale_param { bias_term: true }")
    )


READERS = ("pooled", "score")
NET = (
    layer("alone", "Convolution", "data", "", "convolution_param { num_output: 32 kernel_size: 1 }")
    + _block("first", "alone")
    + layer("first_relu", "ReLU", "first", "first")
    + _block("second", "first")
    + layer("sum", "Eltwise", "first second")
    + layer("sum_relu", "ReLU", "sum", "sum")
    + _block("third", "sum")
    + layer("pooled", "Pooling", "third", "", "pooling_param { pool: AVE global_pooling: true }")
    + layer("score", "Convolution", "sum", "", "convolution_param { num_output: 5 kernel_size: 1 }")
)


def net(phase: str, record: Record) -> None:
    """Blobs that convolutions read (also by way of the sum), and one that another layer reads."""
    found = build(text_net(NET, data=(2, 16, 9, 11)), phase)
    record.outputs(**found.forward())
    record.outputs(**{name: found.blobs[name].data for name in ("alone", "first", "sum", "third")})
    record.outputs("again ", **found.forward())


CHOSEN = {"chosen": (40, 33), "chosen_few": (5, 1)}  # channels: more than a vector holds, and fewer


def poolings(wide: int, tall: int) -> str:
    """Poolings that only choose numbers, between convolutions of so many outputs."""
    single = "pool: AVE kernel_size: 1 stride: 2 round_mode: FLOOR"
    return (
        layer("wide", "Convolution", "data", "", f"convolution_param {{ num_output: {wide} kernel_size: 1 }}")
        + layer("largest", "Pooling", "wide", "", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }")
        + layer("tall", "Convolution", "largest", "", f"convolution_param {{ num_output: {tall} kernel_size: 1 }}")
        + layer("single", "Pooling", "tall", "", f"pooling_param {{ {single} }}")
        + layer("score", "Convolution", "single", "", "convolution_param { num_output: 5 kernel_size: 1 }")
    )


def chosen(wide: int, tall: int, record: Record) -> None:
    """Forth and back; then while arrays look on, with something that is no number."""
    found = build(text_net(poolings(wide, tall), data=(3, 16, 17, 23)), "test")
    record.pass_through(found)
    names = ("wide", "largest", "tall", "single")
    record.outputs(**{name: found.blobs[name].data for name in names})
    record.gradients(**{f"of {name}": found.blobs[name].diff for name in names})
    views = {name: found.blobs[name].data for name in names}
    found.blobs["data"].data[0, :, 4, 4] = np.nan
    record.outputs("broken ", **found.forward())
    record.outputs("broken ", **views)


CASES = {f"convolution{number}": partial(convolution, shape) for number, shape in enumerate(SHAPES)}
CASES |= {phase: partial(net, phase) for phase in ("train", "test")}
CASES |= {name: partial(chosen, *channels) for name, channels in CHOSEN.items()}
