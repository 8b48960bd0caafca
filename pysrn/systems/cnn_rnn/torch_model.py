"""CNN-RNN as a plain PyTorch module, the same net as `nets.py` makes for Caffe; parameters have Caffe's layer names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree

from pysrn.systems.cnn_rnn import cells, nets
from pysrn.systems.cnn_rnn.beam_search import Memory, Path
from pysrn.systems.cnn_rnn.heads import HeadSpec
from pysrn.systems.cnn_rnn.recipes import INPUT
from pysrn.systems.cnn_rnn.scores import scores_of
from pysrn.systems.cnn_rnn.trunks import TRUNKS as FEATURE_TRUNKS
from pysrn.systems.cnn_rnn.trunks import FeatureTrunk
from pysrn.systems.system import Architecture
from pysrn.systems.torch_parts import OnnxNet, Preprocessing
from pysrn.systems.trunks.torch_resnet import Trunk
from pysrn.systems.trunks.torch_vgg import Vgg16


class CNNRNNOutput(NamedTuple):
    """Scores of the labels: logits, N x C each (`scores.py`); all but the first carry no gradient."""

    score_first: Tensor
    score_greedy: Tensor
    score_visits: Tensor
    score: Tensor


_pytree._register_namedtuple(CNNRNNOutput, serialized_type_name="pysrn.systems.cnn_rnn.torch_model.CNNRNNOutput")


class PaperCell(nn.Module):
    """The paper's cell (`cells.py`): r' = f r + i x', o = o' r'. Its state is (r',), as the LSTM's is a pair."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.input, self.recurrent_0 = nn.Linear(inputs, 4 * width), nn.Linear(width, 4 * width, bias=False)

    def forward(self, seen: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """T x N x E and 1 x N x D -> T x N x D and the state behind the last step."""
        (r,) = state or (seen.new_zeros(1, seen.shape[1], self.recurrent_0.in_features),)
        outputs = []
        for one in self.input(seen).split(1):
            i, f, o, new = (one + self.recurrent_0(r)).chunk(4, 2)
            r = f.sigmoid() * r + i.sigmoid() * new.tanh()
            outputs.append(o.sigmoid() * r)
        return torch.cat(outputs), (r,)


class StepNet(nn.Module):
    """One step of a path, as `nets.step_net`: projected images N x E, words 1 x N, the memory -> logits, memory."""

    def __init__(self, net: CNNRNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, words: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        """The logits are 1 x N x K, each part of the memory 1 x N x D."""
        logits, memory = self.net._scores(image, words, memory)
        return logits, *memory


class CNNRNN(nn.Module):
    """The whole net for 224 x 224 images: BGR, 0 to 255, minus the mean (104, 117, 123).

    Args:
        trunk: one of `trunks.TRUNKS`.
        classes: number of labels C; word number C is END.
        heads: widths, cell, and how a search is made.

    `scores(features, paths)` gives the logits of training. The embedding is also the matrix of the scores.
    """

    def __init__(self, trunk: FeatureTrunk, classes: int, heads: HeadSpec | None = None) -> None:
        super().__init__()
        self.heads = heads = heads or HeadSpec()
        self.class_names: tuple[str, ...] = ()
        self.classes = classes
        self.trunk = Vgg16() if trunk.spec is None else Trunk(trunk.spec)
        width, inside = heads.embedding_width, heads.recurrent_width
        self.rnn_embed = nn.Embedding(classes + 1, width)
        if heads.cell == "lstm":
            self.rnn_lstm = nn.LSTM(width, inside)
        else:
            self.rnn = PaperCell(width, inside)
        self.rnn_project_image = nn.Linear(trunk.features.shape[0], width)
        self.rnn_project_state = nn.Linear(inside, width, bias=False)
        self.dropout = nn.Dropout(heads.dropout)

    @classmethod
    def of(cls, architecture: Architecture) -> CNNRNN:
        """The net of an architecture, with PyTorch's own random weights."""
        return cls(FEATURE_TRUNKS[architecture.trunk], architecture.classes, architecture.heads)

    def with_preprocessing(self) -> nn.Sequential:
        """The same net (not a copy) behind `Preprocessing`: feed it RGB from 0 to 1, N x 3 x 224 x 224."""
        return nn.Sequential(Preprocessing(INPUT).to(self.rnn_embed.weight), self)

    def features(self, images: Tensor) -> Tensor:
        """N x 3 x S x S -> the feature of each image: N x F."""
        if isinstance(self.trunk, Vgg16):
            return self.trunk(images)
        return self.trunk(images)[1].mean((2, 3))

    def scores(
        self, features: Tensor, paths: Tensor, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Features N x F, words T x N -> logits of the next words T x N x K, and the state behind them."""
        return self._scores(self.rnn_project_image(features), paths, state)

    def _scores(self, image: Tensor, paths: Tensor, state: tuple[Tensor, ...] | None):
        cell = self.rnn_lstm if self.heads.cell == "lstm" else self.rnn
        output, state = cell(self.rnn_embed(paths), state)
        joint = self.dropout(torch.tanh(self.rnn_project_state(output) + image))
        return functional.linear(joint, self.rnn_embed.weight), state

    def forward(self, images: Tensor) -> CNNRNNOutput:
        """N x 3 x S x S -> the scores of the first step, and those of a search."""
        image = self.rnn_project_image(self.features(images))
        begin = torch.full((1, len(images)), self.classes, device=images.device)
        first = self._scores(image, begin, None)[0][0]
        searched, _ = self.search(image)
        found = {name: torch.from_numpy(values).to(first) for name, values in searched.items()}
        return CNNRNNOutput(first[:, :-1] - first[:, -1:], **found)

    def for_onnx(self, images: Tensor) -> OnnxNet:
        """The step net, with blobs called as Caffe's; compared on the second words of paths of N x 3 x S x S images.

        The search around it is no net.
        """
        image, memory = self.rnn_project_image(self.features(images)), cells.MEMORY[self.heads.cell]
        scores, state = self._scores(image, torch.full((1, len(images)), self.classes), None)
        inputs = {nets.IMAGE: image, nets.PATH: scores.argmax(2), **dict(zip(memory, state, strict=True))}
        outputs = (nets.SCORES, *memory.values())
        axes = dict.fromkeys([*inputs, *outputs], 1) | {nets.IMAGE: 0}
        return OnnxNet(StepNet(self).eval(), inputs, outputs, axes)

    @torch.no_grad()
    def search(self, image: Tensor) -> tuple[dict[str, np.ndarray], list[list[Path]]]:
        """Projected images N x E -> scores and paths, by beam search with the widths of `heads`."""

        def step(rows: np.ndarray, words: np.ndarray, memory: Memory | None) -> tuple[np.ndarray, Memory]:
            state = memory and tuple(torch.from_numpy(part).to(image)[None] for part in memory)
            path = torch.from_numpy(words).to(image.device)[None]
            logits, state = self._scores(image[torch.from_numpy(rows).to(image.device)], path, state)
            logs = functional.log_softmax(logits[0].double(), 1)
            return logs.cpu().numpy(), [part[0].cpu().numpy() for part in state]

        return scores_of(step, len(image), self.classes, self.heads.beam_width, self.heads.shortest_path)
