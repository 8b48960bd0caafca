"""The label branch once more, without the package: in NumPy by loops over labels, and in PyTorch by the equations."""

import pickle

import numpy as np
import torch
from torch.nn import functional

PICKLES = {"voc2007": ("voc_adj", 0.2), "coco": ("coco_adj", 0.05), "nus_wide": ("nuswide_adj", 0.05),
           "apparel": ("apparel_adj", 0.2)}  # fmt: skip


class ArraysOnly(pickle.Unpickler):
    """Reads pickles of NumPy arrays and nothing else."""

    def find_class(self, module, name):
        """Only what arrays need."""
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype", "scalar"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def published_counts(folder, dataset):
    """Co-occurrence counts and `nums` as they were published."""
    with open(folder / "label_vectors" / f"{PICKLES[dataset][0]}.pkl", "rb") as file:
        found = ArraysOnly(file, encoding="latin1").load()
    return np.asarray(found["adj"], float), np.asarray(found["nums"], float)


def looks_at(adj, nums, threshold=0.4):
    """C x C by a loop: i looks at j where P(i given j) is at least the threshold, and at itself."""
    count = len(adj)
    graph = np.eye(count, dtype=bool)
    for i in range(count):
        for j in range(count):
            graph[i, j] |= adj[j, i] / nums[j] >= threshold
    return graph


def released_matrix(adj, nums, threshold=0.4):
    """A' of the published formula, written out: scale columns, add the identity, D A^T D."""
    given = adj / nums.reshape(-1, 1)
    ones = np.where(given < threshold, 0.0, 1.0)
    a = ones * 0.25 / (ones.sum(0) + 1e-6) + np.eye(len(adj))
    d = np.diag(a.sum(1) ** -0.5)
    return (a @ d).T @ d


def numpy_gat(x, w, a, graph):
    """One graph attention layer, label by label; w: inputs x outputs, a: 2 * outputs."""
    h = x @ w
    out = np.empty_like(h)
    for i in range(len(h)):
        there = np.flatnonzero(graph[i])
        e = np.array([np.concatenate([h[i], h[j]]) @ a for j in there])
        e = np.where(e > 0, e, 0.2 * e)
        p = np.exp(e - e.max())
        total = (p / p.sum()) @ h[there] + h[i]
        out[i] = np.where(total > 0, total, np.expm1(np.minimum(total, 0)))
    return out


def numpy_branch(vectors, graph, p):
    """Labels, groups, assignment, group loss; p: parameters by name, as PyTorch has them."""
    x = vectors @ p["fc_w"].T + p["fc_b"]
    labels = numpy_gat(numpy_gat(x, p["gat1_w"], p["gat1_a"], graph), p["gat2_w"], p["gat2_a"], graph)
    z = numpy_gat(np.maximum(labels, 0), p["gatz_w"], p["gatz_a"], graph)
    s = numpy_gat(np.maximum(labels, 0), p["gats_w"], p["gats_a"], graph)
    s = np.exp(s - s.max(1, keepdims=True))
    s /= s.sum(1, keepdims=True)
    groups = s.T @ z
    loss = sum(np.linalg.norm(labels[i] - groups[s[i].argmax()]) for i in range(len(labels)))
    return labels, groups, s, 1e-4 * loss


def torch_gat(x, w, a, graph):
    """The same with gradients."""
    h = x @ w
    half = h.shape[1]
    e = functional.leaky_relu((h @ a[:half])[:, None] + (h @ a[half:])[None], 0.2)
    attention = torch.softmax(torch.where(graph, e, torch.full_like(e, -1e12)), 1)
    return functional.elu(attention @ h + h)


def torch_branch(vectors, graph, p):
    """The same with gradients."""
    x = functional.linear(vectors, p["fc_w"], p["fc_b"])
    labels = torch_gat(torch_gat(x, p["gat1_w"], p["gat1_a"], graph), p["gat2_w"], p["gat2_a"], graph)
    z = torch_gat(labels.relu(), p["gatz_w"], p["gatz_a"], graph)
    s = torch.softmax(torch_gat(labels.relu(), p["gats_w"], p["gats_a"], graph), 1)
    groups = s.T @ z
    return labels, groups, s, 1e-4 * sum(torch.dist(labels[i], groups[s[i].argmax()]) for i in range(len(labels)))
