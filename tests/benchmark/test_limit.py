"""The limit: operations that are counted by hand, and that of a ResNet-101; the arithmetic; and its line."""

import json

import pytest

from pysrn.benchmark import speed
from pysrn.benchmark.limit import COPY_BYTES, PRODUCT_OPERATIONS, limit_of, passes
from pysrn.benchmark.plan import Plan
from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net
from pysrn.systems.stage_nets import recipe_deploy_net
from tests.caffe.running import layer, text_net

SHORT = {"rounds": 2, "threads": 1, "compiled": False, "stock": False, "round_seconds": 0.01, "trunk": "resnet14"}
CONVOLUTION = "convolution_param { num_output: %d kernel_size: 3 pad: 1 bias_term: false }"


def test_passes_are_those_that_are_computed():
    """Nothing backward before what learns; no gradient of what the first layer that learns has read."""
    text = layer("fixed", "Convolution", "data", "", "param { lr_mult: 0 } " + CONVOLUTION % 8)
    text += layer("first", "Convolution", "fixed", "", CONVOLUTION % 4)
    text += layer("relu", "ReLU", "first", "first")
    text += layer("second", "Convolution", "first", "", "param { lr_mult: 0 } " + CONVOLUTION % 16)
    text += layer("product", "InnerProduct", "second", "", "inner_product_param { num_output: 10 bias_term: false }")
    message = messages.NetParameter.FromString(text_net(text, data=(2, 3, 5, 7)).SerializeToString())
    net = make_net(message, train=True)
    places = 2 * 5 * 7
    forward = {
        "fixed": 2 * places * 8 * 3 * 9,
        "first": 2 * places * 4 * 8 * 9,
        "second": 2 * places * 16 * 4 * 9,
        "product": 2 * 2 * 10 * 16 * 35,
    }
    moved = 4 * (places * 3 + 8 * 3 * 9 + places * 8)
    found = passes(net)
    assert {one.layer: one.operations for one in found} == forward and found[0].bytes == moved
    trained = [one.layer for one in passes(net, message)]
    assert {name: trained.count(name) for name in forward} == {"fixed": 1, "first": 2, "second": 2, "product": 3}


def test_an_image_through_resnet101_takes_sixteen_gflop():
    """16.4 by hand for the net of MS-COCO, trunk and heads: twice 7.8 (He et al., Table 1), and the heads."""
    net = make_net(recipe_deploy_net(Plan("inference").recipe()))
    assert sum(one.operations for one in passes(net)) == pytest.approx(16.4e9, rel=0.03)


def test_the_slower_of_two_speeds_counts_in_each_pass():
    work = [{"operations": 8e9, "bytes": 1}, {"operations": 1, "bytes": 3e9}]
    found = limit_of(work, [PRODUCT_OPERATIONS / 4e9] * 3, [COPY_BYTES / 1e9, 9, COPY_BYTES / 1e9])
    assert found["seconds"] == pytest.approx(5.0) and found["operations"] == 8e9 + 1


@pytest.mark.parametrize(
    ("part", "more"),
    [
        pytest.param("step", 1.0, marks=pytest.mark.slow),
        pytest.param("fixed", 0.0, marks=pytest.mark.slow),
        ("inference", 0.0),
    ],
)
def test_the_limit_is_measured_and_said(part, more):
    found = speed.measure(Plan(part, batch=2, **SHORT))
    limit, lines = found["limit"], "\n".join(speed.report_lines(found))
    assert "GFLOP/s" in lines and f"ours {found['seconds']['median']['ours'] / limit['seconds']:.2f} times" in lines
    assert set(found["seconds"]["median"]) == set(found["contestants"])
    net = make_net(recipe_deploy_net(Plan(part, trunk="resnet14").recipe()))
    forward = 2 * sum(one.operations for one in passes(net)) / net.blobs["data"].shape[0]
    assert forward * (1 + more) < limit["operations"] * 1.5 and limit["operations"] < forward * (3 + more)
    json.dumps(found)
