"""The files of a deploy net that other tools read: `deploy.prototxt` and `labels.txt` beside a stage's weights.

The net has what these weights can compute, and no more. It stands in the wiring that OpenCV knows, too
(`nets/portable.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pysrn.console import SrnError
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.portable import as_portable_as_can_be
from pysrn.nets.prototxt import check_net, write_message
from pysrn.recipes import Recipe
from pysrn.systems.registry import recognise
from pysrn.systems.stage_nets import check_of_recipe, deploy_message
from pysrn.systems.system import Architecture
from pysrn.whole_files import written_beside

DEPLOY, LABELS = "deploy.prototxt", "labels.txt"
OWN = "give the weights that tools/run_stage.py wrote there"


def write_deploy(recipe: Recipe, stage: int, weights: Path) -> tuple[Path, Path]:
    """Write both files beside the `weights` of a stage of a recipe's net; returns their paths.

    SrnError where the weights are of another net, of another number of labels, or can compute no score.
    """
    values, system, classes = read_weights(weights), recipe.system, recipe.dataset.classes
    architecture = recognise(values, weights, system)
    check_of_recipe(values, architecture, recipe, str(weights))
    if architecture.classes != len(classes):
        raise SrnError(f"{weights} has {architecture.classes} labels, its run has {len(classes)}", OWN)
    net = as_portable_as_can_be(deploy_message(architecture, values))
    if not net.layer:
        raise SrnError(f"{weights} can compute no score", OWN)
    check_net(net)
    words = (
        f"Its part that is learned after stage {stage} ({system.stage(stage).name}), of {recipe.dataset.title}: "
        f"{weights.name} has the weights.\n"
        f"The labels are in {LABELS}, one a line, in the order of the scores.\n"
    )
    labels = weights.with_name(LABELS)
    _write_labels(classes, labels)
    write_message(net, weights.with_name(DEPLOY), words_on(architecture, net) + words)
    return weights.with_name(DEPLOY), labels


def words_on(architecture: Architecture, net: messages.NetParameter) -> str:
    """What a user of a deploy net must know, for its head."""
    system, eaten = architecture.system, architecture.input
    layers = {top: layer.name for layer in net.layer for top in layer.top if layer.top != layer.bottom}
    stored, size = (f"{side} x {side}" for side in (eaten.stored_size, eaten.size))
    scores, maps = _named(system.score_names, layers), _named(system.map_names, layers) or "none"
    mean = ", ".join(f"{value:g}" for value in eaten.mean)
    scaled = "" if eaten.scale == 1 else f", times {eaten.scale:g}"
    return (
        f"{system.title} for prediction: {system.trunks[architecture.trunk].title}, {architecture.classes} labels.\n"
        f"data: 1 x 3 x {size}, BGR from 0 to 255 minus the mean ({mean}){scaled}.\n"
        f"An image is resized whole to {stored}, by averaging where it shrinks; then bilinearly to {size}.\n"
        f"Scores are logits: {scores}. Maps: {maps}.\n"
        "(In parentheses: the layer's name, by which OpenCV asks for it.)\n"
    )


def _named(blobs: Sequence[str], layers: dict[str, str]) -> str:
    """Those of the blobs that there are, each with its layer where that is called otherwise."""
    return ", ".join(blob if layers[blob] == blob else f"{blob} ({layers[blob]})" for blob in blobs if blob in layers)


def _write_labels(classes: Sequence[str], path: Path) -> None:
    lines = (" ".join(name.splitlines()) for name in classes)
    with written_beside(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogateescape")
