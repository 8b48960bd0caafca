"""Where a map's cells lie: against what Caffe's own gradient of one cell reaches in the image."""

import numpy as np
import pytest

from pysrn.console import SrnError
from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import add_layer
from pysrn.nets.map_places import Places, Side, places_of
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.trunks.resnet import RELEASE, TRUNKS
from tests.srn import stages

HEADS = {"paper": HeadSpec(16, 16), "released": HeadSpec(16, 16, variant="released", confidence_width=16)}


def input_of(height, width, channels=1):
    net = messages.NetParameter(name="by hand", force_backward=True)
    add_layer(net, "data", "Input", [], input_param={"shape": [{"dim": [1, channels, height, width]}]})
    return net


def window(net, name, bottom, kind="Convolution", **parameters):
    if kind == "Pooling":
        return add_layer(net, name, kind, bottom, pooling_param={"pool": "AVE", **parameters})
    return add_layer(net, name, kind, bottom, convolution_param={"num_output": 2, "bias_term": False, **parameters})


def reached(message, blob, row, column):
    """First and last row, first and last column of the image that one cell's gradient reaches; the blob's H and W.

    All weights are positive, and averages stand for maxima, so that nothing cancels and nothing is left out.
    """
    net = messages.NetParameter(name=message.name, force_backward=True)
    end = max(i for i, layer in enumerate(message.layer) if blob in layer.top)
    net.layer.extend(message.layer[: end + 1])
    for layer in net.layer:
        if layer.type == "Pooling":
            layer.pooling_param.pool = layer.pooling_param.AVE
    net = make_net(net)
    random = np.random.default_rng(0)
    for name, blobs in net.params.items():
        kind = net.layers[list(net._layer_names).index(name)].type
        for i, weights in enumerate(blobs):
            if kind in ("BatchNorm", "Scale"):  # mean 0, variance 1, divisor 1; factor 1, shift 0
                weights.data[...] = (0.0, 1.0, 1.0)[i] if kind == "BatchNorm" else 1 - i
            else:
                size = max(1, np.prod(weights.data.shape[1:]))
                weights.data[...] = random.uniform(0.5, 1.5, weights.data.shape) / size
    net.blobs["data"].data[...] = random.uniform(0.5, 1.5, net.blobs["data"].data.shape)
    net.forward()
    diffs = {name: np.zeros_like(net.blobs[name].data) for name in net.outputs}
    diffs[blob][0, :, row, column] = 1e6
    net.backward(**diffs)
    rows, columns = net.blobs["data"].diff[0].any(axis=0).nonzero()
    return (rows.min(), rows.max()), (columns.min(), columns.max()), net.blobs[blob].data.shape[2:]


def check_against_gradient(message, blob, cells):
    """The places of a blob and of some cells of it, the image's border included."""
    places = places_of(message, blob)
    for row, column in cells:
        *found, shape = reached(message, blob, row, column)
        assert shape == (places.vertical.cells, places.horizontal.cells)
        for side, cell, (first, last) in zip((places.vertical, places.horizontal), (row, column), found, strict=True):
            low, high = side.first + side.stride * cell, side.last + side.stride * cell
            assert (first, last) == (max(0, low), min(side.pixels - 1, high)), (row, column)
            if low >= 0 and high < side.pixels:  # a whole field: its middle is where the cell lies
                assert side.offset + side.stride * cell == (first + last + 1) / 2
    return places


