"""MSRN as a plain PyTorch module, the same net as `nets.py` makes for Caffe; parameters carry Caffe's layer names."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree

from pysrn.systems.msrn.heads import BUFFERED, FUSION_SLOPE, HeadSpec, tap_channels
from pysrn.systems.msrn.label_branch import GAT_SLOPE, GROUP_LOSS, LEAST_SQUARE
from pysrn.systems.msrn.recipes import INPUT
from pysrn.systems.system import Architecture
from pysrn.systems.torch_parts import Constant, Preprocessing
from pysrn.systems.trunks.resnet import TRUNKS, TrunkSpec
from pysrn.systems.trunks.torch_resnet import Trunk


class MSRNOutput(NamedTuple):
    """The score: logits, N x C."""

    score: Tensor


_pytree._register_namedtuple(MSRNOutput, serialized_type_name="pysrn.systems.msrn.torch_model.MSRNOutput")


class GraphAttention(nn.Module):
    """A graph attention layer (`label_branch.py`): C x inputs and the graph -> C x outputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Linear(inputs, outputs, bias=False)
        self.a1 = nn.Linear(outputs, 1, bias=False)
        self.a2 = nn.Linear(outputs, 1, bias=False)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        """`graph`: C x C, 0 on edges, else a number that no softmax sees."""
        h = self.W(x)
        attention = functional.leaky_relu(self.a1(h) + self.a2(h).T, GAT_SLOPE) + graph
        return functional.elu(functional.softmax(attention, dim=1) @ h + h)


class MSRN(nn.Module):
    """The whole net for square images: BGR, 0 to 255, minus the mean (104, 117, 123).

    Args:
        trunk: a post-activation one of `resnet.TRUNKS`.
        classes: number of labels C.
        heads: widths and structure of what is added to the trunk.

    Vectors and graph of the labels are buffers. `group_loss()` is what training adds to the loss of the scores.
    Semantic attention is written out here: one tap takes N x (C + m) x D x positions numbers.
    """

    def __init__(self, trunk: TrunkSpec, classes: int, heads: HeadSpec | None = None) -> None:
        super().__init__()
        self.heads = heads = heads or HeadSpec()
        self.class_names: tuple[str, ...] = ()
        self.classes = classes
        self.trunk = Trunk(trunk)
        width, groups = heads.embedding_width, heads.groups(classes)
        self.emb_vectors = Constant(classes, heads.vector_width)
        self.emb_graph = Constant(classes, classes)
        self.emb_fc = nn.Linear(heads.vector_width, heads.label_width)
        self.emb_gat1 = GraphAttention(heads.label_width, heads.graph_width)
        self.emb_gat2 = GraphAttention(heads.graph_width, width)
        if groups:
            self.emb_gatz = GraphAttention(width, width)
            self.emb_gats = GraphAttention(width, groups)
        for number, stage in heads.taps:
            channels = tap_channels(trunk, stage)
            if stage in BUFFERED:
                self.add_module(f"tap_buffer{number}", nn.Conv2d(channels, channels, 1))
            self.add_module(f"tap_project{number}", nn.Conv2d(channels, width, 1))
        all_depths = heads.tapped_depths * width
        if heads.fusion == "flatten":
            self.fuse_fc1 = nn.Linear((classes + groups) * all_depths, heads.fusion_width)
            self.fuse_fc2 = nn.Linear(heads.fusion_width, classes)
        else:
            self.fuse_class = nn.Conv2d(2 * all_depths * classes, classes, 1, groups=classes)

    @classmethod
    def of(cls, architecture: Architecture) -> MSRN:
        """The net of an architecture, with PyTorch's own random weights."""
        return cls(TRUNKS[architecture.trunk], architecture.classes, architecture.heads)

    def with_preprocessing(self) -> nn.Sequential:
        """The same net (not a copy) behind `Preprocessing`: feed it RGB from 0 to 1, N x 3 x S x S."""
        return nn.Sequential(Preprocessing(INPUT).to(self.trunk.conv1.weight), self)

    def forward(self, images: Tensor) -> MSRNOutput:
        """N x 3 x S x S -> the score."""
        labels, groups, assignment = self.embeddings()
        rows = torch.cat((labels, groups))
        seen = torch.cat([attend(tap, rows) for tap in self.taps(images)], 2)
        if self.heads.fusion == "flatten":
            top = functional.leaky_relu(self.fuse_fc1(seen.tanh().flatten(1)), FUSION_SLOPE)
            return MSRNOutput(self.fuse_fc2(top))
        own, of_groups = seen.split((self.classes, len(groups)), 1)
        both = torch.cat((own, assignment @ of_groups), 2).tanh()
        return MSRNOutput(self.fuse_class(both.flatten(1)[:, :, None, None]).flatten(1))

    def embeddings(self) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (C x D), groups (m x D), and how far each label belongs to each group (C x m); m may be 0."""
        graph = self.emb_graph()
        labels = self.emb_gat2(self.emb_gat1(self.emb_fc(self.emb_vectors()), graph), graph)
        if not self.heads.group_rows:
            return labels, labels[:0], labels[:, :0]
        rectified = functional.relu(labels)
        assignment = functional.softmax(self.emb_gats(rectified, graph), dim=1)
        return labels, assignment.T @ self.emb_gatz(rectified, graph), assignment

    def group_loss(self) -> Tensor:
        """1e-4 times the sum of the labels' distances to the group that they belong to most."""
        labels, groups, assignment = self.embeddings()
        if not self.heads.group_rows:
            return labels.new_zeros(())
        off = labels - groups[assignment.argmax(1)]
        return GROUP_LOSS * (off.square().sum(1) + LEAST_SQUARE).sqrt().sum()

    def taps(self, images: Tensor) -> list[Tensor]:
        """The taps, pooled and projected: N x D x H x W each."""
        ends = dict(zip((2, 3, 4, 5), self.trunk.ends(images), strict=True))
        found = []
        for number, stage in self.heads.taps:
            end = getattr(self, f"tap_buffer{number}")(ends[stage]) if stage in BUFFERED else ends[stage]
            found.append(getattr(self, f"tap_project{number}")(functional.max_pool2d(end, 2)))
        return found


def attend(features: Tensor, rows: Tensor) -> Tensor:
    """Semantic attention: features N x D x H x W, rows R x D -> N x R x D.

    Each row's number in a channel, times the channel, gives a softmax over its positions: the mean under it.
    """
    flat = features.flatten(2)[:, None]
    return (functional.softmax(flat * rows[:, :, None], dim=3) * flat).sum(3)
