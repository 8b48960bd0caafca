"""What no later stride reads is not computed, and what is read stays the same."""

import numpy as np
import pytest

from pysrn.nets import messages
from pysrn.nets.forward_net import ForwardNet
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import Learning, add_input, add_layer, convolution, relu
from pysrn.nets.strides import move_strides_up

KEEPS = Learning()


def block(net, name, bottom, channels, stride=1, project=False):
    """A residual block of three convolutions, as folded: its stride in the first, and in the one of its shortcut."""
    shortcut = convolution(net, f"{name}_1", bottom, channels, 1, KEEPS, stride=stride) if project else bottom
    top = convolution(net, f"{name}_2a", bottom, 4, 1, KEEPS, stride=stride)
    relu(net, f"{name}_2a_relu", top)
    top = convolution(net, f"{name}_2b", top, 4, 3, KEEPS, pad=1)
    relu(net, f"{name}_2b_relu", top)
    top = convolution(net, f"{name}_2c", top, channels, 1, KEEPS)
    add_layer(net, name, "Eltwise", [shortcut, top])
    relu(net, f"{name}_relu", name)
    return name


def two_groups(height, width, stride=2):
    """Blocks a, b, and c, which begins with a stride and a projection."""
    net = messages.NetParameter(name="groups")
    top = add_input(net, "data", (2, 3, height, width))
    top = block(net, "a", top, 16, project=True)
    top = block(net, "b", top, 16)
    block(net, "c", top, 16, stride, project=True)
    return net


def computed(net, weights, images):
    """The last blob, of a net with these weights: layer -> arrays."""
    made = make_net(net)
    for name, blobs in weights.items():
        for blob, values in zip(made.params[name], blobs, strict=True):
            blob.data[...] = values
    made.blobs["data"].data[...] = images
    made.forward()
    return made.blobs[net.layer[-1].top[0]].data.copy(), {name: blob.data.shape for name, blob in made.blobs.items()}