@pytest.mark.parametrize("variant", HEADS)
@pytest.mark.parametrize("trunk", [name for name in TRUNKS if name.startswith("resnet14")])
def test_maps_lie_where_their_gradient_reaches(trunk, variant):
    net = stages.deploy_net(trunk, 3, HEADS[variant])
    top = next(layer.bottom[0] for layer in net.layer if layer.name == "pool5")
    offset = 2.5 if TRUNKS[trunk].family == RELEASE else 0.5
    for blob, stride in (("att_conv3", 16), ("conf_map", 16), (top, 32)):
        middle = 112 // stride
        places = check_against_gradient(net, blob, [(middle, middle), (middle, middle - 1), (0, 224 // stride - 1)])
        assert [(side.stride, side.offset) for side in (places.vertical, places.horizontal)] == [(stride, offset)] * 2
        assert not places.uneven


@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_trunk(trunk):
    """The figures of D15; A and U lie where the features do, though a softmax sees all positions."""
    net = stages.deploy_net(trunk, 3, HEADS["paper"])
    for blob in ("att_map", "sr_map", "conf_map"):
        y, x = places_of(net, blob).centres()
        expected = 16 * np.arange(14) + (2.5 if TRUNKS[trunk].family == RELEASE else 0.5)
        np.testing.assert_allclose(224 * y, expected)
        np.testing.assert_allclose(224 * x, expected)


@pytest.mark.parametrize(
    ("height", "width", "layers"),
    [
        (40, 57, [("Convolution", {"kernel_size": [3], "stride": [2], "dilation": [3]})]),
        (40, 57, [("Convolution", {"kernel_h": 5, "kernel_w": 2, "stride_h": 3, "stride_w": 1, "pad_h": 1})]),
        (40, 57, [("Convolution", {"kernel_size": [3, 5], "stride": [2, 3], "pad": [0, 4]})]),
        (40, 57, [("Convolution", {"kernel_size": [4], "pad": [1]}), ("Pooling", {"kernel_size": 2, "stride": 2})]),
        (41, 58, [("Pooling", {"kernel_size": 3, "stride": 2}), ("Pooling", {"kernel_size": 2, "stride": 3})]),
        (41, 58, [("Pooling", {"kernel_size": 3, "stride": 2, "pad": 1, "round_mode": "FLOOR"})]),
        (42, 59, [("Pooling", {"kernel_h": 3, "kernel_w": 2, "stride_h": 1, "stride_w": 2, "pad_h": 1, "pad_w": 1})]),
        (12, 9, [("Convolution", {"kernel_size": [3]}), ("Pooling", {"global_pooling": True})]),
    ],
)
def test_windows_of_any_kind(height, width, layers):
    net, bottom = input_of(height, width), "data"
    for number, (kind, parameters) in enumerate(layers):
        bottom = window(net, f"layer{number}", bottom, kind, **parameters)
    places = places_of(net, bottom)
    rows, columns = places.vertical.cells, places.horizontal.cells
    check_against_gradient(net, bottom, {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)})


@pytest.mark.parametrize("kind", ["Eltwise", "Concat"])
def test_branches_are_seen_together(kind):
    net = input_of(48, 48)
    left = window(net, "left", "data", kernel_size=[2], stride=[2])  # pixels 2 i, 2 i + 1
    right = window(net, "right", "data", kernel_size=[7], stride=[2], pad=[3])  # 2 i - 3 to 2 i + 3
    right = window(net, "deeper", right, kernel_size=[3], pad=[1])  # 2 i - 5 to 2 i + 5
    add_layer(net, "both", kind, [left, right])
    add_layer(net, "relu", "ReLU", "both", "both")
    places = check_against_gradient(net, "both", [(10, 11), (0, 23)])
    assert (places.vertical.first, places.vertical.last, places.vertical.offset) == (-5, 5, 0.5)
    assert places.uneven == ("both: left, deeper",)
    assert places_of(net, "left").uneven == () and places_of(net, "left").vertical.offset == 1


def test_rows_and_columns_taken_apart():
    """Slices and crops keep the cells where they were: ceil pooling, its last row and column cut off, is floor's."""
    net = input_of(40, 41)
    pooled = window(net, "pool", "data", "Pooling", kernel_size=3, stride=2, pad=1)
    assert places_of(net, pooled).vertical.cells == 21
    add_layer(net, "rows", "Slice", pooled, "rows", slice_param={"axis": 2, "slice_point": [2, 20]})
    net.layer[-1].top.extend(["middle", "rest"])
    add_layer(net, "columns", "Slice", "middle", "columns", slice_param={"axis": 3})
    net.layer[-1].top.extend(["second", "third"])
    small = window(net, "small", "data", kernel_size=[1], stride=[3])
    add_layer(net, "crop", "Crop", [pooled, small], crop_param={"axis": 2, "offset": [3, 5]})
    add_layer(net, "end to end", "Concat", ["rows", "rest"], concat_param={"axis": 2})
    for blob, cells in (("middle", (18, 21)), ("second", (18, 7)), ("rows", (2, 21)), ("crop", (14, 14))):
        places = check_against_gradient(net, blob, [(0, 0), (1, 3)])
        assert (places.vertical.cells, places.horizontal.cells) == cells
    with pytest.raises(SrnError, match=r"layer end to end \(Concat\) leaves no places"):
        places_of(net, "end to end")


def test_centres_are_fractions_of_each_side():
    places = Places(Side(100, 2, 40, 9, 20), Side(50, 3, 10, 0, 0))
    y, x = places.centres()
    np.testing.assert_allclose(y, [0.15, 0.55])
    np.testing.assert_allclose(x, [0.01, 0.21, 0.41])


def test_what_has_no_place_is_refused():
    net = input_of(12, 12)
    window(net, "conv", "data", kernel_size=[3])  # 10 x 10
    window(net, "half", "conv", kernel_size=[2], stride=[2])
    add_layer(net, "fc", "InnerProduct", "conv", inner_product_param={"num_output": 4})
    add_layer(net, "behind", "ReLU", "fc")
    add_layer(net, "flat", "Reshape", "conv", reshape_param={"shape": {"dim": [0, 0, 100]}})
    add_layer(net, "again", "Reshape", "flat", reshape_param={"shape": {"dim": [0, 0, 10, 10]}})
    add_layer(net, "other", "Reshape", "flat", reshape_param={"shape": {"dim": [0, 0, 5, 20]}})
    add_layer(net, "sum", "Eltwise", ["conv", "half"])
    assert places_of(net, "again") == places_of(net, "conv")
    for blob, reason in (
        ("behind", r"layer fc \(InnerProduct\) leaves no places"),
        ("other", r"layer other \(Reshape\) leaves no places"),
        ("sum", "the branches of layer sum have other strides"),
        ("nothing", "it is not there"),
    ):
        with pytest.raises(SrnError, match=f"the cells of {blob} of by hand lie cannot be told: {reason}"):
            places_of(net, blob)
