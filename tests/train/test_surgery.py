"""Strict weight copies: every layer accounted for, before Caffe could abort or stay silent."""

import numpy as np
import pytest

from pysrn.console import SrnError
from pysrn.nets.caffemodel import write_weights
from pysrn.nets.surgery import check_carried, check_unchanged, fingerprint, plan_copy

RNG = np.random.default_rng(0)
FILE = {"conv1": [RNG.random((2, 3, 1, 1))], "fc1000": [RNG.random((4, 2)), RNG.random(4)]}
NET = {"conv1": [(2, 3, 1, 1)], "cls_fc": [(5, 2), (5,)]}


def test_report_says_what_became_of_each_layer():
    report = plan_copy(NET, FILE, "file", may_initialise=["cls_fc"], may_leave=["fc1000"])
    assert (report.copied, report.initialised, report.unused) == (("conv1",), ("cls_fc",), ("fc1000",))
    text = "\n".join(report.lines())
    assert (
        "copied         1  conv1" in text and "initialised    1  cls_fc" in text and "unused         1  fc1000" in text
    )


@pytest.mark.parametrize(
    ("net", "may_initialise", "may_leave", "words"),
    [
        (NET, [], ["fc1000"], "1 layers of the net are not in it: cls_fc"),
        (NET, ["cls_fc"], [], "1 of its layers are unknown to the net: fc1000"),
        ({"conv1": [(2, 3, 3, 3)]}, [], ["fc1000"], "conv1 has blobs 2x3x1x1, the net wants 2x3x3x3"),
        ({"conv1": [(2, 3, 1, 1), (2,)]}, [], ["fc1000"], "the net wants 2x3x1x1 [+] 2"),
    ],
)
def test_anything_undeclared_is_refused_by_name(net, may_initialise, may_leave, words):
    with pytest.raises(SrnError, match=words):
        plan_copy(net, FILE, "file", may_initialise, may_leave)


def test_legacy_shapes_fit():
    legacy = {"fc": [np.zeros((1, 1, 5, 2)), np.zeros((1, 1, 1, 5))]}
    assert plan_copy({"fc": [(5, 2), (5,)]}, legacy, "file").copied == ("fc",)


class OneLayerNet:
    """What check_unchanged sees of a net: layer name -> arrays."""

    def __init__(self, values):
        self.params = {"conv1": [values]}


def test_one_flipped_bit_in_a_fixed_layer_is_found():
    start = RNG.random((2, 3)).astype(np.float32)
    assert check_unchanged(OneLayerNet(start.copy()), {"conv1": [start]}, ["conv1"]) == {"conv1": fingerprint([start])}
    moved = start.copy()
    moved.view(np.uint32)[1, 2] ^= 1
    with pytest.raises(SrnError, match="conv1"):
        check_unchanged(OneLayerNet(moved), {"conv1": [start]}, ["conv1"])


def test_one_flipped_bit_in_a_carried_layer_is_found_in_the_file(tmp_path):
    start = {"conv1": [RNG.random((2, 3)).astype(np.float32)], "cls_fc": [np.ones(4, np.float32)]}
    moved = start["conv1"][0].copy()
    moved.view(np.uint32)[1, 2] ^= 1
    for name, layers in (
        ("same", start),
        ("moved", {**start, "conv1": [moved]}),
        ("less", {"cls_fc": start["cls_fc"]}),
    ):
        write_weights(tmp_path / name, "net", {layer: ("Convolution", blobs) for layer, blobs in layers.items()})
    assert check_carried(tmp_path / "same", start, ["conv1"]) == {"conv1": fingerprint(start["conv1"])}
    for name in ("moved", "less"):
        with pytest.raises(SrnError, match="1 layers that this stage must not change have changed: conv1"):
            check_carried(tmp_path / name, start, [])
