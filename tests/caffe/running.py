"""Nets of a few layers in Caffe, filled with random numbers, and what a child process records of them.

CAFFE_ENGINE is read once a process, so every setting of it has a child of its own: `python -m tests.caffe.running
FOLDER MODULE CASE...` runs cases of `tests.caffe.MODULE` and leaves `FOLDER/<case>.npz` for each.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

OUTPUT, GRADIENT = "output", "gradient"  # first words of what a case records: what tolerance it is under
PHASES = {"train": caffe.TRAIN, "test": caffe.TEST}


class Record(dict):
    """What one case found: `output/...` and `gradient/...` -> a copy of the numbers.

    `folder`: where the child leaves its results.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def outputs(self, prefix: str = "", **arrays: np.ndarray) -> None:
        """Keep outputs of a net."""
        self.update({f"{OUTPUT}/{prefix}{name}": np.array(values) for name, values in arrays.items()})

    def gradients(self, prefix: str = "", **arrays: np.ndarray) -> None:
        """Keep gradients."""
        self.update({f"{GRADIENT}/{prefix}{name}": np.array(values) for name, values in arrays.items()})

    def pass_through(self, net: caffe.Net, prefix: str = "", seed: int = 7, backward: bool = True) -> None:
        """Run a net forth and (with random gradients at its outputs) back; keep outputs and all gradients."""
        self.outputs(prefix, **net.forward())
        if not backward:
            return
        random = np.random.default_rng(seed)
        net.clear_param_diffs()
        diffs = {name: numbers(random, net.blobs[name].data.shape) for name in net.outputs}
        net.backward(**diffs)
        self.gradients(prefix, **{name: net.blobs[name].diff for name in net.inputs})
        self.parameter_gradients(net, prefix)

    def parameter_gradients(self, net: caffe.Net, prefix: str = "") -> None:
        """Keep the gradients of all weights; those of stored statistics are no gradients."""
        for name, blobs in net.params.items():
            if net.layer_dict[name].type != "BatchNorm":
                self.gradients(prefix, **{f"{name}.{number}": blob.diff for number, blob in enumerate(blobs)})


def numbers(random: np.random.Generator, shape) -> np.ndarray:
    """Normal float32 numbers."""
    return random.normal(0, 1, tuple(shape)).astype(np.float32)


def build(message: caffe_pb2.NetParameter, phase: str, seed: int = 0) -> caffe.Net:
    """A net of a message, its inputs and weights filled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        path.write_text(text_format.MessageToString(message))
        net = caffe.Net(str(path), PHASES[phase])
    fill(net, seed)
    return net


def fill(net: caffe.Net, seed: int = 0) -> None:
    """Fill inputs and weights; statistics are stored with a factor, as Caffe does."""
    random = np.random.default_rng(seed)
    for name in net.inputs:
        net.blobs[name].data[...] = numbers(random, net.blobs[name].data.shape)
    for name, blobs in net.params.items():
        if net.layer_dict[name].type == "BatchNorm":
            blobs[0].data[...] = 999.98 * random.normal(0, 0.3, blobs[0].data.shape)
            blobs[1].data[...] = 999.98 * random.uniform(0.5, 1.5, blobs[1].data.shape)
            blobs[2].data[...] = 999.98
            continue
        for blob in blobs:
            size = np.sqrt(2 / max(1, np.prod(blob.data.shape[1:])))
            blob.data[...] = random.normal(0, size, blob.data.shape)


def text_net(layers: str, **inputs: tuple[int, ...]) -> caffe_pb2.NetParameter:
    """Inputs of these shapes, and layers in prototxt; gradients reach the inputs."""
    net = caffe_pb2.NetParameter(name="case", force_backward=True)
    for name, shape in inputs.items():
        layer = net.layer.add(name=name, type="Input")
        layer.top.append(name)
        layer.input_param.shape.add(dim=shape)
    text_format.Merge(layers, net)
    return net


def layer(name: str, kind: str, bottom: str, top: str = "", parameters: str = "") -> str:
    """One layer in prototxt; `bottom` and `top` hold names divided by blanks, `top` is `name` by default."""
    bottoms = " ".join(f'bottom: "{one}"' for one in bottom.split())
    tops = " ".join(f'top: "{one}"' for one in (top or name).split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} {tops} {parameters} }}\n'


def main(folder: str, module: str, *names: str) -> None:
    """Be the child."""
    caffe.set_mode_cpu()
    cases = importlib.import_module(f"tests.caffe.{module}").CASES
    for name in names:
        record = Record(Path(folder))
        cases[name](record)
        partial = Path(folder) / f".{name}.npz"
        np.savez(partial, **record)
        partial.rename(Path(folder) / f"{name}.npz")


if __name__ == "__main__":
    main(*sys.argv[1:])
