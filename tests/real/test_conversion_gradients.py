"""The gradients of one training step of stage 4, Caffe against PyTorch, at the depths that people train.

As tests/convert/test_gradients.py, on nets of 50, 101 and 152 layers with tests/calibrated_weights.py, and on trained
nets (SRN_RUNS, as in test_conversion_table.py). A difference is the Euclidean norm of the difference of a blob's
gradient over the norm of the gradient; the bar is 1e-3, also for the whole gradient taken as one vector.
A value that rounding moves across zero passes a rectifier on one side only, and the gradient jumps there: either side's
float32 misses the bar against float64. So every net is held to it in every blob with the same values passing PyTorch's
rectifiers as pass Caffe's (what conversion answers for), plainly only trained nets: the whole gradient, and every blob
of nets of 14 layers. All plain differences are printed, with how far either side is from PyTorch in float64.
Slow (about a minute a net): `pytest -s -m slow tests/real/test_conversion_gradients.py`; a part of it:
`-k "paper and resnet50"`, `-k trained`.
"""

from dataclasses import dataclass

import caffe
import numpy as np
import pytest
import torch
from caffe.proto import caffe_pb2
from torch.nn import functional

from pysrn.convert import torch_weights
from pysrn.nets import prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.predict.trained import settings_of
from pysrn.systems.srn.heads import VARIANTS
from pysrn.systems.srn.nets import stage_losses
from tests.calibrated_weights import random_pictures, write_calibrated
from tests.convert.test_gradients import caffe_gradients
from tests.real.test_conversion_table import trained, view
from tests.srn import RECIPES, Architecture, replace

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


def whole(expected: dict, found: dict) -> float:
    """As `far`, of all blobs as one vector."""
    squares = [(((values - found[blob]) ** 2).sum(), (values**2).sum()) for blob, values in expected.items()]
    return float(np.sqrt(np.divide(*np.sum(squares, 0))))


@dataclass(frozen=True)
class Step:
    """Caffe's gradients against PyTorch's: a line of figures, the differences by blob, and of the whole gradient.

    `alike`: by blob, with Caffe's values passing PyTorch's rectifiers.
    """

    line: str
    plain: dict
    alike: dict
    whole: float


def compare(recipe, path, images, labels, folder, monkeypatch) -> Step:
    """One step of the net of `recipe` with the weights of a file, in Caffe and converted."""
    weights, losses = read_weights(path), stage_losses(recipe, 4)
    nets, make = [], caffe.Net
    with monkeypatch.context() as patch:
        patch.setattr(caffe, "Net", lambda *words: nets.append(make(*words)) or nets[-1])
        diffs, _ = caffe_gradients(recipe, weights, images, labels, folder)
    passing = rectified(nets[0], folder / "step.prototxt")
    model = torch_weights.load_model(path)
    single = torch_gradients(model, images, labels, losses)
    double = torch_gradients(model.double(), images, labels, losses)
    with monkeypatch.context() as patch:
        masks = iter(passing)
        patch.setattr(functional, "relu", lambda x: x * next(masks).to(x))
        same = torch_gradients(model, images, labels, losses)
        assert next(masks, None) is None
    found = {
        (layer, end): blob.astype(np.float64).reshape(-1)
        for layer, blobs in diffs.items()
        for end, blob in zip(("weight", "bias"), blobs, strict=False)
        if (layer, end) in single
    }
    assert found.keys() == single.keys()
    between, ours, theirs, alike = far(single, found), far(double, found), far(double, single), far(same, found)
    assert all(np.isfinite(value) for value in (*between.values(), *alike.values()))
    worst = max(between, key=between.get)
    above = sum(value >= BAR for value in between.values())
    line = (
        f"{len(between)} blobs, {above} not below {BAR:g}; Caffe and PyTorch at most"
        f" {between[worst]:.1e} ({' '.join(worst)}), median {np.median(list(between.values())):.1e},"
        f" the whole gradient {whole(single, found):.1e};"
        f" from float64 at most: Caffe {max(ours.values()):.1e}, PyTorch {max(theirs.values()):.1e};"
        f" medians {np.median(list(ours.values())):.1e}, {np.median(list(theirs.values())):.1e};"
        f" whole {whole(double, found):.1e}, {whole(double, single):.1e};"
        f" same rectifiers: at most {max(alike.values()):.1e}, median {np.median(list(alike.values())):.1e}"
    )
    return Step(line, between, alike, whole(single, found))


def random_labels(classes: int) -> np.ndarray:
    """IMAGES x classes, 0 or 1."""
    return np.random.default_rng(1).integers(0, 2, (IMAGES, classes)).astype(np.float32)


@pytest.mark.parametrize("trunk", ["resnet50", "resnet101", "resnet152"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_random_nets(variant, trunk, tmp_path, capfd, monkeypatch):
    recipe = replace(RECIPES["coco"], variant=variant, trunk=trunk)
    path, classes = tmp_path / "weights.caffemodel", len(recipe.dataset.classes)
    write_calibrated(path, Architecture(recipe.trunk, classes, recipe.heads), random_pictures(8, 0))
    images, labels = random_pictures(IMAGES, 5), random_labels(classes)
    step = compare(recipe, path, images, labels, tmp_path, monkeypatch)
    with capfd.disabled():
        print(f"\n{trunk}, {variant}: {step.line}", flush=True)
    assert max(step.alike.values()) < BAR


def test_trained_nets(shared_data, tmp_path, capfd, monkeypatch):
    """On photos: random pictures are nothing that these nets were trained for."""
    weights = trained()
    if not weights:
        pytest.skip("no finished run: tools/demo.py makes one, or name run folders in SRN_RUNS")
    images = np.stack([view(path) for path in sorted((shared_data / "coco_images").rglob("*.jpg"))[:IMAGES]])
    worst = []
    for path in weights:
        recipe = settings_of(path).recipe
        labels = random_labels(len(recipe.dataset.classes))
        step = compare(recipe, path, images, labels, tmp_path, monkeypatch)
        with capfd.disabled():
            print(
                f"\ntrained: {path.parents[1].name} ({recipe.trunk}, {recipe.heads.variant}): {step.line}", flush=True
            )
        worst += [step.whole, *step.alike.values()]
        if recipe.trunk.startswith("resnet14"):
            worst += step.plain.values()
    assert max(worst) < BAR
