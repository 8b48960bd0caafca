"""The label branch in Caffe against NumPy and PyTorch: values and gradients, on graphs made up and published."""

import numpy as np
import pytest
import torch

from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import Learning, add_layer
from pysrn.recipes import class_names
from pysrn.systems.msrn.heads import HeadSpec
from pysrn.systems.msrn.label_branch import NO_EDGE, add_group_loss, add_label_branch
from pysrn.systems.msrn.labels.graph import cooccurrence, edges, normalised
from pysrn.systems.msrn.labels.vectors import shipped_vectors
from tests.systems.msrn import reference

GATS = {"gat1": (256, 300), "gat2": (300, 512), "gatz": (512, 512)}
MADE_UP = {"none": 0.0, "few": 0.05, "half": 0.5, "all": 1.0}


def parameters(random, groups):
    """Random weights, as PyTorch has them, of about the size that the net begins with."""
    found = {"fc_w": random.normal(0, 0.05, (256, 300)), "fc_b": random.normal(0, 0.05, 256)}
    for name, (inputs, outputs) in (GATS | {"gats": (512, groups)}).items():
        found[f"{name}_w"] = random.normal(0, (1 / inputs) ** 0.5, (inputs, outputs))
        found[f"{name}_a"] = random.normal(0, 0.1, 2 * outputs)
    return {name: value.astype(np.float32).astype(float) for name, value in found.items()}


def caffe_net(vectors, graph, p, groups):
    """The branch in Caffe with these weights; its losses are the group loss and the rows times `pull`."""
    classes = len(graph)
    net = messages.NetParameter(name="branch")
    heads = HeadSpec(pool_ratio=(groups + 0.5) / classes)
    assert heads.groups(classes) == groups
    add_label_branch(net, classes, heads, Learning())
    add_group_loss(net, classes)
    shape = {"dim": [classes + groups, heads.embedding_width]}
    add_layer(net, "pull", "Input", [], input_param={"shape": [shape]})
    add_layer(net, "pulled", "Eltwise", ["emb_rows", "pull"], eltwise_param={"operation": "PROD"})
    add_layer(net, "pulled_sum", "Reduction", "pulled")
    net.layer[-1].loss_weight.append(1)
    made = make_net(net, train=True)
    fill = {"emb_vectors": [vectors], "emb_graph": [np.where(graph, 0, NO_EDGE)], "emb_fc": [p["fc_w"], p["fc_b"]]}
    for name in (*GATS, "gats"):
        half = p[f"{name}_w"].shape[1]
        fill |= {f"emb_{name}_W": [p[f"{name}_w"].T], f"emb_{name}_a1": [p[f"{name}_a"][None, :half]],
                 f"emb_{name}_a2": [p[f"{name}_a"][None, half:]]}  # fmt: skip
    assert fill.keys() == made.params.keys()
    for name, blobs in fill.items():
        for blob, values in zip(made.params[name], blobs, strict=True):
            blob.data[...] = values
    return made


def check(graph, vectors, groups, seed=0):
    """All values to 1e-6 and all gradients to 1e-5 of the greatest."""
    random = np.random.default_rng(seed)
    p = parameters(random, groups)
    net = caffe_net(vectors, graph, p, groups)
    pull = random.normal(size=net.blobs["pull"].data.shape).astype(np.float32)
    net.blobs["pull"].data[...] = pull
    net.forward()
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
    vectors = vectors.astype(float)
    by_torch = reference.torch_branch(torch.tensor(vectors), torch.tensor(graph), tensors)
    by_numpy = reference.numpy_branch(vectors, graph, p)
    rows = net.blobs["emb_rows"].data
    ours = rows[: len(graph)], rows[len(graph) :], net.blobs["emb_assignment"].data, net.blobs["emb_group_loss"].data
    for mine, theirs, plain in zip(ours, by_torch, by_numpy, strict=True):
        theirs = theirs.detach().numpy()
        np.testing.assert_allclose(theirs, plain, atol=1e-12 * max(1, np.abs(plain).max()))
        np.testing.assert_allclose(mine, plain, atol=1e-6 * np.abs(plain).max())
    net.backward()
    total = (torch.cat(by_torch[:2]) * torch.tensor(pull.astype(float))).sum() + by_torch[3]
    total.backward()
    for name in (*GATS, "gats"):
        half = p[f"{name}_w"].shape[1]
        w, a = tensors[f"{name}_w"].grad.numpy().T, tensors[f"{name}_a"].grad.numpy()
        close(net.params[f"emb_{name}_W"][0].diff, w)
        both = np.concatenate([net.params[f"emb_{name}_{part}"][0].diff[0] for part in ("a1", "a2")])
        assert len(both) == 2 * half
        close(both, a)
    close(net.params["emb_fc"][0].diff, tensors["fc_w"].grad.numpy())
    close(net.params["emb_fc"][1].diff, tensors["fc_b"].grad.numpy())


def close(mine, theirs):
    """To 1e-5 of the greatest."""
    np.testing.assert_allclose(mine, theirs, atol=1e-5 * np.abs(theirs).max() + 1e-12)


@pytest.mark.parametrize("density", MADE_UP.values(), ids=MADE_UP)
def test_branch_on_a_graph_that_is_made_up(density):
    random = np.random.default_rng(3)
    graph = (random.random((14, 14)) < density) | np.eye(14, dtype=bool)
    check(graph, random.normal(0, 0.39, (14, 300)).astype(np.float32), groups=3)


@pytest.mark.parametrize("dataset", reference.PICKLES)
def test_branch_on_a_published_graph(shared_data, dataset):
    adj, nums = reference.published_counts(shared_data, dataset)
    graph = reference.released_matrix(adj, nums) > 0
    names = class_names(dataset)
    check(graph, shipped_vectors(dataset, names), int(reference.PICKLES[dataset][1] * len(names)))


@pytest.mark.parametrize("dataset", reference.PICKLES)
def test_graph_is_the_released_one_of_the_published_counts(shared_data, dataset):
    adj, nums = reference.published_counts(shared_data, dataset)
    np.testing.assert_allclose(normalised(adj, nums, 0.4), reference.released_matrix(adj, nums), atol=1e-12)
    graph = edges(adj, nums, 0.4)
    assert (graph == reference.looks_at(adj, nums)).all()
    count = {"voc2007": 6, "coco": 111, "nus_wide": 2, "apparel": 24}[dataset]
    assert graph.sum() - len(graph) == count


def test_counts_are_of_images_that_have_both():
    labels = np.array([[1, 1, 0], [1, -1, -1], [1, 1, 1], [0, 0, -1]])
    together, images = cooccurrence(labels)
    assert together.tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]] and images.tolist() == [3, 2, 1]


def test_edges_are_transposed_and_begin_at_the_threshold():
    together, images = np.array([[0, 2.0], [2, 0]]), np.array([10.0, 5.0])  # P(0 given 1) = 0.4, P(1 given 0) = 0.2
    assert edges(together, images, 0.4).tolist() == [[True, True], [False, True]]
    assert edges(together, images, 0.41).tolist() == [[True, False], [False, True]]


def test_label_without_an_image_has_no_neighbours():
    together, images = cooccurrence(np.array([[1, 0], [1, 0]]))
    assert edges(together, images, 0.4).tolist() == [[True, False], [False, True]]
