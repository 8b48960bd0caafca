"""The gradients of a stage's first iteration, from what every run leaves: the solver state of a stage of one iteration.

Caffe's SGD begins with a momentum of V = lr * (gradient + weight_decay * weight), and writes V down.
"""

from collections.abc import Iterator
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2

from pysrn.nets.caffemodel import read_weights
from pysrn.nets.prototxt import read_message


def first_gradients(folder: Path) -> dict[str, np.ndarray]:
    """Name of each learnable blob -> gradient of the loss in float64, from a stage folder after one iteration."""
    solver = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter)
    gradients = {}
    for name, number, param, before, momentum in _learnable(folder):
        decay = solver.weight_decay * param.decay_mult * before
        gradients[f"{name}[{number}]"] = momentum / (solver.base_lr * param.lr_mult) - decay
    return gradients


def _learnable(folder: Path) -> Iterator[tuple[str, int, caffe_pb2.ParamSpec, np.ndarray, np.ndarray]]:
    """Of each blob that learns, layer, number, param, values before the first iteration, and momentum after it."""
    net = read_message(folder / "net.prototxt", caffe_pb2.NetParameter)
    state = caffe_pb2.SolverState.FromString((folder / "iter_000001.solverstate").read_bytes())
    after = read_weights(folder / "iter_000001.caffemodel")
    assert state.iter == 1
    momenta = (np.array(blob.data, np.float64) for blob in state.history)
    for layer in net.layer:
        for number, blob in enumerate(after.get(layer.name, [])):
            momentum, param = next(momenta), layer.param[number]
            if param.lr_mult:
                yield layer.name, number, param, blob.astype(np.float64).ravel() + momentum, momentum
    assert next(momenta, None) is None


class LoadedStage:
    """The net of a stage folder in this process, with the weights from before its first iteration, rounded anew."""

    def __init__(self, folder: Path):
        self.message = read_message(folder / "net.prototxt", caffe_pb2.NetParameter)
        self.net = caffe.Net(str(folder / "net.prototxt"), str(folder / "iter_000001.caffemodel"), caffe.TRAIN)
        self._learnable = []
        for name, number, _, before, _ in _learnable(folder):
            blob = self.net.params[name][number]
            blob.data[...] = before.reshape(blob.data.shape)
            self._learnable.append((name, number))

    def forward_after(self, blob: str) -> None:
        """Run the layers behind a blob from the values that it has now."""
        last = max(number for number, layer in enumerate(self.message.layer) if blob in layer.top)
        names = list(self.net._layer_names)
        self.net.forward(start=names[names.index(self.message.layer[last].name) + 1])

    def gradients(self) -> dict[str, np.ndarray]:
        """As `first_gradients` has them, of the values of the last forward pass."""
        self.net.clear_param_diffs()
        self.net.backward()
        return {f"{name}[{number}]": self.net.params[name][number].diff.ravel() for name, number in self._learnable}


def largest_difference(gradients: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """The largest relative difference of a blob's gradient, as norms."""
    assert gradients.keys() == reference.keys() and gradients
    return max(np.linalg.norm(gradients[name] - wanted) / np.linalg.norm(wanted) for name, wanted in reference.items())
