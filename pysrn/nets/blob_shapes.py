"""Shapes of a net's blobs, computed from its layers by Caffe's rules, without Caffe."""

from __future__ import annotations

import math

from pysrn.nets import messages

Shape = tuple[int, ...]
# Layers whose top has the shape of their first bottom.
KEEPING = ("BatchNorm", "Bias", "Dropout", "Eltwise", "Power", "ReLU", "Scale", "Sigmoid", "Softmax", "Split", "TanH")


def blob_shapes(net: messages.NetParameter) -> dict[str, Shape]:
    """Blob -> shape, of a net that begins with Input layers; without what is behind a layer of an unknown kind."""
    shapes: dict[str, Shape] = {}
    for layer in net.layer:
        before = shapes.get(layer.bottom[0]) if layer.bottom else ()
        if before is not None and (shape := _top_shape(layer, before)) is not None:
            shapes.update(dict.fromkeys(layer.top, shape))
    return shapes


def pooled_side(side: int, kernel: int, stride: int, pad: int, floor: bool = False) -> int:
    """How many windows a pooling has along a side; by the ceil rule none begins behind it (pooling_layer.cpp)."""
    count = (side + 2 * pad - kernel) / stride
    count = 1 + (math.floor(count) if floor else math.ceil(count))
    return count - 1 if pad and (count - 1) * stride >= side + pad else count


def _top_shape(layer: messages.LayerParameter, before: Shape) -> Shape | None:
    if layer.type == "Input":
        return tuple(layer.input_param.shape[0].dim)
    if layer.type == "Convolution":
        told = layer.convolution_param
        kernel, stride, pad = told.kernel_size[0], (*told.stride, 1)[0], (*told.pad, 0)[0]
        return (before[0], told.num_output, *((side + 2 * pad - kernel) // stride + 1 for side in before[2:]))
    if layer.type == "Pooling":
        told = layer.pooling_param
        if told.global_pooling:
            return (*before[:2], 1, 1)
        rule = told.kernel_size, told.stride, told.pad, told.round_mode == told.FLOOR
        return (*before[:2], *(pooled_side(side, *rule) for side in before[2:]))
    if layer.type == "InnerProduct":
        return (*before[: layer.inner_product_param.axis], layer.inner_product_param.num_output)
    if layer.type == "Flatten":
        return before[0], math.prod(before[1:])
    if layer.type == "Reduction":
        return before[: layer.reduction_param.axis]
    if layer.type == "Reshape":
        asked = [before[i] if size == 0 else size for i, size in enumerate(layer.reshape_param.shape.dim)]
        known = -math.prod(asked)
        return tuple(math.prod(before) // known if size == -1 else size for size in asked)
    return before if layer.type in KEEPING else None
