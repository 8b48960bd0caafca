"""The gradients of a stage's first iteration, from what every run leaves: the solver state of a stage of one iteration.

Caffe's SGD begins with a momentum of V = lr * (gradient + weight_decay * weight), and writes V down.
"""

from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2

from pysrn.nets.caffemodel import read_weights
from pysrn.nets.prototxt import read_message


def first_gradients(folder: Path) -> dict[str, np.ndarray]:
    """Name of each learnable blob -> gradient of the loss in float64, from a stage folder after one iteration."""
    net = read_message(folder / "net.prototxt", caffe_pb2.NetParameter)
    solver = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter)
    state = caffe_pb2.SolverState.FromString((folder / "iter_000001.solverstate").read_bytes())
    after = read_weights(folder / "iter_000001.caffemodel")
    assert state.iter == 1
    momenta = (np.array(blob.data, np.float64) for blob in state.history)
    gradients = {}
    for layer in net.layer:
        for number, blob in enumerate(after.get(layer.name, [])):
            momentum, param = next(momenta), layer.param[number]
            if param.lr_mult:
                before = blob.astype(np.float64).ravel() + momentum
                decay = solver.weight_decay * param.decay_mult * before
                gradients[f"{layer.name}[{number}]"] = momentum / (solver.base_lr * param.lr_mult) - decay
    assert next(momenta, None) is None
    return gradients


def largest_difference(gradients: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """The largest relative difference of a blob's gradient, as norms."""
    assert gradients.keys() == reference.keys() and gradients
    return max(np.linalg.norm(gradients[name] - wanted) / np.linalg.norm(wanted) for name, wanted in reference.items())
