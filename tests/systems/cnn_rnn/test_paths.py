"""Labels as paths: order, length, what the layer lets through to Caffe."""

import json

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import add_layer
from pysrn.systems.cnn_rnn.paths import order_of, paths_of

CLASSES = ("kite", "boat", "café", "dog")


def test_paths_by_hand():
    labels = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    inputs, kept, targets = paths_of(labels, (2, 0, 3, 1), 4)
    assert inputs.T.tolist() == [[4, 2, 0, 4], [4, 4, 4, 4], [4, 2, 0, 3]]
    assert targets.T.tolist() == [[2, 0, 4, -1], [4, -1, -1, -1], [2, 0, 3, 1]]
    assert kept.T.tolist() == [[0, 1, 1, 1]] * 3


def test_a_path_longer_than_the_net_loses_its_end_and_a_longer_net_waits():
    labels = np.ones((1, 4))
    assert paths_of(labels, range(4), 2)[2].T.tolist() == [[0, 1]]
    assert paths_of(labels, range(4), 7)[2].T.tolist() == [[0, 1, 2, 3, 4, -1, -1]]


def test_orders():
    counts = np.array([5, 9, 5, 1])
    assert order_of("frequent", CLASSES, counts) == (1, 0, 2, 3)
    assert order_of("rare", CLASSES, counts) == (3, 0, 2, 1)


def test_an_order_from_a_file(tmp_path):
    path = tmp_path / "order.txt"
    path.write_text("\ufeffdog\r\n\r\ncafé\nboat\n  kite \n", "utf-8")
    assert order_of(str(path), CLASSES, np.zeros(4)) == (3, 2, 1, 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"dog\ncat\n", "order.txt:2: cat is no label"),
        (b"dog\nkite\ndog\n", "order.txt:3: dog stands in line 1"),
        (b"dog\nkite\n", "2 labels are not in it, the first: boat"),
        (b"", "the file is empty"),
        (b"caf\xe9\n", "is no label"),
        (b"dog,kite,boat\n", "is no label"),
        (b"\x00" * 50, "without its mark"),
        (b"x" * 100000, "is no label"),
    ],
)
def test_what_is_wrong_with_a_file_of_an_order(tmp_path, content, words):
    path = tmp_path / "order.txt"
    path.write_bytes(content)
    with pytest.raises(SrnError) as caught:
        order_of(str(path), CLASSES, np.zeros(4))
    assert words in str(caught.value) and len(str(caught.value)) < 300 and caught.value.cure


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MissingError):
        order_of("alphabetic", CLASSES, np.zeros(4))
    with pytest.raises(MissingError):
        order_of(str(tmp_path), CLASSES, np.zeros(4))


def layer_net(told, classes=4):
    net = messages.NetParameter(name="sequence")
    add_layer(net, "label", "Input", [], input_param={"shape": [{"dim": [3, classes]}]})
    layer = {"module": "pysrn.systems.cnn_rnn.sequence_layer", "layer": "LabelSequence", "param_str": told}
    add_layer(net, "rnn_sequence", "Python", "label", "rnn_path", python_param=layer)
    net.layer[-1].top.extend(["rnn_cont", "rnn_target"])
    return make_net(net)


def test_the_layer_gives_paths():
    net = layer_net(json.dumps({"order": [2, 0, 3, 1], "steps": 3}))
    net.blobs["label"].data[...] = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    net.forward()
    assert net.blobs["rnn_target"].data.T.tolist() == [[2, 0, 4], [4, -1, -1], [1, 4, -1]]


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, np.nan, np.inf])
def test_the_layer_lets_no_other_label_through(value):
    net = layer_net(json.dumps({"order": None, "steps": 3}))
    net.blobs["label"].data[...] = 0
    net.blobs["label"].data[1, 2] = value
    with pytest.raises(UsageError, match="neither 0 nor 1"):
        net.forward()


@pytest.mark.parametrize(
    "told",
    [
        "", "{}", "[]", "nonsense", '{"order": [0, 1, 2], "steps": 3}', '{"order": [0, 1, 2, 2], "steps": 3}',
        '{"order": [0, 1, 2, 4], "steps": 3}', '{"order": [0, 1, 2, -1], "steps": 3}', '{"order": "dog", "steps": 3}',
        '{"order": ["a", "b", "c", "d"], "steps": 3}', '{"order": null, "steps": 0}', '{"order": null, "steps": 1.5}',
        '{"order": null, "steps": "3"}', '{"order": null, "steps": -2}', '{"order": [true, false, 2, 3], "steps": 3}',
    ],
)  # fmt: skip
def test_the_layer_refuses_settings_that_make_no_path(told):
    with pytest.raises(UsageError, match="label sequence"):
        layer_net(told)
