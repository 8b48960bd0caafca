"""Where the net looks in each step of the path that it finds (the paper's Fig. 7, which no source describes further).

The score of the word that a step takes has a gradient on the feature map before the pooling. Shown is gradient times
feature, summed over the channels, where that is positive. assumed: behind a global average the gradient alone is the
same at all places. What the recurrent part remembers comes of words alone, so that no earlier step looks at the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pysrn.console import Progress, UsageError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net
from pysrn.pictures.attention import Row
from pysrn.predict.deploy import DeployNet
from pysrn.predict.splits import check_labels, whole_views
from pysrn.systems.cnn_rnn import cells
from pysrn.systems.cnn_rnn.beam_search import Path
from pysrn.systems.cnn_rnn.nets import IMAGE
from pysrn.systems.cnn_rnn.trunks import TRUNKS

END = "END"


class Looks:
    """What the steps of a path look at, in Caffe. Attributes: blob (the feature map that is looked at)."""

    def __init__(self, net: DeployNet) -> None:
        """`net` is not folded; UsageError for weights of an early stage."""
        self._net, self._searching = net, net.searching
        if self._searching is None:
            raise UsageError(f"{net.path} searches no paths yet", "give the weights of the last stage")
        self._embedding = net.net.params["rnn_embed"][0].data
        self.blob, message = _behind_the_map(net.message, TRUNKS[net.architecture.trunk].reads_map, net)
        self._tail = make_net(message)
        for name, blobs in self._tail.params.items():
            for mine, theirs in zip(blobs, net.net.params[name], strict=True):
                mine.data[...] = theirs.data

    def __call__(self, image: np.ndarray) -> tuple[Path, list[np.ndarray]]:
        """1 x 3 x S x S -> the best path, and H x W for each of its steps, END's last; great where it looks."""
        found = self._net.forward(image, [self.blob, self._net.system.result])
        path = self._searching.found[0][0]
        features = self._tail.blobs[self.blob]
        features.data[...] = found[self.blob]
        self._tail.forward()
        word, memory, maps = self._net.architecture.classes, None, []
        for chosen in (*path.labels, self._net.architecture.classes):
            _, memory = self._searching.step(np.zeros(1, int), np.array([word]), memory)
            joint = self._searching.joint()[0]
            # The score is the word's row times tanh(state + image).
            self._tail.blobs[IMAGE].diff[0] = self._embedding[chosen] * (1 - joint**2)
            self._tail.backward()
            maps.append(np.maximum((features.diff[0] * features.data[0]).sum(axis=0), 0))
            word = chosen
        return path, maps


def rows(net: DeployNet, pair: PairReader, indices: Sequence[int]) -> list[Row]:
    """A row for each chosen sample of a pair: the image, and what each step of its best path looks at."""
    check_labels(net, pair)
    looks = Looks(net)
    places, names = net.places(looks.blob), [*pair.classes, END]
    bar, found = Progress(len(indices), "steps", "images"), []
    for index in indices:
        path, maps = looks(whole_views(pair, [index], net.architecture.input))
        words = (*path.labels, net.architecture.classes)
        panels = [
            (word, f"{number}. {names[word]}\np = {np.exp(log):.2f}", values)
            for number, (word, log, values) in enumerate(zip(words, path.steps, maps, strict=True), 1)
        ]
        image = np.ascontiguousarray(pair.image(index)[..., ::-1])
        title = f"{pair.keys[index]}\npath: p = {np.exp(path.log_probability):.2g}"
        found.append(Row(image, title, panels, {}, places))
        bar.update(1)
    bar.close()
    return found


def _behind_the_map(whole: messages.NetParameter, first: str, net: DeployNet) -> tuple[str, messages.NetParameter]:
    """The feature map that layer `first` reads, and the net from it to the projected image."""
    names = [layer.name for layer in whole.layer]
    start = names.index(first)
    needed, kept = {IMAGE}, []
    for layer in reversed(whole.layer[start:]):
        if needed.intersection(layer.top):
            kept.append(layer)
            needed.update(layer.bottom)
    blob = whole.layer[start].bottom[0]
    tail = messages.NetParameter(name="behind_the_map", force_backward=True)
    cells.add_input(tail, blob, *net.net.blobs[blob].shape)
    tail.layer.extend(reversed(kept))
    return blob, tail
