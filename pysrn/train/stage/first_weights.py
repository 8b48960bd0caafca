"""First weights: whether a user's belong to the net of the first stage, and those that a stage's new layers are drawn.

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

from pysrn.console import SrnError, existing_file
from pysrn.nets import messages, prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.in_caffe import loadable, make_net
from pysrn.nets.layers import parameter_layers
from pysrn.nets.surgery import plan_copy
from pysrn.recipes import Recipe
from pysrn.systems.stage_nets import DataSource, new_layers, stage_net
from pysrn.train.fixed.settings import fed_by_input, feed_of

_SHAPES = (
    "import sys, json, caffe; from pysrn.nets.surgery import own_shapes; "
    "print(json.dumps(own_shapes(caffe.Net(sys.argv[1], caffe.TEST))))"
)


def check_first_weights(recipe: Recipe, path: str) -> None:
    """Raise SrnError (MissingError: no such file) when the weights at `path` are not those of the first stage's net."""
    weights = read_weights(existing_file(path, "first weights"))
    first = recipe.system.stage(recipe.stage_numbers[0])
    net = stage_net(recipe, first.number, DataSource("", workers=0))
    found = _blob_shapes(_fed_by_input(net, len(recipe.dataset.classes)))
    own = parameter_layers(net)  # without those whose blobs are another's
    shapes = {name: found[name] for name in found if name in own}
    plan_copy(shapes, weights, path, new_layers(net, recipe, first), recipe.system.leaves)


def draw_first_weights(trained, whole_net: Path, solver: Path, layers: Collection[str]) -> None:
    """Fill new layers of a net that is trained split with what Caffe draws in the whole net with the same seed.

    Caffe draws the weights of all layers in their order: so the parts begin where the whole begins.
    """
    import caffe  # only where a net is trained

    net = _fed_by_input(prototxt.read_message(whole_net, messages.NetParameter), trained.blobs["label"].shape[1])
    caffe.set_random_seed(prototxt.read_message(solver, messages.SolverParameter).random_seed)
    whole = make_net(net, train=True)
    for name in layers:
        for blob, drawn in zip(trained.params[name], whole.params[name], strict=True):
            blob.data[...] = drawn.data


def _fed_by_input(net: messages.NetParameter, classes: int) -> messages.NetParameter:
    """A stage's net that takes a single image, with nothing to read it from."""
    size = feed_of(net).crop_size
    return fed_by_input(net, {"data": (1, 3, size, size), "label": (1, classes)})


def _blob_shapes(net: messages.NetParameter) -> dict[str, list[tuple[int, ...]]]:
    """Layer name -> shapes of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        prototxt.write_message(loadable(net), path)
        done = subprocess.run([sys.executable, "-c", _SHAPES, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["?"]
        raise SrnError(f"Caffe cannot build the net of the first stage: {words[-1]}")
    return {name: [tuple(shape) for shape in shapes] for name, shapes in json.loads(done.stdout).items()}
