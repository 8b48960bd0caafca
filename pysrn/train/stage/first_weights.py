"""First weights: whether a user's belong to the net of stage 1, and those that a stage's new layers are drawn.

Caffe itself says what shapes its blobs have: the net is built in a process of its own, because Caffe ends the process
that it does not like something in, and keeps the memory. The other is asked for in a process that trains.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from caffe.proto import caffe_pb2

from pysrn.console import SrnError, existing_file
from pysrn.nets import prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import add_layer
from pysrn.nets.surgery import plan_copy
from pysrn.recipes import CROP_SIZE
from pysrn.systems.srn import nets as stages
from pysrn.train.settings import Settings

RELEASE_CLASSIFIER = "fc1000"  # the ImageNet classifier of the public release: the only thing stage 1 leaves
_SHAPES = (
    "import sys, json, caffe; net = caffe.Net(sys.argv[1], caffe.TEST); "
    "print(json.dumps({name: [list(b.shape) for b in blobs] for name, blobs in net.params.items()}))"
)


def check_first_weights(settings: Settings) -> None:
    """Raise SrnError (MissingError: no such file) when `settings.weights` are not those of stage 1's net."""
    weights = read_weights(existing_file(settings.weights, "ImageNet weights"))
    recipe = settings.recipe
    net = stages.stage_net(recipe, 1, stages.DataSource("", workers=0))
    _feed_by_input(net, len(recipe.dataset.classes))
    plan_copy(_blob_shapes(net), weights, settings.weights, stages.new_layers(net, 1), [RELEASE_CLASSIFIER])


def draw_first_weights(trained, whole_net: Path, solver: Path, layers: Collection[str]) -> None:
    """Fill new layers of a net that is trained in parts with what Caffe draws in the whole net with the same seed.

    Caffe draws the weights of all layers in their order: so the parts begin where the whole begins.
    """
    import caffe  # only where a net is trained

    net = prototxt.read_message(whole_net, caffe_pb2.NetParameter)
    _feed_by_input(net, trained.blobs["label"].shape[1])
    caffe.set_random_seed(prototxt.read_message(solver, caffe_pb2.SolverParameter).random_seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        prototxt.write_message(net, path)
        whole = caffe.Net(str(path), caffe.TRAIN)
    for name in layers:
        for blob, drawn in zip(trained.params[name], whole.params[name], strict=True):
            blob.data[...] = drawn.data


def _feed_by_input(net: caffe_pb2.NetParameter, classes: int) -> None:
    """Let a stage's net take a single image, with nothing to read it from."""
    layers = list(net.layer)[1:]
    del net.layer[:]
    for top, shape in {"data": [1, 3, CROP_SIZE, CROP_SIZE], "label": [1, classes]}.items():
        add_layer(net, top, "Input", [], input_param={"shape": [{"dim": shape}]})
    net.layer.extend(layers)


def _blob_shapes(net: caffe_pb2.NetParameter) -> dict[str, list[tuple[int, ...]]]:
    """Layer name -> shapes of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        prototxt.write_message(net, path)
        done = subprocess.run([sys.executable, "-c", _SHAPES, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SrnError(f"Caffe cannot build the net of stage 1: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return {name: [tuple(shape) for shape in shapes] for name, shapes in json.loads(done.stdout).items()}