def both(net, kept=(), seed=0):
    """The output without and with moved strides, and the shapes with them."""
    rng, made = np.random.default_rng(seed), make_net(net)
    weights = {
        name: [rng.normal(0, 0.3, blob.data.shape).astype(np.float32) for blob in blobs]
        for name, blobs in made.params.items()
    }
    images = rng.normal(size=made.blobs["data"].data.shape).astype(np.float32)
    before, moved = net.SerializeToString(), move_strides_up(net, kept)
    assert net.SerializeToString() == before
    expected, shapes_before = computed(net, weights, images)
    found, shapes = computed(moved, weights, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.ptp(expected) > 0.1
    named = {top for layer in moved.layer for top in layer.top}  # Caffe adds copies of what several layers read
    return {name: shape for name, shape in shapes.items() if name in named and shape != shapes_before.get(name)}


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (10, 11), (2, 3)])
@pytest.mark.parametrize("stride", [2, 3])
def test_the_last_block_of_a_group_computes_what_the_next_one_reads(size, stride):
    changed = both(two_groups(*size, stride))
    fewer = tuple(-(-one // stride) for one in size)
    channels = {"b": 16, "b_2b": 4, "b_2c": 16, f"a_strided{stride}": 16}
    assert changed == {name: (2, count, *fewer) for name, count in channels.items()}


def test_a_stride_moves_through_several_blocks_where_nobody_reads_more():
    net = messages.NetParameter(name="chain")
    top = add_input(net, "data", (1, 3, 12, 12))
    top = convolution(net, "first", top, 8, 3, KEEPS, pad=1)
    top = convolution(net, "second", top, 8, 1, KEEPS)
    relu(net, "second_relu", top)
    top = convolution(net, "third", top, 8, 1, KEEPS, stride=2)
    convolution(net, "fourth", top, 8, 1, KEEPS, stride=2)
    changed = both(net)
    assert changed["first"] == changed["second"] == changed["third"] == (1, 8, 3, 3)


def test_what_is_kept_is_computed_whole():
    assert both(two_groups(8, 8), ["b"]) == {}
    assert both(two_groups(8, 8), ["b_2c"]).keys() == {"b", "a_strided2", "b_2c_strided2"}


@pytest.mark.parametrize(
    "change",
    [
        lambda net: add_layer(net, "other", "ReLU", "b"),
        lambda net: convolution(net, "other", "b", 4, 3, KEEPS, pad=1),
        lambda net: convolution(net, "other", "b", 4, 1, KEEPS, stride=4),
        lambda net: convolution(net, "other", "b", 4, 1, KEEPS),
        lambda net: convolution(net, "other", "b", 4, 1, KEEPS, pad=1, stride=2),
        lambda net: convolution(net, "other", "b", 4, 3, KEEPS, stride=2),
        lambda net: uneven(net, "other", "b"),
        lambda net: add_layer(net, "other", "Pooling", "b", pooling_param={"kernel_size": 2, "stride": 2}),
    ],
)
def test_whoever_else_reads_it_reads_all_of_it(change):
    net = two_groups(8, 8)
    change(net)
    assert move_strides_up(net, ["c"]) == net


def uneven(net, name, bottom):
    """A 1 x 1 convolution with two strides."""
    convolution(net, name, bottom, 4, 1, KEEPS)
    parameters = net.layer[-1].convolution_param
    parameters.ClearField("stride")
    parameters.stride_h, parameters.stride_w = 2, 1


@pytest.mark.parametrize(("kind", "moves"), [("Scale", True), ("ReLU", True), ("LRN", False)])
def test_in_place_layers_that_look_at_one_place_let_a_stride_through(kind, moves):
    net = messages.NetParameter(name="chain")
    top = convolution(net, "first", add_input(net, "data", (1, 3, 8, 8)), 8, 1, KEEPS)
    add_layer(
        net, "between", kind, top, top, **({"lrn_param": {"norm_region": "WITHIN_CHANNEL"}} if kind == "LRN" else {})
    )
    convolution(net, "last", top, 8, 1, KEEPS, stride=2)
    if moves:
        assert both(net) == {"first": (1, 8, 4, 4)}
    else:
        assert move_strides_up(net, []) == net


def test_a_blob_that_several_sums_add_is_made_smaller_once():
    """Two sums read it, one of them twice."""
    net = messages.NetParameter(name="sums")
    top = convolution(net, "first", add_input(net, "data", (1, 3, 9, 8)), 8, 3, KEEPS, pad=1)
    for name, bottoms in (("a", [top, top]), ("b", [top, top, top])):
        add_layer(net, f"{name}_sum", "Eltwise", bottoms)
        convolution(net, name, f"{name}_sum", 4, 1, KEEPS, stride=2)
    add_layer(net, "both", "Eltwise", ["a", "b"])
    changed = both(net)
    assert changed == {"first_strided2": (1, 8, 5, 4), "a_sum": (1, 8, 5, 4), "b_sum": (1, 8, 5, 4)}


def test_a_blob_that_one_sum_alone_reads_twice_keeps_its_numbers():
    net = messages.NetParameter(name="twice")
    top = convolution(net, "first", add_input(net, "data", (1, 3, 9, 8)), 8, 3, KEEPS, pad=1)
    add_layer(net, "sum", "Eltwise", [top, top])
    convolution(net, "last", "sum", 4, 1, KEEPS, stride=2)
    assert both(net)["sum"] == (1, 8, 5, 4)


@pytest.mark.parametrize(("kept", "shape"), [((), (2, 16, 4, 4)), (("b",), (2, 16, 8, 8)), (None, (2, 16, 8, 8))])
def test_nets_that_only_compute_have_their_strides_moved(kept, shape):
    net = two_groups(8, 8)
    weights = {name: [np.zeros(blob.shape) for blob in blobs] for name, blobs in make_net(net).params.items()}
    assert tuple(ForwardNet(net, weights, "zeros", kept=kept).net.blobs["b"].shape) == shape


def test_other_layers_keep_their_places():
    net = messages.NetParameter(name="pooled")
    top = add_input(net, "data", (1, 3, 9, 9))
    top = add_layer(net, "pool", "Pooling", top, pooling_param={"kernel_size": 3, "stride": 1})
    convolution(net, "last", top, 8, 1, KEEPS, stride=2)
    assert move_strides_up(net, []) == net
