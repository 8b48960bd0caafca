"""The layer `SemanticAttention` and its twin in Python: random shapes, and numbers that are none."""

from __future__ import annotations

import tempfile
from functools import partial

import caffe
import numpy as np

from tests.caffe.running import Record, build, layer, numbers, text_net
from tests.caffe.state_cases import attention_solver

SHAPES = 200
TWIN = 'python_param { module: "pysrn.systems.msrn.semantic_attention" layer: "SemanticAttention" }'
LAYERS = {
    "layer": layer("out", "SemanticAttention", "features rows"),
    "twin": layer("out", "Python", "features rows", "", TWIN),
}
PLACES = (1, 2, 3, 15, 16, 17, 31, 33, 48, 49, 64, 65, 81, 195, 196, 197, 255, 784, 3136)
ROWS = (1, 2, 4, 15, 16, 17, 24, 84, 85, 200)
MOST = 200_000  # products of one shape: float64 must be quick, too
# NaN, two with other bits set, and infinities.
NO_NUMBERS = np.array([0x7FC00000, 0x7FC00001, 0xFFFFFFFF, 0x7F800000, 0xFF800000], np.uint32).view(np.float32)
WRONG = [(number, place) for number in range(len(NO_NUMBERS)) for place in range(3)]


def inputs(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features N x D x H x W, rows R x D and the top's gradient N x R x D of a numbered case.

    Of five cases one has products of 100, one a map of equal numbers, one maps far from zero and a row of zeros.
    """
    random = np.random.default_rng(number)
    places, rows = int(random.choice(PLACES)), int(random.choice(ROWS))
    if number == 0:
        places, rows = max(PLACES), 1024
    channels = min(int(random.integers(2, 40)), max(1, MOST // (places * rows)))
    images = min(int(random.integers(1, 4)), max(1, MOST // (places * rows * channels)))
    height = int(random.choice([one for one in (1, 2, 3, 7, 8) if places % one == 0]))
    features = numbers(random, (images, channels, height, places // height))
    embeddings = numbers(random, (rows, channels))
    kind = number % 5
    if kind == 1:
        embeddings *= 100 / np.max(np.abs(embeddings).max(axis=0) * np.abs(features).max(axis=(0, 2, 3)))
    if kind == 2:
        features[0, 0] = features[0, 0, 0, 0]
    if kind == 3:
        features += 50
        embeddings[0] = 0
    return features, embeddings, numbers(random, (images, rows, channels))


def pass_through(net: caffe.Net, features: np.ndarray, rows: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    """What the layer makes of its bottoms, and their gradients."""
    for name, values in (("features", features), ("rows", rows)):
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    net.reshape()
    out = net.forward()["out"].copy()
    for name in net.inputs:
        net.blobs[name].diff[...] = 7  # which must not be added to
    net.backward(out=gradient)
    return {"out": out} | {name: net.blobs[name].diff.copy() for name in net.inputs}


def new_net(kind: str) -> caffe.Net:
    """The layer of this kind between its inputs."""
    return build(text_net(LAYERS[kind], features=(1, 2, 3, 3), rows=(2, 2)), "train")


def random_shapes(record: Record, kind: str) -> None:
    """All numbered cases in one net."""
    net = new_net(kind)
    for number in range(SHAPES):
        record.update({f"{number} {name}": values for name, values in pass_through(net, *inputs(number)).items()})


def wrong_inputs(number: int, place: int) -> list[np.ndarray]:
    """Features, rows and gradient, one number in the one at `place` being one of NO_NUMBERS."""
    random = np.random.default_rng(number)
    given = [numbers(random, shape) for shape in ((2, 4, 5, 7), (6, 4), (2, 6, 4))]
    given[place].flat[given[place].size // 2] = NO_NUMBERS[number]
    return given


def no_numbers(record: Record, kind: str) -> None:
    """One wrong number in each of the inputs."""
    net = new_net(kind)
    for number, place in WRONG:
        found = pass_through(net, *wrong_inputs(number, place))
        record.update({f"{number} {place} {name}": values for name, values in found.items()})


def steps_layer(record: Record) -> None:
    """The weights that a solver makes of a net with the layer."""
    with tempfile.TemporaryDirectory() as folder:
        solver = attention_solver(folder)
        solver.step(4)
        for name, blobs in solver.net.params.items():
            record.update({f"{name}.{number}": blob.data.copy() for number, blob in enumerate(blobs)})


CASES = {f"{case.__name__}_{kind}": partial(case, kind=kind) for case in (random_shapes, no_numbers) for kind in LAYERS}
CASES |= {"steps_layer": steps_layer}
