"""In real Caffe: our Python layer in a net and a solver, and stock Data layers on our databases."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.feed.prefetch import Feeder
from pysrn.data.feed.settings import FeedSettings
from pysrn.data.pair.lmdb_pair import Encoding, PairReader
from pysrn.data.pair.pair_writer import write_pair
from pysrn.data.readers.coco import read_coco
from pysrn.recipes import class_names
from tests.srn import feed

caffe = pytest.importorskip("caffe")

PYTHON_LAYER = """
layer { name: "data" type: "Python" top: "data" top: "label"
  python_param { module: "pysrn.data.layer" layer: "MultiLabelDataLayer" param_str: %s } }
"""
LINEAR_NET = """
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "score" type: "InnerProduct" bottom: "pool" top: "score"
  inner_product_param { num_output: 16 } }
layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "score" bottom: "label" top: "loss" }
"""


@pytest.fixture
def write_net(tmp_path):
    def write(text, name="net.prototxt"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def python_layer(folder, **changes):
    settings = feed(**{"folder": str(folder), "split": "train", "batch_size": 6, "workers": 2} | changes)
    return settings, PYTHON_LAYER % json.dumps(settings.to_json())


def test_the_layer_hands_the_batches_to_caffe(small_shapes, write_net):
    settings, layer = python_layer(small_shapes, first_sample=5)
    net = caffe.Net(write_net(layer), caffe.TRAIN)
    feeder = Feeder(FeedSettings(**{**vars(settings), "workers": 0}))
    for _ in range(5):
        net.forward()
        data, label = feeder.next_batch()
        np.testing.assert_array_equal(net.blobs["data"].data, data)
        np.testing.assert_array_equal(net.blobs["label"].data, label)
    assert net.blobs["data"].data.shape == (6, 3, 224, 224)
    assert net.blobs["label"].data.shape == (6, 16)


def test_a_solver_learns_from_it_and_hears_of_a_dead_worker(small_shapes, write_net):
    _, layer = python_layer(small_shapes)
    net = write_net(layer + LINEAR_NET)
    text = f'net: "{net}" base_lr: 1e-5 lr_policy: "fixed" max_iter: 1000 display: 0 snapshot_after_train: false'
    solver = caffe.SGDSolver(write_net(text, "solver.prototxt"))
    before = solver.net.params["score"][0].data.copy()
    solver.step(3)
    assert not np.array_equal(before, solver.net.params["score"][0].data)
    os.kill(solver.net.layers[0].feeder.worker_ids[0], signal.SIGKILL)
    with pytest.raises(SrnError, match="a data worker process died"):
        solver.step(20)


def test_a_training_and_a_test_net_in_one_process(small_shapes, write_net):
    """The solver's two nets, each with its own workers, on two parts of the same database."""
    train, train_layer = python_layer(small_shapes, records=(0, 30))
    held, held_layer = python_layer(small_shapes, records=(30, 40), train=False, batch_size=10, workers=1)
    phases = zip((train_layer, held_layer), ("TRAIN", "TEST"), strict=True)
    layers = "".join(layer.strip().removesuffix("}") + f"include {{ phase: {phase} }} }}\n" for layer, phase in phases)
    net = write_net(layers + LINEAR_NET)
    text = f'net: "{net}" base_lr: 1e-9 lr_policy: "fixed" max_iter: 9 display: 0 snapshot_after_train: false '
    text += "test_iter: 1 test_interval: 2 test_initialization: false"
    solver = caffe.SGDSolver(write_net(text, "solver.prototxt"))
    solver.step(5)  # tests before iterations 2 and 4
    feeds = [Feeder(dataclasses.replace(settings, workers=0)) for settings in (train, held)]
    for feeder, fed, count in zip(feeds, (solver.net, solver.test_nets[0]), (5, 2), strict=True):
        for _ in range(count):
            data, label = feeder.next_batch()
        np.testing.assert_array_equal(fed.blobs["data"].data, data)
        np.testing.assert_array_equal(fed.blobs["label"].data, label)


def test_errors_come_out_of_the_net_as_what_they_are(small_shapes, write_net, tmp_path):
    for error, changes in [(MissingError, {"folder": "nowhere"}), (MissingError, {"split": "other"})]:
        _, layer = python_layer(**{"folder": small_shapes} | changes)
        with pytest.raises(error):
            caffe.Net(write_net(layer), caffe.TRAIN)
    one_top = PYTHON_LAYER.replace('top: "label"', "") % json.dumps(python_layer(small_shapes)[0].to_json())
    with pytest.raises(UsageError, match="two tops"):
        caffe.Net(write_net(one_top), caffe.TRAIN)
    shutil.copytree(small_shapes, tmp_path / "cut")
    file = tmp_path / "cut" / "train_image.lmdb" / "data.mdb"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(SrnError, match="truncated"):
        caffe.Net(write_net(python_layer(tmp_path / "cut")[1]), caffe.TRAIN)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_stock_data_layers_read_both_databases_in_step(small_shapes, write_net, tmp_path, encoding):
    found = read_coco(small_shapes / "annotations/test.json", small_shapes / "images/test", class_names("shapes"))
    write_pair(found.samples, tmp_path, "test", found.classes, 1, dataset="shapes", encoding=Encoding(encoding))
    layers = "".join(
        f'layer {{ name: "{kind}" type: "Data" top: "{kind}" '
        f'data_param {{ source: "{tmp_path}/test_{kind}.lmdb" backend: LMDB batch_size: 12 }} }}\n'
        for kind in ("image", "label")
    )
    net = caffe.Net(write_net(layers), caffe.TEST)
    net.forward()
    reader = PairReader(tmp_path, "test")
    np.testing.assert_array_equal(net.blobs["label"].data.reshape(12, -1), reader.all_labels())
    images = np.stack([reader.image(index) for index in range(12)]).transpose(0, 3, 1, 2)
    # Caffe decodes with its own JPEG library: at most a few grey levels apart.
    difference = np.abs(net.blobs["image"].data - images)
    assert difference.max() <= (0 if encoding == "raw" else 8)
    assert difference.mean() < 0.5
