"""The search in Caffe: a step net filled with the weights of a run, and what it makes of the images of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pysrn.console import SrnError, UsageError
from pysrn.nets.folding import Weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import FIXED, parameter_layers
from pysrn.nets.surgery import fill_strictly
from pysrn.recipes import Recipe
from pysrn.systems.cnn_rnn.beam_search import Memory, Path
from pysrn.systems.cnn_rnn.cells import CONT
from pysrn.systems.cnn_rnn.heads import WIDEST_BEAM, HeadSpec
from pysrn.systems.cnn_rnn.nets import IMAGE, JOINT, PATH, SCORES, step_net
from pysrn.systems.cnn_rnn.scores import NAMES, scores_of
from pysrn.systems.system import Architecture


class Searching:
    """Makes scores of what the net for prediction says of its images (`System.searching`).

    Attributes: reads (blobs of that net), scores (names), found (paths of the last batch, the best first).
    """

    reads, scores = (IMAGE,), NAMES

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        source: str,
        recipe: Recipe | None = None,
        asked: Mapping[str, int] | None = None,
    ) -> None:
        """Build the step net. `asked`: `beam_width` and `shortest_path` in place of those of the run's `recipe`.

        Raises SrnError where the weights are not its own, UsageError for a setting that there is not.
        """
        self._classes, self._heads = architecture.classes, architecture.heads
        self._width, self._shortest = _settings(
            self._heads if recipe is None else recipe.heads, asked or {}, self._classes
        )
        self._source = source
        message, self._memory = step_net(self._classes, self._heads, FIXED)
        self._net = make_net(message)
        own = set(parameter_layers(message))
        fill_strictly(self._net, {name: blobs for name, blobs in weights.items() if name in own}, source)
        self._projected: np.ndarray | None = None
        self.found: list[list[Path]] = []

    def __call__(self, blobs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name -> N x C logits."""
        self._projected = blobs[IMAGE]
        images = len(self._projected)
        found, self.found = scores_of(self.step, images, self._classes, self._width, self._shortest)
        return found

    def words_of(self, row: int, classes: Sequence[str]) -> str:
        """The best path of an image of the last batch, for people."""
        path = self.found[row][0]
        names = [*(classes[label] for label in path.labels), "END"]
        steps = [f"{name} {np.exp(log):.2f}" for name, log in zip(names, path.steps, strict=True)]
        return f"path {' > '.join(steps)}; probability {np.exp(path.log_probability):.3g}"

    def step(self, image: np.ndarray, word: np.ndarray, memory: Memory | None) -> tuple[np.ndarray, Memory]:
        """One step of R partial paths (`beam_search.Step`)."""
        net, rows = self._net, len(image)
        inputs = {PATH: word[None], IMAGE: self._projected[image]}
        if CONT in net.blobs:
            inputs[CONT] = np.ones((1, rows))
        for number, name in enumerate(self._memory):
            width = net.blobs[name].shape[-1]
            inputs[name] = np.zeros((1, rows, width)) if memory is None else memory[number][None]
        if net.blobs[PATH].shape[1] != rows:
            for name, values in inputs.items():
                net.blobs[name].reshape(*values.shape)
            net.reshape()
        for name, values in inputs.items():
            net.blobs[name].data[...] = values
        net.forward()
        scores = net.blobs[SCORES].data[0].astype(np.float64)
        if not np.isfinite(scores).all():
            raise SrnError(
                f"{self._source}: the scores of a step are not finite", "train it anew, with a lower --base-lr"
            )
        scores -= scores.max(1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return logs, [net.blobs[top].data[0].copy() for top in self._memory.values()]

    def joint(self) -> np.ndarray:
        """R x E: tanh of state and image together, as the last step had it."""
        return self._net.blobs[JOINT].data[0].copy()


def _settings(heads: HeadSpec, asked: Mapping[str, int], classes: int) -> tuple[int, int]:
    """Beam width and shortest path."""
    bounds = {"beam_width": (1, WIDEST_BEAM), "shortest_path": (0, classes)}
    for name, value in asked.items():
        if name not in bounds or not bounds[name][0] <= value <= bounds[name][1]:
            ways = " and ".join(f"{known}=N from {least} to {most}" for known, (least, most) in bounds.items())
            raise UsageError(f"--search {name}={value}", f"{ways} can be given")
    return tuple(asked.get(name, getattr(heads, name)) for name in bounds)
