"""What the regulariser's conv4 neurons respond to: the label maps that a neuron reads, and its 14 x 14 kernel on each.

A neuron of conv4 reads one channel of conv3 over all 196 positions (Fig. 4). Which labels feed that channel is taken
from the product of conv2's and conv3's 1 x 1 weights, batch normalisation folded in: the linear path. An approximation:
the two ReLUs between cut what is negative, so that a label's true influence depends on the other labels in the image.
On that path the neuron's kernel for a label is its one kernel times the label's strength in the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pysrn.console import UsageError
from pysrn.predict.deploy import DeployNet
from pysrn.systems.srn.heads import POOLED, RANKED

COLOURS = "RdBu_r"  # red: a label there raises the neuron's answer, blue: lowers it
VOTES_SHOWN = 3  # labels that a neuron speaks for, in its title


@dataclass(frozen=True, eq=False)
class Regulariser:
    """f_sr along its linear path, for K neurons and C labels.

    Attributes: inputs, K x C: strength of each label's map in the channel that the neuron reads; kernels,
    K x 14 x 14; votes, C x K: what the neuron adds to each label's logit (`sr_fc`).
    """

    inputs: np.ndarray
    kernels: np.ndarray
    votes: np.ndarray

    def strongest_for(self, label: int, count: int) -> list[int]:
        """The neurons that speak most for a label: by vote x kernel x inputs (norms), most positive first.

        The product does not depend on how the size of the weights is shared out among the layers, a vote alone does.
        """
        size = np.linalg.norm(self.kernels, axis=(1, 2)) * np.linalg.norm(self.inputs, axis=1)
        return np.argsort(-self.votes[label] * size, kind="stable")[:count].tolist()

    def strongest_inputs(self, neuron: int, count: int) -> list[int]:
        """The labels that feed a neuron most, of either sign."""
        return np.argsort(-np.abs(self.inputs[neuron]), kind="stable")[:count].tolist()

    def kernel(self, neuron: int, label: int) -> np.ndarray:
        """14 x 14: what the neuron's answer gains, on the linear path, from a label's map at each place."""
        return self.inputs[neuron, label] * self.kernels[neuron]


def regulariser_of(net: DeployNet) -> Regulariser:
    """The linear path of a net that was built with `folded=True`; UsageError for weights without f_sr."""
    if "score_sr" not in net.scores:
        raise UsageError(f"{net.path} has no regulariser", "give the weights of stage 3 or 4")
    heads = net.architecture.heads
    if heads.regulariser_input in (POOLED, RANKED) or not heads.regulariser_grouped:
        raise UsageError(f"{net.path}: no neuron of its regulariser has one kernel on the places of a label")
    conv2, conv3, conv4, votes = (
        net.net.params[name][0].data.astype(np.float64) for name in (heads.conv2, "sr_conv3", "sr_conv4", "sr_fc")
    )
    channels = conv3[:, :, 0, 0] @ conv2[:, :, 0, 0]
    channel_of = np.arange(len(conv4)) // (len(conv4) // len(channels))  # Caffe: the outputs of a group lie together
    return Regulariser(channels[channel_of], conv4[:, 0], votes)


def relation_picture(regulariser: Regulariser, neurons: Sequence[int], classes: Sequence[str], inputs: int) -> Figure:
    """A row a neuron: the labels that it speaks for, and its kernels on the `inputs` labels that feed it most.

    The colours of a row share a scale, symmetric about zero.
    """
    figure = Figure(figsize=(2.3 * (1 + inputs), 2.5 * len(neurons)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, neuron in zip(figure.subplots(len(neurons), 1 + inputs, squeeze=False), neurons, strict=True):
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
        votes = regulariser.votes[:, neuron]
        lines = "\n\n".join(f"{classes[label]}\n{votes[label]:+.2f}" for label in _loudest(votes))
        axes[0].set_frame_on(False)
        axes[0].set_title(f"neuron {neuron} of conv4\nspeaks for", fontsize=8)
        axes[0].text(0.5, 0.5, lines, ha="center", va="center", fontsize=9, transform=axes[0].transAxes)
        labels = regulariser.strongest_inputs(neuron, inputs)
        reach = max(np.abs(regulariser.kernel(neuron, label)).max() for label in labels) or 1.0
        for axis, label in zip(axes[1:], labels, strict=False):
            shown = axis.imshow(regulariser.kernel(neuron, label), cmap=COLOURS, vmin=-reach, vmax=reach)
            axis.set_title(f"{classes[label]}\nstrength {regulariser.inputs[neuron, label]:+.2f}", fontsize=8)
        figure.colorbar(shown, ax=list(axes), shrink=0.8)
    return figure


def describe(regulariser: Regulariser, neuron: int, classes: Sequence[str], inputs: int) -> str:
    """One line: what a neuron speaks for and what feeds it."""
    votes = regulariser.votes[:, neuron]
    speaks = ", ".join(f"{classes[label]} {votes[label]:+.2f}" for label in _loudest(votes))
    feeds = ", ".join(
        f"{classes[label]} {regulariser.inputs[neuron, label]:+.2f}"
        for label in regulariser.strongest_inputs(neuron, inputs)
    )
    return f"neuron {neuron}: speaks for {speaks}; reads {feeds}"


def _loudest(votes: np.ndarray) -> list[int]:
    return np.argsort(-np.abs(votes), kind="stable")[:VOTES_SHOWN].tolist()
