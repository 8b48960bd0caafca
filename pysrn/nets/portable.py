"""A deploy net in the layers that other readers of Caffe's nets know, too: OpenCV's dnn (4.x), converters.

| in our nets                   | unknown there | in its place                                               |
|-------------------------------|---------------|------------------------------------------------------------|
| a sum over all positions      | `Reduction`   | mean (global Pooling), times H x W (Power), Flatten        |
| max pooling by the floor rule | `round_mode`  | 2 x 2 at stride 1, then one smaller by the ceil rule       |

Layers with weights stay as they are: the same caffemodel fills both. Max pooling gives the same bits, the sum differs
by its rounding. Our own prediction runs the net as it is trained, so that its bytes stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pysrn.nets import messages
from pysrn.nets.layers import add_layer

Shape = tuple[int, ...]
# Layers whose top has the shape of their first bottom.
KEEPING = ("BatchNorm", "Bias", "Dropout", "Eltwise", "Power", "ReLU", "Scale", "Sigmoid", "Softmax", "Split", "TanH")


def portable(net: messages.NetParameter) -> messages.NetParameter:
    """The same net in such layers; ValueError where none is known in a layer's place."""
    shapes = blob_shapes(net)
    result = messages.copy_of(net)
    del result.layer[:]
    for layer in net.layer:
        if layer.type == "Reduction" and len(shapes.get(layer.bottom[0], ())) == 4:
            _add_sum(result, layer, shapes[layer.bottom[0]])
        elif layer.type == "Pooling" and layer.pooling_param.HasField("round_mode"):
            _add_pooling(result, layer, shapes[layer.bottom[0]], shapes[layer.top[0]])
        else:
            result.layer.add().CopyFrom(layer)
    return result


def as_portable_as_can_be(net: messages.NetParameter) -> messages.NetParameter:
    """The net in such layers, or the net itself where one has no counterpart: then only Caffe reads it."""
    try:
        return portable(net)
    except ValueError:
        return net


def _add_sum(net: messages.NetParameter, layer: messages.LayerParameter, before: tuple[int, ...]) -> None:
    told = layer.reduction_param
    if told.operation != told.SUM or told.axis != 2:
        raise ValueError(f"{layer.name}: only a sum over the positions of maps is known in other layers")
    everywhere = {"pool": "AVE", "global_pooling": True}
    mean = add_layer(net, f"{layer.name}_mean", "Pooling", layer.bottom[0], pooling_param=everywhere)
    scale = told.coeff * before[2] * before[3]
    total = add_layer(net, f"{layer.name}_sum", "Power", mean, power_param={"scale": scale})
    add_layer(net, layer.name, "Flatten", total, layer.top[0])


def _add_pooling(
    net: messages.NetParameter, layer: messages.LayerParameter, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """The greatest of k in a row is the greatest of k - 1 that each are the greater of two neighbours.

    The map between is one smaller, so that the ceil rule's last window begins behind it, and is left out.
    """
    told = layer.pooling_param

    def comes_to_the_same(kernel: int, smaller: int = 0) -> bool:
        return list(after[2:]) == [pooled_side(side - smaller, kernel, told.stride, told.pad) for side in before[2:]]

    bottom, kernel = layer.bottom[0], told.kernel_size
    if not comes_to_the_same(kernel):
        kernel -= 1
        if told.pool != told.MAX or told.pad >= kernel or not comes_to_the_same(kernel, smaller=1):
            raise ValueError(f"{layer.name}: no pooling by the ceil rule is known that does the same")
        pair = {"kernel_size": 2, "stride": 1, "pool": "MAX"}
        bottom = add_layer(net, f"{layer.name}_pairs", "Pooling", bottom, pooling_param=pair)
    new = net.layer.add()
    new.CopyFrom(layer)
    new.bottom[0], new.pooling_param.kernel_size = bottom, kernel
    new.pooling_param.ClearField("round_mode")


def say_global(net: messages.NetParameter, known: Mapping[str, Shape]) -> None:
    """Write every mean over a whole map as global pooling: Caffe computes the same. `known`: shapes of what is fed."""
    shapes = blob_shapes(net, known)
    for layer in net.layer:
        told, sides = layer.pooling_param, shapes.get(layer.bottom[0], ())[2:] if layer.bottom else ()
        if layer.type == "Pooling" and told.pool == told.AVE and not told.pad and set(sides) == {told.kernel_size}:
            told.Clear()
            told.pool, told.global_pooling = told.AVE, True


def blob_shapes(net: messages.NetParameter, known: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
    """Blob -> shape; without what is behind a layer of an unknown kind. What no Input layer feeds has to be `known`."""
    shapes = dict(known or {})
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
