"""The label graph drawn: labels on a circle, an arrow to each label that one looks at, a colour for each group."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pysrn.console import UsageError
from pysrn.predict.deploy import DeployNet
from pysrn.systems.msrn.label_branch import ASSIGNMENT, GRAPH

COLOURS = "tab10"


def label_groups(net: DeployNet) -> tuple[np.ndarray, np.ndarray]:
    """C x C, true where label i looks at another label j, and C: the group that each label belongs to most.

    `net` is not folded. UsageError for weights of an early stage.
    """
    if GRAPH not in net.net.params:
        raise UsageError(f"{net.path} has no label graph yet", "give the weights of the last stage")
    net.net.forward()
    graph = net.net.params[GRAPH][0].data == 0
    return graph & ~np.eye(len(graph), dtype=bool), net.net.blobs[ASSIGNMENT].data.argmax(axis=1)


def picture(net: DeployNet, classes: Sequence[str]) -> tuple[Figure, list[str]]:
    """The figure, and a line for each group with its labels."""
    graph, groups = label_groups(net)
    order = np.argsort(groups, kind="stable")  # labels of a group stand together
    angle = np.empty(len(order))
    angle[order] = np.linspace(0, 2 * np.pi, len(order), endpoint=False)
    places = np.stack([np.cos(angle), np.sin(angle)], 1)
    side = 5 + len(classes) / 12
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
    axis.axis("off")
    for start, end in np.argwhere(graph):
        style = {"arrowstyle": "->", "color": "0.55", "linewidth": 0.8, "connectionstyle": "arc3,rad=0.15"}
        axis.annotate("", places[end], places[start], arrowprops=style)
    colours = matplotlib.colormaps[COLOURS]
    axis.scatter(*places.T, s=40, color=[colours(group % colours.N) for group in groups], zorder=3)
    for label, (x, y), turn in zip(classes, places, np.degrees(angle), strict=True):
        left = x < 0
        options = {
            "ha": "right" if left else "left",
            "va": "center",
            "rotation_mode": "anchor",
            "fontsize": 8,
            "parse_math": False,
        }
        axis.text(1.06 * x, 1.06 * y, label, rotation=turn + 180 * left, **options)
    axis.set_title(f"{len(classes)} labels, {int(graph.sum())} edges, {len(set(groups))} groups in use", fontsize=9)
    lines = [
        f"group {group}: {', '.join(classes[label] for label in np.flatnonzero(groups == group))}"
        for group in sorted(set(groups.tolist()))
    ]
    return figure, lines
