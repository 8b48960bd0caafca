"""Single layers and short chains in awkward shapes, each forth and back, in TRAIN and in TEST."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.caffe.running import Record, build, layer, text_net


def convolution(parameters: str, bottom: str = "data", top: str = "conv") -> str:
    return layer("conv", "Convolution", bottom, top, f"convolution_param {{ {parameters} }}")


def chain(
    stored: str,
    *more: str,
    bias: str = "bias_term: false",
    channels: int = 20,
    kernel: str = "kernel_size: 3 pad: 1",
) -> str:
    """Convolution, BatchNorm, Scale and what follows, in place, as the nets have them.

    Channels that 16 divides are computed in oneDNN's layout, others in Caffe's.
    """
    statistics = f"batch_norm_param {{ use_global_stats: {stored} }}"
    return (
        convolution(f"num_output: {channels} {kernel} {bias}")
        + layer("bn", "BatchNorm", "conv", "conv", statistics)
        + layer("scale", "Scale", "conv", "conv", "scale_param { bias_term: true }")
        + "".join(more)
    )


def lstm(bottom: str = "data cont", top: str = "lstm", width: int = 6, more: str = "") -> str:
    """The inputs `cont` get any numbers, not 0 and 1 alone: so is it defined."""
    return layer("lstm", "LSTM", bottom, top, f"recurrent_param {{ num_output: {width} {more} }}")


def inner_product(parameters: str) -> str:
    return layer("product", "InnerProduct", "data", "", f"inner_product_param {{ num_output: 40 {parameters} }}")


RELU_IN_PLACE = layer("relu", "ReLU", "conv", "conv")
SHORTCUT = layer("sum", "Eltwise", "data conv") + layer("relu", "ReLU", "sum", "sum")
OTHER_SHORTCUT = SHORTCUT.replace('"data"', '"other"')
FIXED = "param { lr_mult: 0 }"
STORED = "batch_norm_param { use_global_stats: true }"
# Layers of every kind that passes on oneDNN's layout, and poolings of other windows in it.
IN_BLOCKS = (
    chain("true", RELU_IN_PLACE, channels=32)
    + layer("pool", "Pooling", "conv", "", "pooling_param { kernel_size: 3 stride: 2 }")
    + layer("same", "Pooling", "pool", "", "pooling_param { kernel_size: 3 stride: 1 pad: 1 }")
    + layer("wide", "Pooling", "conv", "", "pooling_param { kernel_size: 3 stride: 3 pool: MAX }")
    + layer("mean", "Pooling", "conv", "", "pooling_param { kernel_size: 2 stride: 2 pool: AVE }")
    + layer("back", "Convolution", "same", "", "convolution_param { num_output: 32 kernel_size: 1 }")
    + layer("sum", "Eltwise", "same back")
)
# name -> (layers, shapes of the inputs)
NETS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "in_blocks": (IN_BLOCKS, {"data": (2, 16, 13, 10)}),
    "chain_residual_in_blocks": (chain("true", SHORTCUT, channels=16), {"data": (2, 16, 7, 9)}),
    "conv_1x1": (convolution("num_output: 23 kernel_size: 1"), {"data": (3, 19, 7, 5)}),
    "conv_1x1_strided": (convolution("num_output: 32 kernel_size: 1 stride: 2"), {"data": (2, 16, 13, 14)}),
    "conv_3x3": (convolution("num_output: 32 kernel_size: 3 pad: 1"), {"data": (2, 16, 14, 14)}),
    "conv_3x3_strided_batch_1": (convolution("num_output: 5 kernel_size: 3 pad: 1 stride: 2"), {"data": (1, 17, 9, 9)}),
    "conv_7x7": (
        convolution("num_output: 8 kernel_size: 7 pad: 3 stride: 2 bias_term: false"),
        {"data": (2, 3, 32, 30)},
    ),
    "conv_7x7_in_blocks": (convolution("num_output: 32 kernel_size: 7 pad: 3 stride: 2"), {"data": (2, 3, 32, 30)}),
    "conv_1x1_many_channels": (convolution("num_output: 48 kernel_size: 1"), {"data": (2, 128, 7, 5)}),
    "conv_dilated": (convolution("num_output: 4 kernel_size: 3 pad: 2 dilation: 2"), {"data": (2, 6, 11, 11)}),
    "conv_two_groups": (convolution("num_output: 10 kernel_size: 3 group: 2"), {"data": (2, 6, 8, 8)}),
    "conv_depthwise": (convolution("num_output: 16 kernel_size: 3 pad: 1 group: 8"), {"data": (3, 8, 8, 8)}),
    "conv_14x14_grouped": (convolution("num_output: 96 kernel_size: 14 group: 24"), {"data": (3, 24, 14, 14)}),
    "conv_14x14_grouped_batch_1": (
        convolution("num_output: 28 kernel_size: 14 group: 7 bias_term: false"),
        {"data": (1, 7, 14, 14)},
    ),
    "conv_whole_map_5x3_grouped": (
        convolution("num_output: 6 kernel_h: 5 kernel_w: 3 group: 3"),
        {"data": (2, 6, 5, 3)},
    ),
    "conv_14x14_grouped_larger_map": (convolution("num_output: 8 kernel_size: 14 group: 4"), {"data": (2, 4, 15, 16)}),
    "conv_oblong": (
        convolution("num_output: 7 kernel_h: 3 kernel_w: 5 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2"),
        {"data": (2, 5, 12, 9)},
    ),
    "conv_larger_than_its_input": (convolution("num_output: 3 kernel_size: 5 pad: 2"), {"data": (2, 4, 2, 3)}),
    "conv_two_bottoms": (
        convolution("num_output: 9 kernel_size: 3", "data other", "conv second"),
        {"data": (2, 4, 8, 8), "other": (2, 4, 8, 8)},
    ),
    "conv_three_axes": (convolution("num_output: 4 kernel_size: 3 pad: 1"), {"data": (2, 3, 5, 6, 7)}),
    "conv_one_axis": (convolution("num_output: 4 kernel_size: 3 pad: 1 stride: 2"), {"data": (2, 3, 15)}),
    "conv_forced_im2col": (
        convolution("num_output: 4 kernel_size: 3 force_nd_im2col: true"),
        {"data": (2, 3, 8, 9)},
    ),
    "conv_weights_fixed": (
        layer("conv", "Convolution", "data", "", FIXED + "convolution_param { num_output: 6 kernel_size: 3 }"),
        {"data": (2, 5, 9, 9)},
    ),
    "deconv": (
        layer("up", "Deconvolution", "data", "", "convolution_param { num_output: 6 kernel_size: 4 stride: 2 }"),
        {"data": (2, 5, 6, 7)},
    ),
    "bn_stored": (layer("bn", "BatchNorm", "data", "", STORED), {"data": (3, 7, 5, 4)}),
    "bn_of_the_batch": (
        layer("bn", "BatchNorm", "data", "", "batch_norm_param { use_global_stats: false eps: 0.01 }"),
        {"data": (3, 7, 5, 4)},
    ),
    "bn_by_phase": (layer("bn", "BatchNorm", "data"), {"data": (4, 16, 3, 3)}),
    "bn_of_vectors": (layer("bn", "BatchNorm", "data", "", STORED), {"data": (4, 9)}),
    "scale": (layer("scale", "Scale", "data", "", "scale_param { bias_term: true }"), {"data": (3, 7, 5, 4)}),
    "scale_without_bias": (layer("scale", "Scale", "data"), {"data": (1, 33, 6, 6)}),
    "scale_of_two_axes": (
        layer("scale", "Scale", "data", "", "scale_param { axis: 1 num_axes: 2 }"),
        {"data": (3, 5, 4, 6)},
    ),
    "scale_of_the_batch_axis": (layer("scale", "Scale", "data", "", "scale_param { axis: 0 }"), {"data": (3, 5, 4, 6)}),
    "scale_by_a_bottom": (
        layer("scale", "Scale", "data other", "", "scale_param { axis: 0 }"),
        {"data": (3, 5, 4, 6), "other": (3, 5)},
    ),
    "relu": (layer("relu", "ReLU", "data"), {"data": (3, 7, 5, 3)}),
    "relu_leaky": (layer("relu", "ReLU", "data", "", "relu_param { negative_slope: 0.1 }"), {"data": (3, 7, 5, 3)}),
    "eltwise_three": (
        layer("sum", "Eltwise", "data b c", "", "eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }"),
        dict.fromkeys(("data", "b", "c"), (2, 5, 7, 3)),
    ),
    "eltwise_two": (layer("sum", "Eltwise", "data b"), {"data": (1, 17, 7, 3), "b": (1, 17, 7, 3)}),
    "eltwise_product": (
        layer("product", "Eltwise", "data b", "", "eltwise_param { operation: PROD }"),
        {"data": (2, 5, 7, 3), "b": (2, 5, 7, 3)},
    ),
    "eltwise_maximum": (
        layer("most", "Eltwise", "data b c", "", "eltwise_param { operation: MAX }"),
        dict.fromkeys(("data", "b", "c"), (2, 5, 7, 3)),
    ),
    "eltwise_with_itself": (layer("sum", "Eltwise", "data data"), {"data": (2, 5, 7, 3)}),
    "pool_max": (
        layer("pool", "Pooling", "data", "", "pooling_param { kernel_size: 3 stride: 2 }"),
        {"data": (2, 9, 12, 11)},
    ),
    "pool_max_padded": (
        layer("pool", "Pooling", "data", "", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"),
        {"data": (1, 3, 11, 8)},
    ),
    "pool_max_with_its_mask": (
        layer("pool", "Pooling", "data", "pool mask", "pooling_param { kernel_size: 2 stride: 2 }"),
        {"data": (2, 4, 7, 7)},
    ),
    "pool_average": (
        layer("pool", "Pooling", "data", "", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
        {"data": (2, 5, 10, 7)},
    ),
    "pool_average_7x7": (
        layer("pool", "Pooling", "data", "", "pooling_param { pool: AVE kernel_size: 7 stride: 1 }"),
        {"data": (3, 33, 7, 7)},
    ),
    "pool_global": (
        layer("pool", "Pooling", "data", "", "pooling_param { pool: AVE global_pooling: true }"),
        {"data": (3, 6, 4, 9)},
    ),
    "pool_of_single_numbers": (
        layer("pool", "Pooling", "data", "", "pooling_param { pool: AVE kernel_size: 1 stride: 2 round_mode: FLOOR }"),
        {"data": (2, 5, 8, 11)},
    ),
    "pool_of_single_numbers_in_blocks": (
        chain("true", RELU_IN_PLACE, channels=32)
        + layer("pool", "Pooling", "conv", "", "pooling_param { pool: AVE kernel_size: 1 stride_h: 3 stride_w: 2 }"),
        {"data": (2, 5, 7, 9)},
    ),
    "softmax": (layer("softmax", "Softmax", "data"), {"data": (3, 37)}),
    "softmax_of_few": (layer("softmax", "Softmax", "data", "", "softmax_param { axis: 3 }"), {"data": (2, 3, 5, 4)}),
    "softmax_of_one": (layer("softmax", "Softmax", "data"), {"data": (5, 1)}),
    "softmax_over_ones_behind": (layer("softmax", "Softmax", "data"), {"data": (300, 80, 1, 1)}),
    "softmax_over_channels": (layer("softmax", "Softmax", "data"), {"data": (2, 5, 3, 4)}),
    "sigmoid": (layer("gate", "Sigmoid", "data"), {"data": (3, 70, 11, 9)}),
    "sigmoid_in_place": (layer("gate", "Sigmoid", "data", "data"), {"data": (3, 7)}),
    "split_many_readers": (
        "".join(layer(f"relu{n}", "ReLU", "data", "", f"relu_param {{ negative_slope: 0.{n} }}") for n in range(1, 6)),
        {"data": (2, 7, 5, 5)},
    ),
    "chain_stored": (chain("true", RELU_IN_PLACE), {"data": (2, 20, 9, 9)}),
    "chain_stored_bias": (chain("true", RELU_IN_PLACE, bias=""), {"data": (1, 3, 9, 9)}),
    "chain_7x7_residual_in_blocks": (
        chain("true", OTHER_SHORTCUT, bias="", channels=16, kernel="kernel_size: 7 pad: 3"),
        {"data": (2, 3, 7, 9), "other": (2, 16, 7, 9)},
    ),
    "chain_1x1_residual_many_channels": (
        chain("true", SHORTCUT, bias="", channels=64, kernel="kernel_size: 1"),
        {"data": (2, 64, 7, 9)},
    ),
    "chain_of_the_batch": (chain("false", RELU_IN_PLACE), {"data": (3, 5, 6, 6)}),
    "chain_residual": (chain("true", SHORTCUT), {"data": (2, 20, 9, 9)}),
    "chain_convolution_sum": (
        convolution("num_output: 20 kernel_size: 3 pad: 1") + SHORTCUT,
        {"data": (2, 20, 9, 9)},
    ),
    "chain_sum_weighted": (
        convolution("num_output: 20 kernel_size: 3 pad: 1")
        + layer("sum", "Eltwise", "data conv", "", "eltwise_param { coeff: 1 coeff: -1 }")
        + layer("relu", "ReLU", "sum", "sum"),
        {"data": (2, 20, 9, 9)},
    ),
    "chain_leaky": (
        convolution("num_output: 20 kernel_size: 3 pad: 1")
        + layer("relu", "ReLU", "conv", "conv", "relu_param { negative_slope: 0.2 }"),
        {"data": (2, 5, 9, 9)},
    ),
    "chain_read_twice": (  # what a rectifier reads is read by somebody else, too: it must not be rectified for him
        convolution("num_output: 20 kernel_size: 1")
        + layer("relu", "ReLU", "conv")
        + layer("pool", "Pooling", "conv", "", "pooling_param { pool: AVE kernel_size: 9 }"),
        {"data": (2, 5, 9, 9)},
    ),
    "chain_bn_read_twice": (
        convolution("num_output: 20 kernel_size: 1")
        + layer("bn", "BatchNorm", "conv", "bn", STORED)
        + layer("scale", "Scale", "bn", "scale", "scale_param { bias_term: true }")
        + layer("relu", "ReLU", "scale", "scale")
        + layer("sum", "Eltwise", "bn scale conv"),
        {"data": (2, 5, 9, 9)},
    ),
    "chain_sum_of_two_convolutions": (
        layer("a", "Convolution", "data", "", "convolution_param { num_output: 18 kernel_size: 1 }")
        + layer("b", "Convolution", "data", "", "convolution_param { num_output: 18 kernel_size: 1 }")
        + layer("sum", "Eltwise", "a b")
        + layer("relu", "ReLU", "sum", "sum")
        + layer("pool", "Pooling", "sum", "", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"),
        {"data": (2, 5, 8, 8)},
    ),
    "chain_two_shortcuts": (  # the first sum is read by the block behind it and by the second sum
        layer("a", "Convolution", "data", "", "convolution_param { num_output: 16 kernel_size: 3 pad: 1 }")
        + layer("sum1", "Eltwise", "data a")
        + layer("relu1", "ReLU", "sum1", "sum1")
        + layer("b", "Convolution", "sum1", "", "convolution_param { num_output: 16 kernel_size: 3 pad: 1 }")
        + layer("sum2", "Eltwise", "sum1 b")
        + layer("relu2", "ReLU", "sum2", "sum2")
        + layer("fc", "InnerProduct", "sum2", "", "inner_product_param { num_output: 3 }"),
        {"data": (2, 16, 7, 7)},
    ),
    "chain_preactivation": (
        layer("bn", "BatchNorm", "data", "bn", STORED)
        + layer("scale", "Scale", "bn", "bn", "scale_param { bias_term: true }")
        + layer("relu", "ReLU", "bn", "bn")
        + convolution("num_output: 20 kernel_size: 3 pad: 1 bias_term: false", "bn")
        + layer("sum", "Eltwise", "data conv"),
        {"data": (2, 20, 7, 7)},
    ),
    "chain_softmax": (
        convolution("num_output: 5 kernel_size: 1")
        + layer("flat", "Reshape", "conv", "", "reshape_param { shape { dim: 0 dim: 0 dim: 36 } }")
        + layer("softmax", "Softmax", "flat", "", "softmax_param { axis: 2 }")
        + layer("map", "Reshape", "softmax", "", "reshape_param { shape { dim: 0 dim: 0 dim: 6 dim: 6 } }")
        + layer("gate", "Sigmoid", "conv")
        + layer("product", "Eltwise", "map gate", "", "eltwise_param { operation: PROD }"),
        {"data": (2, 7, 6, 6)},
    ),
    "lstm": (lstm(), {"data": (5, 3, 3, 4), "cont": (5, 3)}),
    "lstm_one_step_of_one": (lstm(), {"data": (1, 1, 5), "cont": (1, 1)}),
    "lstm_wide": (lstm(width=1000), {"data": (2, 66, 20), "cont": (2, 66)}),
    "lstm_with_a_static_input": (lstm("data cont still"), {"data": (3, 4, 5), "cont": (3, 4), "still": (4, 7)}),
    "lstm_with_its_memory_outside": (
        lstm("data cont h c", "lstm last_h last_c", more="expose_hidden: true"),
        {"data": (2, 4, 5), "cont": (2, 4), "h": (1, 4, 6), "c": (1, 4, 6)},
    ),
    "lstm_unit": (
        layer("unit", "LSTMUnit", "data gates cont", "c h"),
        {"data": (1, 3, 37), "gates": (1, 3, 148), "cont": (1, 3)},
    ),
    "rnn": (
        layer("rnn", "RNN", "data cont", "", "recurrent_param { num_output: 6 }"),
        {"data": (4, 3, 5), "cont": (4, 3)},
    ),
    "inner_product": (inner_product(""), {"data": (70, 6, 50)}),
    "inner_product_of_a_sequence": (inner_product("axis: 2"), {"data": (5, 70, 50)}),
    "inner_product_of_a_short_sequence": (inner_product("axis: 2"), {"data": (1, 16, 400)}),
    "inner_product_of_a_sequence_turned": (inner_product("axis: -1 transpose: true"), {"data": (5, 70, 50)}),
}  # fmt: skip


def forth_and_back(record: Record, name: str, phase: str) -> None:
    """One net, twice: what the first pass leaves behind must not show in the second."""
    layers, inputs = NETS[name]
    net = build(text_net(layers, **inputs), phase)
    for turn in ("first ", "second "):
        record.pass_through(net, turn)


def ties(record: Record) -> None:
    """Equal values in a window, zeros at a rectifier: the gradient goes where Caffe sends it."""
    pool = layer("pool", "Pooling", "data", "", "pooling_param { kernel_size: 3 stride: 2 }")
    net = build(text_net(pool, data=(2, 3, 8, 8)), "train")
    net.blobs["data"].data[...] = np.random.default_rng(0).integers(0, 2, (2, 3, 8, 8))
    record.pass_through(net, "pool ")
    net = build(text_net(layer("relu", "ReLU", "data", "data"), data=(2, 3, 8, 8)), "train")
    net.blobs["data"].data[...] = np.random.default_rng(0).integers(-1, 2, (2, 3, 8, 8))
    record.pass_through(net, "relu ")


def far_from_zero(record: Record) -> None:
    """Exponentials that are nothing, or more than a number holds."""
    values = np.concatenate([sign * np.geomspace(1e-3, 1e4, 96) for sign in (-1, 1)]).astype(np.float32)
    for name, kind in (("softmax", "Softmax"), ("gate", "Sigmoid")):
        net = build(text_net(layer(name, kind, "data"), data=(4, 192)), "test")
        net.blobs["data"].data[...] = values * np.array([[1], [0.1], [0.01], [-1]])
        record.outputs(f"{name} ", **net.forward())


def not_a_number(record: Record) -> None:
    """NaN and infinity pass: training is stopped by them and must see them."""
    for name in (
        "relu",
        "chain_stored",
        "chain_residual",
        "conv_3x3",
        "pool_max",
        "pool_of_single_numbers",
        "softmax_of_few",
        "sigmoid",
        "eltwise_two",
        "conv_14x14_grouped",
        "lstm",
    ):
        layers, inputs = NETS[name]
        for value in (np.nan, np.inf):
            net = build(text_net(layers, **inputs), "test")
            net.blobs["data"].data[0, 1, 2, 2] = value
            found = net.forward()
            record.outputs(f"{name} {value} ", **{top: np.isfinite(values) for top, values in found.items()})


CASES = {
    f"{name}_{phase}": partial(forth_and_back, name=name, phase=phase) for name in NETS for phase in ("train", "test")
} | {"ties": ties, "far_from_zero": far_from_zero, "not_a_number": not_a_number}
