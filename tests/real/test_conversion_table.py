"""Caffe's and PyTorch's scores over 100 images a net: both variants, three backbones, three label counts, trained nets.

The bar is 1e-4 absolute, float32. Random nets are those of tests/calibrated_weights.py, the images its random pictures;
trained nets are the finished runs named in SRN_RUNS (folders, divided by colons; default: those in runs/), on random
pictures and on photos of ../shared/data. `own rounding` is how far PyTorch in float32 is from itself in float64 on
the first images: no two float32 programs can be expected to agree better. Slow (about 10 minutes of one core):
`pytest -s -m slow tests/real/test_conversion_table.py`; a part of it: `-k "paper and resnet50"`, `-k trained`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from pysrn.convert import torch_weights
from pysrn.predict.deploy import DeployNet
from pysrn.predict.trained import RUNS, find_weights
from pysrn.systems.srn.heads import VARIANTS, HeadSpec
from pysrn.systems.trunks.resnet import PREACT, TRUNKS, feature_name
from tests.calibrated_weights import random_pictures, write_calibrated
from tests.srn import CROP_SIZE, MEAN_BGR, SCORES, Architecture

pytestmark = pytest.mark.slow
IMAGES, BATCH = 100, 5
BAR = 1e-4
CLASSES = (80, 81, 14)  # MS-COCO, NUS-WIDE, WIDER-Attribute
HEADER = f"\n{'net':<40}{'images':<17}" + "".join(f"{name:>11}" for name in SCORES) + "   own rounding   spread"
CALIBRATION = 8  # pictures, of another seed than those that are compared


@dataclass(frozen=True)
class Trunk:
    """What both trunks gave for the batches of images: X and the top, in Caffe and in PyTorch."""

    caffe: list[tuple[np.ndarray, np.ndarray]]
    torch: list[tuple[torch.Tensor, torch.Tensor]]


class StoredTrunk(nn.Module):
    """In a trunk's place: gives what is in `outputs`."""

    def forward(self, _images):
        return self.outputs


def table_row(name: str, kind: str, expected: dict, found: dict, exact: dict) -> tuple[str, float]:
    """A line and the greatest difference; expected and found: score -> N x C, exact: float64, of the first images."""
    worst = {score: np.abs(expected[score] - found[score]).max() for score in SCORES}
    own = max(np.abs(values - found[score][: len(values)]).max() for score, values in exact.items())
    spread = "/".join(f"{expected[score].std(0).mean():.1f}" for score in SCORES)
    numbers = "".join(f"{worst[score]:11.1e}" for score in SCORES)
    assert all(np.isfinite(values).all() for values in (*expected.values(), *found.values()))
    assert min(expected[score].std(0).mean() for score in SCORES) > 0.1, spread  # else agreement would say little
    return f"{name:<40}{kind:<17}{numbers}{own:15.1e}   {spread}", max(worst.values())


def scores(tensors) -> dict:
    """PyTorch's output -> score -> N x C."""
    return {name: getattr(tensors, name).numpy() for name in SCORES}


def joined(batches: list[dict]) -> dict:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in SCORES}


@torch.inference_mode()
def compare(path: Path, images: np.ndarray, name: str, kind: str, trunk: Trunk | None = None):
    """A caffemodel in Caffe and converted, on all images: (line, greatest difference, what the trunks gave).

    `trunk`: of a net with the same trunk on the same images. Only its heads run then, but for the first batch, where
    the whole net must give the same bits.
    """
    net, model = DeployNet(path, batch_size=BATCH), torch_weights.load_model(path)
    blobs = [net.net.blobs[blob] for blob in (feature_name(TRUNKS[net.architecture.trunk]), net.features)]
    batches = np.split(images, range(BATCH, len(images), BATCH))
    first = net.forward(batches[0], SCORES), scores(model(torch.from_numpy(batches[0])))
    expected, found, given = [], [], Trunk([], [])
    if trunk is None:
        handle = model.trunk.register_forward_hook(lambda _module, _inputs, outputs: given.torch.append(outputs))
        for batch in batches:
            expected.append(net.forward(batch, SCORES))
            given.caffe.append(tuple(blob.data.copy() for blob in blobs))
            found.append(scores(model(torch.from_numpy(batch))))
        handle.remove()
        exact = scores(model.double()(torch.from_numpy(batches[0]).double()))
    else:
        whole, model.trunk = model.trunk, StoredTrunk()
        for stored, outputs in zip(trunk.caffe, trunk.torch, strict=True):
            for blob, values in zip(blobs, stored, strict=True):
                blob.data[...] = values
            net.net.forward(start="pool5")
            expected.append({score: net.net.blobs[score].data.copy() for score in SCORES})
            model.trunk.outputs = outputs
            found.append(scores(model(None)))
        model.trunk = whole
        exact = scores(model.double()(torch.from_numpy(batches[0]).double()))
    for score in SCORES:
        np.testing.assert_array_equal(first[0][score], expected[0][score])
        np.testing.assert_array_equal(first[1][score], found[0][score])
    return *table_row(name, kind, joined(expected), joined(found), exact), given


