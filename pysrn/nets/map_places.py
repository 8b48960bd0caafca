"""Where the cells of a map lie in the image: computed from the net's own layers, from the images to the map (D15).

A cell lies at the middle of its receptive field. Each convolution and pooling moves that middle by its padding and half
its window, so it is seldom where an even grid over the image would have it: in the public ResNets cell i of the 14 x 14
features lies at pixel 16 i + 2.5 of 224, not at 16 i + 8. Pixels are counted from the image's edge: the first one's
middle is at 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from pysrn.console import SrnError
from pysrn.nets import messages

# Layers whose cell (i, j) stands for the same place as that of what they read.
# A softmax over the positions sees all of them, but gives each its own share.
KEEPING = (
    *("AbsVal", "BNLL", "BatchNorm", "Bias", "Dropout", "ELU", "Eltwise", "Exp", "LRN", "Log", "MVN"),
    *("PReLU", "Power", "ReLU", "Scale", "Sigmoid", "Softmax", "Split", "TanH", "Threshold"),
)
JOINING = ("Concat", "Crop", "Eltwise")  # all bottoms are maps; of other layers the first is


@dataclass(frozen=True)
class Side:
    """Cells along one side of the image: how many, their stride, and what the first sees.

    Cell i sees pixels `first` + `stride` i to `last` + `stride` i, both included and numbered from 0, in an image of
    `pixels`; those beyond its border are padding.
    """

    pixels: int
    cells: int
    stride: int = 1
    first: int = 0
    last: int = 0

    @property
    def offset(self) -> float:
        """Where cell 0 lies, in pixels from the image's edge; cell i lies `stride` i further."""
        return (self.first + self.last + 1) / 2

    def behind(self, cells: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> Side:
        """The cells of a layer that reads these through a window."""
        beyond = dilation * (kernel - 1) - pad
        first, last = self.first - self.stride * pad, self.last + self.stride * beyond
        return Side(self.pixels, cells, self.stride * stride, first, last)

    def part(self, start: int, cells: int) -> Side:
        """Some of these cells, from one on."""
        moved = self.stride * start
        return Side(self.pixels, cells, self.stride, self.first + moved, self.last + moved)


@dataclass(frozen=True)
class Places:
    """Cells of a map, along the image's height and its width.

    `uneven`: sums and concatenations on the way whose branches are centred apart, each as `layer: branch, branch`.
    Their cells see what any branch sees, and lie in the middle of that.
    """

    vertical: Side
    horizontal: Side
    uneven: tuple[str, ...] = ()

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the H rows and the W columns of cells lie, as fractions of the image's height and width."""
        sides = self.vertical, self.horizontal
        y, x = ((side.offset + side.stride * np.arange(side.cells)) / side.pixels for side in sides)
        return y, x


def places_of(net: messages.NetParameter, blob: str) -> Places:
    """The cells of a blob of a net that begins with an Input layer of N x 3 x H x W.

    SrnError where a layer on the way has no place in the image (a fully connected one), or none that is known.
    """
    found: dict[str, Places | str] = {}  # blob -> its cells, or why it has none
    for layer in net.layer:
        read = [found.get(name, f"{name} is not there") for name in layer.bottom]
        read = read if layer.type in JOINING else read[:1]
        reasons = [one for one in read if isinstance(one, str)]
        made = reasons[0] if reasons else _through(layer, read)
        found.update(zip(layer.top, made if isinstance(made, list) else [made] * len(layer.top), strict=True))
    places = found.get(blob, "it is not there")
    if isinstance(places, str):
        raise SrnError(f"where the cells of {blob} of {net.name} lie cannot be told: {places}")
    return places


def two_sides(parameters, name: str, default: int) -> tuple[int, int]:
    """(vertical, horizontal) of a field such as `kernel_size`, `stride` or `pad` of a convolution or pooling."""
    by_side = [f"{name.removesuffix('_size')}_{side}" for side in "hw"]
    if by_side[0] in parameters.DESCRIPTOR.fields_by_name and any(map(parameters.HasField, by_side)):
        return tuple(getattr(parameters, side) for side in by_side)
    given = getattr(parameters, name)
    if isinstance(given, int):
        return (given, given) if parameters.HasField(name) else (default, default)
    values = list(given) or [default]
    return values[0], values[-1]


def _through(layer, read: Sequence[Places]) -> Places | list[Places] | str:
    """What a layer makes of the cells that it reads, of all its tops or one by one, or why it makes none."""
    if layer.type == "Input":
        shape = layer.input_param.shape[0].dim
        return Places(*(Side(side, side) for side in shape[2:])) if len(shape) == 4 else f"{layer.name} is no image"
    if layer.type == "Convolution":
        parameters = layer.convolution_param
        return _windows(read[0], parameters, two_sides(parameters, "dilation", 1), ceil=False)
    if layer.type == "Pooling":
        parameters = layer.pooling_param
        if parameters.global_pooling:
            sides = [side.behind(1, side.cells, 1, 0) for side in (read[0].vertical, read[0].horizontal)]
            return Places(*sides, read[0].uneven)
        floor = parameters.DESCRIPTOR.enum_types_by_name["RoundMode"].values_by_name["FLOOR"].number
        return _windows(read[0], parameters, (1, 1), ceil=parameters.round_mode != floor)
    if layer.type == "Slice" and layer.slice_param.axis in (2, 3):
        return _sliced(layer, read[0])
    if layer.type == "Crop" and layer.crop_param.axis == 2:
        offsets = list(layer.crop_param.offset) or [0]
        cut = zip((offsets[0], offsets[-1]), (read[1].vertical, read[1].horizontal), strict=True)
        sides = zip((read[0].vertical, read[0].horizontal), cut, strict=True)
        return Places(*(side.part(start, like.cells) for side, (start, like) in sides), read[0].uneven)
    kept = layer.type in KEEPING
    kept |= layer.type in ("Concat", "Slice") and getattr(layer, f"{layer.type.lower()}_param").axis == 1
    kept |= layer.type == "Flatten" and layer.flatten_param.axis == 2
    kept |= layer.type == "Reshape" and _keeps(layer.reshape_param, read[0])
    if kept:
        return _joined(layer, read)
    return f"layer {layer.name} ({layer.type}) leaves no places"


def _windows(read: Places, parameters, dilation: tuple[int, int], ceil: bool) -> Places:
    """Cells of a convolution or pooling, as many as Caffe makes."""
    sides = []
    shape = (two_sides(parameters, name, default) for name, default in (("kernel_size", 0), ("stride", 1), ("pad", 0)))
    for side, kernel, stride, pad, apart in zip((read.vertical, read.horizontal), *shape, dilation, strict=True):
        room = side.cells + 2 * pad - apart * (kernel - 1) - 1
        cells = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and pad and (cells - 1) * stride >= side.cells + pad:
            cells -= 1  # Caffe, pooling_layer.cpp: the last window begins within the image
        sides.append(side.behind(cells, kernel, stride, pad, apart))
    return Places(*sides, read.uneven)


def _sliced(layer, read: Places) -> list[Places]:
    """Rows or columns of cells apart."""
    sides, axis = [read.vertical, read.horizontal], layer.slice_param.axis - 2
    cells, count = sides[axis].cells, len(layer.top)
    ends = [*layer.slice_param.slice_point, cells] if layer.slice_param.slice_point else []
    ends = ends or [cells // count * (number + 1) for number in range(count)]
    parts = [sides[axis].part(start, end - start) for start, end in pairwise([0, *ends])]
    return [Places(*sides[:axis], part, *sides[axis + 1 :], read.uneven) for part in parts]


def _keeps(parameters, read: Places) -> bool:
    """Whether a Reshape leaves the cells in their order: rows and columns as they are, or end to end."""
    if (parameters.axis, parameters.num_axes) != (0, -1):
        return False
    shape, grid = parameters.shape.dim, [read.vertical.cells, read.horizontal.cells]
    return list(shape[:2]) == [0, 0] and list(shape[2:]) in (grid, [prod(grid)], [-1])


def _joined(layer, read: Sequence[Places]) -> Places | str:
    """The union of what the branches of a sum, product or concatenation see."""
    uneven = tuple(dict.fromkeys(note for places in read for note in places.uneven))
    sides = []
    for branches in ([places.vertical for places in read], [places.horizontal for places in read]):
        if len({(side.stride, side.cells) for side in branches}) > 1:
            return f"the branches of layer {layer.name} have other strides"
        first, last = min(side.first for side in branches), max(side.last for side in branches)
        one = branches[0]
        sides.append(Side(one.pixels, one.cells, one.stride, first, last))
        if len({side.offset for side in branches}) > 1:
            uneven += (f"{layer.name}: {', '.join(layer.bottom)}",)
    return Places(*sides, tuple(dict.fromkeys(uneven)))
