"""Computing only what a later stride reads: the same numbers, but for rounding, from fewer places.

A residual block whose output is read by 1 x 1 convolutions of stride 2 alone (the original ResNet ends three of its
four groups of blocks so) needs every second row and column of it. So the stride moves up: into the 3 x 3 convolution of
that block, and to what its shortcut adds.
"""

from __future__ import annotations

from collections.abc import Collection

from pysrn.nets import messages
from pysrn.nets.layers import add_layer

PASSES_THROUGH = ("ReLU", "Scale")  # place by place, where they are in place
SUFFIX = "_strided"  # of a blob's name, and the stride: where others read all of it


def move_strides_up(net: messages.NetParameter, kept: Collection[str]) -> messages.NetParameter:
    """A net that computes the blobs `kept` and its last layer's top, and of others what these need. `net` stays."""
    return _Moving(net, {*kept, net.layer[-1].top[0]}).net


class _Moving:
    def __init__(self, net: messages.NetParameter, kept: Collection[str]) -> None:
        self.net, self._kept = messages.copy_of(net), kept
        for layer in list(self.net.layer):
            stride = _step(layer) or 1
            if stride > 1 and self._can_skip(layer.bottom[0]):
                readers = self._readers(layer.bottom[0])
                if {_step(reader) for reader in readers} == {stride}:
                    self._skip(layer.bottom[0], stride)
                    for reader in readers:
                        _set_stride(reader, 1)

    def _readers(self, blob: str) -> list[messages.LayerParameter]:
        return [layer for layer in self.net.layer if blob in layer.bottom and blob not in layer.top]

    def _writers(self, blob: str) -> list[messages.LayerParameter]:
        return [layer for layer in self.net.layer if blob in layer.top]

    def _can_skip(self, blob: str) -> bool:
        """Whether nobody wants all of a blob, and what writes it has places that it need not compute."""
        first, *in_place = self._writers(blob)
        through = all(layer.type in PASSES_THROUGH and len(layer.bottom) == 1 for layer in in_place)
        sums = first.type == "Eltwise" or (first.type == "Convolution" and _stride(first) is not None)
        return sums and through and len(first.top) == 1 and blob not in self._kept

    def _skip(self, blob: str, stride: int) -> None:
        """Write every stride-th row and column of a blob alone."""
        first = self._writers(blob)[0]
        if first.type == "Convolution":
            if _step(first) == 1 and self._sole(first.bottom[0]):
                self._skip(first.bottom[0], stride)
            else:
                _set_stride(first, _stride(first) * stride)
            return
        for position, bottom in enumerate(first.bottom):
            if self._sole(bottom):
                self._skip(bottom, stride)
            else:
                first.bottom[position] = self._strided(bottom, stride)

    def _sole(self, blob: str) -> bool:
        uses = sum(list(layer.bottom).count(blob) for layer in self._readers(blob))
        return uses == 1 and self._can_skip(blob)

    def _strided(self, blob: str, stride: int) -> str:
        """A blob of every stride-th row and column of another one, made where that is there whole."""
        name, layers = f"{blob}{SUFFIX}{stride}", list(self.net.layer)
        if not self._writers(name):
            made = messages.NetParameter()
            pooling = {"pool": "AVE", "kernel_size": 1, "stride": stride, "round_mode": "FLOOR"}
            add_layer(made, name, "Pooling", blob, pooling_param=pooling)
            # not right before the sum: behind its convolution a chain of the engine's part `fusion` goes on
            self.net.layer.insert(1 + max(i for i, layer in enumerate(layers) if blob in layer.top), made.layer[0])
        return name


def _stride(convolution: messages.LayerParameter) -> int | None:
    """Of a convolution, where it is the same in both directions; else None."""
    own = convolution.convolution_param
    if own.HasField("stride_h") or own.HasField("stride_w") or len(own.stride) > 1:
        return None
    return own.stride[0] if own.stride else 1


def _step(layer: messages.LayerParameter) -> int | None:
    """The stride with which a 1 x 1 convolution without a border reads; None for any other layer."""
    own = layer.convolution_param
    if layer.type != "Convolution" or list(own.kernel_size) != [1] or any(own.pad) or own.pad_h or own.pad_w:
        return None
    return _stride(layer)


def _set_stride(convolution: messages.LayerParameter, stride: int) -> None:
    del convolution.convolution_param.stride[:]
    convolution.convolution_param.stride.append(stride)
