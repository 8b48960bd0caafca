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


def compare(system: str, trunk: str, stage: int, batch_size: int, gpu: int | None, steps: int) -> dict:
    """Largest relative difference of a loss, of a blob's gradient (L2), and the losses of both, a list a step.

    With `gpu` None the CPU is compared with itself.
    """
    recipe = usual_recipe(system_named(system), None, trunk, batch_size)
    message = training_net(recipe, stage)
    for layer in message.layer:
        if layer.type == "Dropout":
            layer.dropout_param.dropout_ratio = NO_DROPOUT
    names = [layer.top[0] for layer in loss_layers(message)]
    use_device(None)
    first = make_solver(message, recipe, stage, 0.0)  # the others begin with its numbers
    expected = _gradients(first.net)
    rate = STEP * _norm({name: [blob.data for blob in first.net.params[name]] for name in expected}) / _norm(expected)
    losses = []
    for device in (None, gpu):
        use_device(device)
        solver = make_solver(message, recipe, stage, rate)
        for name, blobs in first.net.params.items():
            for number, blob in enumerate(blobs):
                solver.net.params[name][number].data[...] = blob.data
        worst = _worst(expected, _gradients(solver.net))
        losses.append([])
        for _ in range(steps):
            solver.step(1)
            losses[-1].append([float(solver.net.blobs[name].data) for name in names])
    cpu, here = np.array(losses)
    return {
        "loss": float((np.abs(here - cpu) / np.abs(cpu)).max()),
        "gradient": worst,
        "cpu": losses[0],
        "here": losses[1],
    }


def _gradients(net) -> dict[str, list[np.ndarray]]:
    """The gradients of a net's parameters on the images that it is given here."""
    fill_inputs(net)
    net.clear_param_diffs()
    net.forward()
    net.backward()
    return {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}


def _norm(arrays: dict[str, list[np.ndarray]]) -> float:
    return math.sqrt(sum(float(np.square(one, dtype=np.float64).sum()) for many in arrays.values() for one in many))


def _worst(expected: dict[str, list[np.ndarray]], found: dict[str, list[np.ndarray]]) -> float:
    """The largest relative difference of a blob, in L2; blobs without a gradient say nothing."""
    pairs = [(one, other) for name in expected for one, other in zip(expected[name], found[name], strict=True)]
    worst = [float(np.linalg.norm(one - other) / norm) for one, other in pairs if (norm := np.linalg.norm(one))]
    return math.nan if any(map(math.isnan, worst)) else max(worst)


if __name__ == "__main__":
    print(json.dumps(compare(**json.loads(sys.argv[1]))))
