"""The project's own nets with weights of realistic size: every stage in TRAIN, the deploy net whole and folded in TEST.

The heads' gradients are as large as in training, because the weights are: maps with clear peaks, scores of order 1.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import caffe
import numpy as np

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.benchmark.sides.caffe_side import make_solver
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.folding import fill, fold
from pysrn.predict.deploy import DeployNet
from pysrn.recipes import Recipe, StageSpec
from pysrn.train.fixed.settings import fed_by_input
from tests.caffe.running import Record
from tests.srn import CROP_SIZE, MEAN_BGR, RECIPES, Architecture, replace, stages

BATCH = 3
RATE = 1e-8  # of the steps: small enough that three of them do not magnify rounding; state_cases.py proves the update
SAMPLES = 2  # batches whose gradients are compared: rounding at a rectifier's edge is a matter of luck
NETS = {
    "paper": replace(RECIPES["shapes"], stages=(StageSpec(),) * 4),
    "v15": replace(RECIPES["shapes"], trunk="resnet14_v15", stages=(StageSpec(),) * 4),
    "released": replace(RECIPES["shapes"], variant="released", stages=(StageSpec(),) * 4),
    "resnet101": RECIPES["coco"],
    "resnet101_released": replace(RECIPES["coco"], variant="released"),
}


def pictures(count: int, seed: int) -> np.ndarray:
    """Random pictures with edges and flat parts, minus the mean: count x 3 x 224 x 224."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 3, CROP_SIZE // 16, CROP_SIZE // 16))
    pixels = coarse.repeat(16, 2).repeat(16, 3) + random.normal(0, 8, (count, 3, CROP_SIZE, CROP_SIZE))
    return (np.clip(pixels, 0, 255) - np.array(MEAN_BGR)[:, None, None]).astype(np.float32)


def write_weights(folder: Path, name: str) -> None:
    """Write the caffemodel that all settings of the engine share."""
    recipe = NETS[name]
    architecture = Architecture(recipe.trunk, len(recipe.dataset.classes), recipe.heads)
    write_realistic(folder / f"{name}.caffemodel", architecture, pictures(2, 0))


def weights_of(record: Record, name: str) -> Path:
    """Where the caffemodel is."""
    return record.folder.parent / f"{name}.caffemodel"


def solver_of(recipe: Recipe, stage: int, weights, folded: bool):
    """A stage's net fed from memory (the message), and its solver, filled."""
    shapes = {"data": (BATCH, 3, CROP_SIZE, CROP_SIZE), "label": (BATCH, len(recipe.dataset.classes))}
    message = fed_by_input(stages.stage_net(recipe, stage, stages.DataSource("", workers=0)), shapes)
    if folded:
        message, weights = fold_fixed(message, weights)
    solver = make_solver(message, recipe, stage, RATE)
    fill(solver.net, weights)
    return message, solver


def fold_fixed(message, weights):
    """A net of stage 2 or 3 and its weights with the fixed batch normalisation folded away."""
    message, weights = fold(message, weights)
    for layer in message.layer:
        # A folded one has a bias that it did not have: fixed as its weights are.
        if layer.type == "Convolution" and layer.convolution_param.bias_term and len(layer.param) == 1:
            layer.param.add(lr_mult=0.0, decay_mult=0.0)
    return message, weights


def feed(net: caffe.Net, seed: int) -> None:
    """A batch."""
    net.blobs["data"].data[...] = pictures(BATCH, seed)
    net.blobs["label"].data[...] = np.random.default_rng(seed).integers(0, 2, net.blobs["label"].data.shape)


def training(record: Record, name: str, stage: int, folded: bool = False) -> None:
    """Losses and gradients of a stage, for some batches, and the losses of some steps."""
    weights = read_weights(weights_of(record, name))
    message, solver = solver_of(NETS[name], stage, weights, folded)
    net = solver.net
    learning = [layer.name for layer in message.layer if any(param.lr_mult for param in layer.param)]
    scores = [layer.bottom[0] for layer in message.layer if layer.type == "SigmoidCrossEntropyLoss"]
    for sample in range(SAMPLES):
        feed(net, sample)
        net.clear_param_diffs()
        record.outputs(f"{sample} ", **net.forward(), **{score: net.blobs[score].data for score in scores})
        net.backward()
        for part in learning:
            record.gradients(f"{sample} ", **{f"{part}.{n}": blob.diff for n, blob in enumerate(net.params[part])})
    solver.step(3)
    record.outputs("after steps ", **net.forward())


def deploy(record: Record, name: str, folded: bool) -> None:
    """Scores and maps of the deploy net, for two sizes of batch."""
    net = DeployNet(weights_of(record, name), BATCH, folded=folded)
    for count in (BATCH, 1):
        record.outputs(f"{count} ", **net.forward(pictures(count, 5), [*net.scores, *net.maps]))


def _cases(name: str) -> dict:
    """All cases of a net."""
    found = {f"{name}_stage_{stage}": partial(training, name=name, stage=stage) for stage in (1, 2, 3, 4)}
    for stage in (2, 3):
        found[f"{name}_stage_{stage}_folded"] = partial(training, name=name, stage=stage, folded=True)
    for folded in (False, True):
        found[f"{name}_deploy{'_folded' * folded}"] = partial(deploy, name=name, folded=folded)
    return found


CASES = {case: function for name in NETS for case, function in _cases(name).items()}
# The cases of every test run: between them they have every layer of both variants, in both phases, folded and not.
FEW = (
    "paper_stage_2_folded", "paper_stage_4", "paper_deploy_folded", "released_stage_3", "released_stage_4",
    "released_deploy",
)  # fmt: skip

if __name__ == "__main__":
    for net_name in sys.argv[2:]:
        write_weights(Path(sys.argv[1]), net_name)
