"""The wiring that other tools read: the same numbers in Caffe, in layers that OpenCV's importer knows."""

import numpy as np
import pytest

from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import add_layer
from pysrn.nets.portable import blob_shapes, portable
from pysrn.systems.srn.heads import HeadSpec
from tests.srn import MAPS, SCORES, check_images, stages

# Of the layers that OpenCV 4's Caffe importer takes (modules/dnn: init.cpp, caffe_importer.cpp), those used here.
KNOWN = {
    "Input", "Convolution", "BatchNorm", "Scale", "ReLU", "Pooling", "Eltwise", "InnerProduct", "Reshape", "Softmax",
    "Sigmoid", "Power", "Flatten",
}  # fmt: skip
RELEASED = HeadSpec(16, 16, 2, variant="released", confidence_width=16)
NETS = [("resnet14", HeadSpec(16, 16)), ("resnet14_v15", HeadSpec(16, 16)), ("resnet14_preact", RELEASED)]


@pytest.mark.parametrize(("trunk", "heads"), NETS)
def test_deploy_net(trunk, heads):
    ours = stages.deploy_net(trunk, 5, heads, batch_size=2)
    theirs = portable(ours)
    assert {layer.type for layer in theirs.layer} <= KNOWN
    assert not any(layer.pooling_param.HasField("round_mode") for layer in theirs.layer)
    assert stages.parameter_layers(theirs) == stages.parameter_layers(ours)
    first, second = make_net(ours), make_net(theirs)
    statistics = {layer.name for layer in ours.layer if layer.type == "BatchNorm"}
    for message, net in ((ours, first), (theirs, second)):
        made = {name: tuple(blob.shape) for name, blob in net.blobs.items() if "_split_" not in name}
        assert blob_shapes(message) == made
    for name, blobs in first.params.items():
        if name in statistics:
            blobs[1].data[...] = blobs[2].data[...] = 1
        for blob, copy in zip(blobs, second.params[name], strict=True):
            copy.data[...] = blob.data
    for net in (first, second):
        net.blobs["data"].data[...] = check_images(2)
        net.forward()
    for name in (*SCORES, *MAPS, "pool1"):
        expected, found = first.blobs[name].data, second.blobs[name].data
        if name == "score_att":
            np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
        else:
            assert np.ptp(expected) > 0
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("side", [5, 6, 7, 8, 112, 113])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (3, 3, 1), (4, 2, 1), (5, 2, 2), (3, 2, 0)])
def test_pooling_by_the_floor_rule(side, kernel, stride, pad):
    net = messages.NetParameter()
    add_layer(net, "data", "Input", [], input_param={"shape": [{"dim": [1, 2, side, side]}]})
    rule = {"kernel_size": kernel, "stride": stride, "pad": pad, "pool": "MAX", "round_mode": "FLOOR"}
    add_layer(net, "pool", "Pooling", "data", pooling_param=rule)
    if (kernel, pad) != (3, 1) and (side + 2 * pad - kernel) % stride:  # the ceil rule has a window that is not wanted
        with pytest.raises(ValueError, match="pool"):
            portable(net)
        return
    theirs = portable(net)
    values = np.random.default_rng(side).normal(0, 1, (1, 2, side, side))
    found = []
    for message in (net, theirs):
        made = make_net(message)
        made.blobs["data"].data[...] = values
        made.forward()
        found.append(made.blobs["pool"].data.copy())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("told", [{"operation": "MEAN", "axis": 2}, {"operation": "SUM", "axis": 1}])
def test_other_reductions_are_refused(told):
    net = messages.NetParameter()
    add_layer(net, "data", "Input", [], input_param={"shape": [{"dim": [1, 2, 3, 4]}]})
    add_layer(net, "sum", "Reduction", "data", reduction_param=told)
    with pytest.raises(ValueError, match="sum"):
        portable(net)


def test_sum_takes_the_area_from_the_net():
    net = messages.NetParameter()
    add_layer(net, "data", "Input", [], input_param={"shape": [{"dim": [1, 2, 3, 5]}]})
    add_layer(net, "sum", "Reduction", "data", reduction_param={"operation": "SUM", "axis": 2, "coeff": 0.5})
    values = np.random.default_rng(0).normal(0, 1, (1, 2, 3, 5))
    for message in (net, portable(net)):
        made = make_net(message)
        made.blobs["data"].data[...] = values
        made.forward()
        np.testing.assert_allclose(made.blobs["sum"].data, 0.5 * values.sum((2, 3)), rtol=1e-5)
