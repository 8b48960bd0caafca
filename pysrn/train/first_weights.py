"""Whether a user's weights belong to the net of stage 1, found out before a run is begun with them.

Caffe itself says what shapes its blobs have: the net is built in a process of its own, because Caffe ends the process
that it does not like something in, and keeps the memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from caffe.proto import caffe_pb2

from pysrn.console import SrnError, existing_file
from pysrn.nets import prototxt, stages
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import add_layer
from pysrn.recipes import CROP_SIZE, Recipe
from pysrn.train.settings import Settings
from pysrn.train.surgery import plan_copy

RELEASE_CLASSIFIER = "fc1000"  # the ImageNet classifier of the public release: the only thing stage 1 leaves
_SHAPES = (
    "import sys, json, caffe; net = caffe.Net(sys.argv[1], caffe.TEST); "
    "print(json.dumps({name: [list(b.shape) for b in blobs] for name, blobs in net.params.items()}))"
)


def check_first_weights(settings: Settings) -> None:
    """Raise SrnError (MissingError: no such file) when `settings.weights` are not those of stage 1's net."""
    weights = read_weights(existing_file(settings.weights, "ImageNet weights"))
    net = _fed_by_input(settings.recipe)
    plan_copy(_blob_shapes(net), weights, settings.weights, stages.new_layers(net, 1), [RELEASE_CLASSIFIER])


def _fed_by_input(recipe: Recipe) -> caffe_pb2.NetParameter:
    """Stage 1's net for a single image, with nothing to read it from."""
    net = stages.stage_net(recipe, 1, stages.DataSource("", workers=0))
    layers = list(net.layer)[1:]
    del net.layer[:]
    shapes = {"data": [1, 3, CROP_SIZE, CROP_SIZE], "label": [1, len(recipe.dataset.classes)]}
    for top, shape in shapes.items():
        add_layer(net, top, "Input", [], input_param={"shape": [{"dim": shape}]})
    net.layer.extend(layers)
    return net


def _blob_shapes(net: caffe_pb2.NetParameter) -> dict[str, list[tuple[int, ...]]]:
    """Layer name -> shapes of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        prototxt.write_message(net, path)
        done = subprocess.run([sys.executable, "-c", _SHAPES, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SrnError(f"Caffe cannot build the net of stage 1: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return {name: [tuple(shape) for shape in shapes] for name, shapes in json.loads(done.stdout).items()}