@pytest.mark.parametrize("trunk", ["resnet50", "resnet101", "resnet152"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_random_nets(variant, trunk, tmp_path, capfd):
    images, calibration = random_pictures(IMAGES, 1), random_pictures(CALIBRATION, 0)
    name, given, worst = trunk + f"_{PREACT}" * (variant == "released"), None, []
    with capfd.disabled():
        print(HEADER)
        for classes in CLASSES:
            path = tmp_path / "weights.caffemodel"
            write_calibrated(path, Architecture(name, classes, HeadSpec(variant=variant)), calibration)
            line, difference, outputs = compare(
                path, images, f"{trunk}, {variant}, {classes} labels", f"{IMAGES} random", given
            )
            given = given or outputs
            print(line, flush=True)
            worst.append(difference)
    assert max(worst) < BAR


@pytest.mark.parametrize("variant", VARIANTS)
def test_random_nets_that_magnify_rounding(variant, tmp_path, capfd):
    """Blocks that count three times as much: the bar is below what float32 can give, and Caffe is no worse than it."""
    path, images = tmp_path / "weights.caffemodel", random_pictures(2 * BATCH, 1)
    name = "resnet101" + f"_{PREACT}" * (variant == "released")
    write_calibrated(path, Architecture(name, 80, HeadSpec(variant=variant)), random_pictures(CALIBRATION, 0), 0.3)
    expected, model = DeployNet(path).forward(images, SCORES), torch_weights.load_model(path)
    with torch.inference_mode():
        found = scores(model(torch.from_numpy(images)))
        exact = scores(model.double()(torch.from_numpy(images).double()))
    with capfd.disabled():
        print(f"\n{name}, 0.3 in place of 0.1: from float64 (root mean square, greatest)")
        for score in SCORES:
            errors = [values[score] - exact[score] for values in (expected, found)]
            rms = [np.sqrt((error**2).mean()) for error in errors]
            most = [np.abs(error).max() for error in errors]
            print(f"  {score:<10} Caffe {rms[0]:.1e} {most[0]:.1e}, PyTorch {rms[1]:.1e} {most[1]:.1e}", flush=True)
            assert rms[0] < 3 * rms[1]


def trained() -> list[Path]:
    """The caffemodels of finished runs: of SRN_RUNS, else those in runs/."""
    named = os.environ.get("SRN_RUNS")
    folders = named.split(os.pathsep) if named else sorted(str(path.parent) for path in RUNS.glob("*/stage4"))
    return [find_weights(folder) for folder in folders]


def test_trained_nets(capfd):
    weights = trained()
    if not weights:
        pytest.skip("no finished run: tools/demo.py makes one, or name run folders in SRN_RUNS")
    kinds = {f"{IMAGES} random": random_pictures(IMAGES, 1)}
    shared = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_images"
    if photos := sorted(shared.rglob("*.jpg"))[:IMAGES]:
        kinds[f"{len(photos)} photos"] = np.stack([view(path) for path in photos])
    worst = []
    with capfd.disabled():
        print(HEADER)
        for path in weights:
            for kind, images in kinds.items():
                line, difference, _ = compare(path, images, f"trained: {path.parents[1].name}", kind)
                print(line, flush=True)
                worst.append(difference)
    assert max(worst) < BAR


def view(path: Path) -> np.ndarray:
    """A photo as the nets see it: 3 x 224 x 224, BGR minus mean."""
    image = cv2.resize(cv2.imread(str(path)), (CROP_SIZE, CROP_SIZE))
    return (image - np.array(MEAN_BGR)).transpose(2, 0, 1).astype(np.float32)
