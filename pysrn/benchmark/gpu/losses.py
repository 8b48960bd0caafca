"""A stage's first steps on the GPU against the CPU: losses, and the gradients of the first one.

Same random weights, same images; no dropout, whose random numbers a GPU draws in its own way. Run as
`python -m pysrn.benchmark.gpu.losses JSON` (`check.py` does). CAFFE_ENGINE says with which parts.
"""

from __future__ import annotations

import json
import math
import sys

import numpy as np

from pysrn.benchmark.nets import fill_inputs, make_solver, training_net
from pysrn.benchmark.usual import usual_recipe
from pysrn.nets.in_caffe import use_device
from pysrn.nets.losses import loss_layers
from pysrn.systems.registry import system_named

STEP = 1e-3  # assumed: by how much of all weights' norm a step without momentum moves them
NO_DROPOUT = 1e-9  # Caffe allows no 0
NOISE = 1e-6  # assumed: of the whole gradient's norm, what rounding leaves of a sum that cancels out; float32 has 6e-8


def compare(system: str, trunk: str, stage: int, batch_size: int, gpu: int | None, steps: int) -> dict:
    """Largest relative difference of a loss, of a blob's gradient (L2), and the losses of both, a list a step.

    With `gpu` None the CPU is compared with itself.
    """
    recipe, message = comparable(system, trunk, stage, batch_size)
    names = [layer.top[0] for layer in loss_layers(message)]
    use_device(None)
    first = make_solver(message, recipe, stage, 0.0)  # the others begin with its numbers
    expected = gradients_of(first.net)
    rate = rate_for(first.net)
    losses = []
    for device in (None, gpu):
        use_device(device)
        solver = make_solver(message, recipe, stage, rate)
        copy_weights(first.net, solver.net)
        gradient = worst(expected, gradients_of(solver.net))
        losses.append([])
        for _ in range(steps):
            solver.step(1)
            losses[-1].append([float(solver.net.blobs[name].data) for name in names])
    return {"loss": difference(*losses), "gradient": gradient, "cpu": losses[0], "here": losses[1]}


def comparable(system: str, trunk: str, stage: int, batch_size: int):
    """A recipe, and the net of a stage without what draws random numbers while it trains."""
    recipe = usual_recipe(system_named(system), None, trunk, batch_size)
    message = training_net(recipe, stage)
    for layer in message.layer:
        if layer.type == "Dropout":
            layer.dropout_param.dropout_ratio = NO_DROPOUT
    return recipe, message


def copy_weights(source, target) -> None:
    """Give a net the numbers of another one of the same layers."""
    for name, blobs in source.params.items():
        for number, blob in enumerate(blobs):
            target.params[name][number].data[...] = blob.data


def rate_for(net) -> float:
    """The rate that moves the weights of a net, whose inputs are filled, by STEP of their norm."""
    weights = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    return STEP * _norm(weights) / _norm(gradients_of(net))


def difference(expected: list[list[float]], found: list[list[float]]) -> float:
    """The largest relative one of a loss, lists a step."""
    return float((np.abs(np.array(found) - expected) / np.abs(expected)).max())


def gradients_of(net) -> dict[str, list[np.ndarray]]:
    """The gradients of a net's parameters on the images that it is given here."""
    fill_inputs(net)
    net.clear_param_diffs()
    net.forward()
    net.backward()
    return {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}


def _norm(arrays: dict[str, list[np.ndarray]]) -> float:
    return math.sqrt(sum(float(np.square(one, dtype=np.float64).sum()) for many in arrays.values() for one in many))


def worst(expected: dict[str, list[np.ndarray]], found: dict[str, list[np.ndarray]]) -> float:
    """The largest relative difference of a blob, in L2.

    Gradients that are 0 but for rounding, as that of a bias before a softmax over places, are none to divide by.
    """
    least = NOISE * _norm(expected) or 1.0
    pairs = [(one, other) for name in expected for one, other in zip(expected[name], found[name], strict=True)]
    differences = [float(np.linalg.norm(one - other) / max(np.linalg.norm(one), least)) for one, other in pairs]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


if __name__ == "__main__":
    print(json.dumps(compare(**json.loads(sys.argv[1]))))
