"""The recurrent part in Caffe against PyTorch on the same weights: losses, gradients of all blobs, single steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import FIXED, Learning, parameter_layers
from pysrn.systems.cnn_rnn.heads import CELLS, HeadSpec
from pysrn.systems.cnn_rnn.searching import Searching
from pysrn.systems.stage_nets import recipe_deploy_net
from pysrn.systems.system import Architecture
from tests.systems.cnn_rnn import recurrent_part, reference
from tests.systems.cnn_rnn.recurrent_part import SYSTEM

IMAGES, CLASSES, WIDTH = 5, 7, 12


def heads_of(cell, steps, order=tuple(range(CLASSES))):
    return HeadSpec(embedding_width=6, recurrent_width=9, cell=cell, dropout=0.0, path_order=order, path_steps=steps)


def training_net(heads):
    return recurrent_part.training_net(heads, CLASSES, IMAGES, WIDTH, with_gradient=True)


def random_labels(generator, kind, steps):
    if kind == "END only":
        return np.zeros((IMAGES, CLASSES))
    if kind == "full length":
        labels = np.zeros((IMAGES, CLASSES))
        for row in labels:
            row[generator.permutation(CLASSES)[: steps - 1]] = 1
        return labels
    return generator.random((IMAGES, CLASSES)) < 0.4


@pytest.mark.parametrize("kind", ["mixed", "END only", "full length"])
@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize("cell", CELLS)
def test_loss_and_gradients_are_those_of_pytorch(cell, steps, kind):
    generator = np.random.default_rng(steps)
    order = tuple(map(int, generator.permutation(CLASSES)))
    net = make_net(training_net(heads_of(cell, steps, order)), train=True)
    feature = generator.normal(size=(IMAGES, WIDTH)).astype(np.float32)
    labels = random_labels(generator, kind, min(steps, CLASSES + 1))
    for name in net.params:
        for blob in net.params[name]:
            blob.data[...] = generator.normal(size=blob.data.shape) * 0.4
    net.blobs["feature"].data[...], net.blobs["label"].data[...] = feature[:, :, None, None], labels
    net.params["pool5"][0].data[...] = 0
    net.forward()
    net.clear_param_diffs()
    net.backward()
    own = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    p = reference.leaves({name: own[name] for name in parameter_layers(training_net(heads_of(cell, steps)))})
    read = torch.tensor(feature, dtype=torch.float64, requires_grad=True)
    wanted = reference.loss(cell, p, read, labels, order, steps)
    wanted.backward()
    assert float(net.blobs["loss_path"].data) * steps == pytest.approx(wanted.item(), rel=1e-5)
    assert_close(net.params["pool5"][0].diff[:, :, 0, 0], read.grad, "feature")
    for name in parameter_layers(training_net(heads_of(cell, steps))):
        for blob, leaf in zip(net.params[name], p[name], strict=True):
            if leaf.grad is not None or steps > 1:
                assert_close(blob.diff, leaf.grad, name)


def assert_close(found, wanted, name):
    wanted = np.zeros_like(found) if wanted is None else wanted.numpy()
    scale = np.abs(wanted).max() or 1.0
    assert np.abs(found - wanted).max() <= 1e-5 * scale, name


@pytest.mark.parametrize("cell", CELLS)
def test_steps_of_a_search_are_those_of_the_training_net(cell):
    generator = np.random.default_rng(3)
    heads = heads_of(cell, 6)
    net = make_net(training_net(heads))
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = generator.normal(size=blob.data.shape) * 0.4
    labels = generator.random((IMAGES, CLASSES)) < 0.5
    net.blobs["feature"].data[...] = generator.normal(size=(IMAGES, WIDTH, 1, 1))
    net.blobs["label"].data[...] = labels
    net.forward()
    weights = {name: [blob.data.copy() for blob in net.params[name]] for name in parameter_layers(training_net(heads))}
    searching = Searching(Architecture(SYSTEM, "resnet14", CLASSES, heads), weights, "weights")
    searching._projected = net.blobs["rnn_image"].data.copy()
    rows = np.tile(np.arange(IMAGES), 2)  # other rows than images, as in a beam
    memory = None
    for step in range(heads.path_steps):
        logs, memory = searching.step(rows, np.tile(net.blobs["rnn_path"].data[step].astype(int), 2), memory)
        raw = net.blobs["rnn_scores"].data[step].astype(np.float64)
        wanted = raw - np.log(np.exp(raw).sum(1, keepdims=True))
        assert np.abs(logs - np.tile(wanted, (2, 1))).max() < 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_the_net_for_prediction_gives_the_first_step(cell):
    recipe = SYSTEM.recipe("shapes")
    recipe = replace(recipe, heads=replace(recipe.heads, cell=cell))
    net = make_net(recipe_deploy_net(recipe))
    generator = np.random.default_rng(5)
    own = {name: blobs for name, blobs in net.params.items() if name.startswith("rnn_")}
    for blobs in own.values():
        for blob in blobs:
            blob.data[...] = generator.normal(size=blob.data.shape) * 0.1
    net.blobs["data"].reshape(3, 3, 224, 224)
    net.blobs["data"].data[...] = generator.normal(size=(3, 3, 224, 224)) * 50
    net.forward()
    p = reference.leaves({name: [blob.data for blob in blobs] for name, blobs in own.items()})
    first = p["rnn_embed"][0][[16, 16, 16]]
    output, _ = reference.cell(cell, p, first, reference.start(cell, p, 3))
    feature = torch.tensor(net.blobs["pool5"].data[:, :, 0, 0].astype(np.float64))
    words = reference.scores(p, output, reference.project(p, feature)).detach().numpy()
    assert np.abs(net.blobs["score_first"].data - (words[:, :16] - words[:, 16:])).max() < 1e-5


def test_embedding_and_scores_are_one_blob_for_training_and_ranks():
    from pysrn.train.stage.rank_net import shared_blobs

    message = training_net(heads_of("paper", 4))
    net = make_net(message, train=True)
    assert np.shares_memory(net.params["rnn_embed"][0].data, net.params["rnn_scores"][0].data)
    learning, _ = shared_blobs(net, message)
    addresses = [blob.diff.ctypes.data for blob in learning]
    assert len(addresses) == len(set(addresses)) == 7 + 1  # and the one of this test
    assert parameter_layers(message) == [
        "rnn_embed", "rnn_input", "rnn_recurrent_0", "rnn_project_image", "rnn_project_state",
    ]  # fmt: skip


def test_a_deploy_net_has_rates_of_nothing():
    assert all(not any(p.lr_mult for p in layer.param) for layer in recipe_deploy_net(SYSTEM.recipe("shapes")).layer)
    assert Learning() != FIXED
