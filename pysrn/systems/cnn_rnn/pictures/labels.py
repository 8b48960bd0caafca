"""The labels in the joint embedding: those that lie nearest to each other, and all of them on a plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pysrn.console import UsageError
from pysrn.evaluate.rank_correlation import cosines
from pysrn.predict.deploy import DeployNet

LAYER = "rnn_embed"
NEAREST = 3  # labels that are named; assumed


def embedding_of(net: DeployNet) -> np.ndarray:
    """C x E: the labels, without END. UsageError for weights of an early stage."""
    if LAYER not in net.net.params:
        raise UsageError(f"{net.path} has no embedding of labels yet", "give the weights of the last stage")
    return net.net.params[LAYER][0].data[: net.architecture.classes].astype(np.float64)


def on_a_plane(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C x 2: the first two principal components of the rows, and the shares of the variance that they have.

    The greatest number of each axis is positive, or the same rows could give two pictures.
    """
    centred = rows - rows.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(rows), 2))
    axes = axes[:2]
    signs = [np.sign(axis[np.abs(axis).argmax()]) for axis in axes]
    places[:, : len(axes)] = centred @ (axes * np.array(signs)[:, None]).T
    total = (sizes**2).sum()
    shares = np.zeros(2)
    if total > 0:
        shares[: len(axes)] = sizes[:2] ** 2 / total
    return places, shares


def picture(net: DeployNet, classes: Sequence[str]) -> tuple[Figure, list[str]]:
    """The map of the labels, and a line for each of them with those that are nearest by the angle between them."""
    rows = embedding_of(net)
    places, shares = on_a_plane(rows)
    side = 5 + len(classes) / 25
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.scatter(*places.T, s=18)
    for label, place in zip(classes, places, strict=True):
        axis.annotate(label, place, (3, 3), textcoords="offset points", fontsize=7, parse_math=False)
    axis.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance", fontsize=8)
    axis.set_ylabel(f"second, {shares[1]:.0%}", fontsize=8)
    axis.margins(0.15)
    axis.set_aspect("equal", "datalim")
    return figure, nearest_lines(rows, classes)


def nearest_lines(rows: np.ndarray, classes: Sequence[str]) -> list[str]:
    """`label: nearest label 0.53, ...`, the cosine of their angle behind each."""
    alike = cosines(rows)
    np.fill_diagonal(alike, -np.inf)
    count = min(NEAREST, len(classes) - 1)
    lines = []
    for label, near in zip(classes, alike, strict=True):
        best = np.argsort(-near, kind="stable")[:count]
        lines.append(f"{label}: {', '.join(f'{classes[other]} {near[other]:.2f}' for other in best)}".rstrip(": "))
    return lines
