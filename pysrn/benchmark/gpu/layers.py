"""Every kind of layer of the training nets on the GPU against the CPU: outputs and gradients.

The layers are those of the last stage's nets in all variants, one of each kind (a type with other settings is another
kind), with the shapes that they have there. Run as `python -m pysrn.benchmark.gpu.layers JSON` (`check.py` does), so
that the device's memory is free again afterwards.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from pysrn.benchmark.nets import KNOWN_LOSS, one_layer_net, training_net
from pysrn.benchmark.usual import usual_recipe
from pysrn.nets import messages
from pysrn.nets.in_caffe import make_net, use_device
from pysrn.systems.registry import system_named
from pysrn.systems.system import System

# Not compared: what reads from memory or disk only.
WITHOUT_ARITHMETIC = {"Input", "Python", "Data"}
# Of the settings that say nothing about how a layer is computed.
IRRELEVANT = ("num_output", "weight_filler", "bias_filler")
Values = dict[str, np.ndarray]
Shapes = list[tuple[int, ...]]


def layer_kinds(system: System, trunk: str, batch_size: int) -> dict[str, tuple[messages.LayerParameter, Shapes]]:
    """Variant and name of the first layer of each kind -> the layer and the shapes that it reads."""
    use_device(None)
    seen: set[bytes] = set()
    kinds = {}
    for variant in system.variants:
        message = training_net(usual_recipe(system, variant, trunk, batch_size), system.last_stage)
        net = make_net(message, train=True)
        for layer in message.layer:
            if layer.type in WITHOUT_ARITHMETIC or (kind := _kind(layer)) in seen:
                continue
            seen.add(kind)
            shapes = [tuple(net.blobs[name].shape) for name in layer.bottom]
            kinds[f"{variant}/{layer.name}"] = layer, shapes
    return kinds


def compare(system: str, trunk: str, batch_size: int, gpu: int | None) -> dict[str, dict]:
    """Name of `layer_kinds` -> its type, and the largest difference of its outputs and gradients from the CPU's.

    A difference is relative to the largest value of its array. With `gpu` None the CPU is compared with itself.
    """
    found = {}
    for name, (layer, shapes) in layer_kinds(system_named(system), trunk, batch_size).items():
        expected, values = run(layer, shapes, None), run(layer, shapes, gpu)
        differences = {part: difference(expected[part], values[part]) for part in expected}
        found[name] = {"type": layer.type, "shapes": shapes, "differences": differences}
    return found


def run(layer: messages.LayerParameter, shapes: Shapes, gpu: int | None) -> Values:
    """Outputs and gradients of a layer with random weights on random inputs, the same ones in each call."""
    use_device(gpu)
    net = make_net(one_layer_net(layer, shapes), train=True)
    random = np.random.default_rng(0)
    own = net.layers[-1]
    loss = own.type.endswith("Loss")
    for number, blob in enumerate(own.blobs):
        if own.type == "BatchNorm":  # mean, variance and their factor: nothing may be negative
            blob.data[...] = 1 if number == 2 else random.uniform(0.5, 2, blob.data.shape)
        else:
            blob.data[...] = random.normal(0, 0.1, blob.data.shape)
    for number, shape in enumerate(shapes):
        net.blobs[f"bottom{number}"].data[...] = random.normal(0, 1, shape)
    if loss:  # labels: yes or no, or the number of one of the scores
        net.blobs["bottom1"].data[...] = random.integers(2 if own.type == KNOWN_LOSS else shapes[0][1], size=shapes[1])
    net.forward()
    tops = [name for name in net.blobs if name.startswith("top")]
    found = {name: net.blobs[name].data.copy() for name in tops}
    for name in tops:
        net.blobs[name].diff[...] = 1 if loss else random.normal(0, 1, net.blobs[name].data.shape)
    net.clear_param_diffs()
    net.backward()
    learned = 1 if loss else len(shapes)  # no gradient reaches the labels
    found |= {f"d_bottom{number}": net.blobs[f"bottom{number}"].diff.copy() for number in range(learned)}
    if own.type != "BatchNorm":  # statistics have no gradient
        found |= {f"d_weight{number}": blob.diff.copy() for number, blob in enumerate(own.blobs)}
    return found


def difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Largest absolute difference, relative to the largest value of `expected`."""
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(expected - found).max()) / scale


def _kind(layer: messages.LayerParameter) -> bytes:
    """What layers that are computed alike have in common: all settings but names, sizes, fillers and rates."""
    own = messages.copy_of(layer)
    for field in ("name", "bottom", "top", "param"):
        own.ClearField(field)
    for part in (own.convolution_param, own.inner_product_param):
        for field in IRRELEVANT:
            part.ClearField(field)
    own.scale_param.ClearField("filler")
    return own.SerializeToString(deterministic=True) + bytes([len(layer.bottom)])


if __name__ == "__main__":
    print(json.dumps(compare(**json.loads(sys.argv[1]))))
