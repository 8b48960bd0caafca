"""The gradients of one training step of stage 4, Caffe against PyTorch, at the depths that people train.

As tests/convert/test_gradients.py, on nets of 50, 101 and 152 layers with tests/calibrated_weights.py. A difference is
the Euclidean norm of the difference of a blob's gradient over the norm of the gradient. At these depths float32 is not
enough for the bar: a value near zero passes a rectifier on one side only, and the gradient jumps. So both are printed:
the plain differences, with how far either side is from PyTorch in float64, and those with the same values passing
PyTorch's rectifiers as pass Caffe's. The bar is on the latter: it is what conversion answers for. Slow (about a minute
a net): `pytest -s -m slow tests/real/test_conversion_gradients.py`; a part of it: `-k "paper and resnet50"`.
"""

from dataclasses import replace

import caffe
import numpy as np
import pytest
import torch
from caffe.proto import caffe_pb2
from torch.nn import functional

from pysrn.convert import torch_weights
from pysrn.evaluate.trained import Architecture
from pysrn.nets import prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.stages import stage_losses
from pysrn.recipes import RECIPES, VARIANTS
from tests.calibrated_weights import random_pictures, write_calibrated
from tests.convert.test_gradients import caffe_gradients

pytestmark = pytest.mark.slow
BAR = 1e-3
IMAGES = 2
# A softmax does not see a constant added to all its inputs: this bias has no gradient, what is there is rounding.
NO_GRADIENT = {("att_conv3", "bias")}


def torch_gradients(model, images, labels, losses):
    """(Caffe's layer, weight or bias) -> gradient float64."""
    model.zero_grad()
    kind = next(model.parameters()).dtype
    output, labels = model(torch.from_numpy(images).to(kind))._asdict(), torch.from_numpy(labels).to(kind)
    total = sum(
        functional.binary_cross_entropy_with_logits(output[name], labels, reduction="sum") / len(labels)
        for name in losses
    )
    total.backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        part, _, end = name.rpartition(".")
        norm = isinstance(model.get_submodule(part), torch.nn.BatchNorm2d)
        layer = torch_weights.batch_norm_names(part)[1] if norm else torch_weights.layer_name(part)
        gradients[layer, end] = parameter.grad.double().numpy().reshape(-1).copy()
    return gradients


def rectified(net, path) -> list[torch.Tensor]:
    """Which values passed each rectifier of a net in Caffe, in its order, which is PyTorch's, too."""
    message = prototxt.read_message(path, caffe_pb2.NetParameter)
    return [
        torch.from_numpy(net.blobs[layer.top[0]].data > 0)
        for layer in message.layer
        if layer.type == "ReLU" and layer.bottom[0] == layer.top[0]
    ]


def far(expected: dict, found: dict) -> dict:
    """Blob -> norm of the difference over the norm of `expected`."""
    return {
        blob: np.linalg.norm(values - found[blob]) / np.linalg.norm(values)
        for blob, values in expected.items()
        if blob not in NO_GRADIENT
    }


@pytest.mark.parametrize("trunk", ["resnet50", "resnet101", "resnet152"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_at_full_depth(variant, trunk, tmp_path, capfd, monkeypatch):
    recipe = replace(RECIPES["coco"], variant=variant, trunk=trunk)
    path, classes = tmp_path / "weights.caffemodel", len(recipe.dataset.classes)
    write_calibrated(path, Architecture(recipe.trunk, classes, recipe.heads), random_pictures(8, 0))
    images = random_pictures(IMAGES, 5)
    labels = np.random.default_rng(1).integers(0, 2, (IMAGES, classes)).astype(np.float32)
    weights = read_weights(path)
    nets, make = [], caffe.Net
    monkeypatch.setattr(caffe, "Net", lambda *words: nets.append(make(*words)) or nets[-1])
    diffs, _ = caffe_gradients(recipe, weights, images, labels, tmp_path)
    passing = rectified(nets[0], tmp_path / "step.prototxt")
    model = torch_weights.load_model(path)
    single = torch_gradients(model, images, labels, stage_losses(recipe, 4))
    double = torch_gradients(model.double(), images, labels, stage_losses(recipe, 4))
    with monkeypatch.context() as patch:
        masks = iter(passing)
        patch.setattr(functional, "relu", lambda x: x * next(masks).to(x))
        same = torch_gradients(model, images, labels, stage_losses(recipe, 4))
        assert next(masks, None) is None
    found = {
        (layer, end): blob.astype(np.float64).reshape(-1)
        for layer, blobs in diffs.items()
        for end, blob in zip(("weight", "bias"), blobs, strict=False)
        if (layer, end) in single
    }
    assert found.keys() == single.keys()
    between, ours, theirs = far(single, found), far(double, found), far(double, single)
    alike = far(same, found)
    assert all(np.isfinite(value) for value in between.values())
    worst = max(between, key=between.get)
    above = sum(value >= BAR for value in between.values())
    with capfd.disabled():
        print(
            f"\n{trunk}, {variant}: {len(between)} blobs, {above} not below {BAR:g}; Caffe and PyTorch at most"
            f" {between[worst]:.1e} ({' '.join(worst)}), median {np.median(list(between.values())):.1e};"
            f" from float64 at most: Caffe {max(ours.values()):.1e}, PyTorch {max(theirs.values()):.1e};"
            f" medians {np.median(list(ours.values())):.1e}, {np.median(list(theirs.values())):.1e};"
            f" same rectifiers: at most {max(alike.values()):.1e}, median {np.median(list(alike.values())):.1e}",
            flush=True,
        )
    assert max(alike.values()) < BAR
