"""What a user takes away: PyTorch weights with a card, after both nets were run on the same images.

`tools/to_torch.py` is the command line of this module.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import pysrn
from pysrn.console import UsageError
from pysrn.convert.torch_model import SRN
from pysrn.data.lmdb_pair import PairReader
from pysrn.data.manifest import NAME as PAIR_MANIFEST
from pysrn.evaluate.deploy import DeployNet
from pysrn.evaluate.predict import check_labels, whole_views
from pysrn.evaluate.trained import Architecture, settings_of
from pysrn.nets.caffemodel import sha256_of
from pysrn.nets.stages import MAPS, SCORES
from pysrn.recipes import CROP_SIZE, MEAN_BGR, class_names

TOLERANCE = 1e-4  # of every output in float32; ours
CHECK_IMAGES = 4
FILE_NAME = "srn.pth"


@dataclass(frozen=True)
class Difference:
    """Of one output: the greatest difference between Caffe and PyTorch, the greatest value in Caffe."""

    absolute: float
    greatest: float

    @property
    def ok(self) -> bool:
        """Within the tolerance, which grows with values above 1: float32 has only seven digits."""
        return self.absolute <= TOLERANCE * max(1.0, self.greatest)


def verify(net: DeployNet, model: SRN, images: np.ndarray) -> dict[str, Difference]:
    """Compare every output of Caffe and PyTorch on N x 3 x 224 x 224 images."""
    names = (*SCORES, *MAPS)
    caffe_outputs = net.forward(images, names)
    with torch.inference_mode():
        torch_outputs = model(torch.from_numpy(np.asarray(images, np.float32)))._asdict()
    return {
        name: Difference(
            float(np.abs(caffe_outputs[name] - torch_outputs[name].numpy()).max()),
            float(np.abs(caffe_outputs[name]).max()),
        )
        for name in names
    }


def images_to_check(net: DeployNet, data: str | None) -> tuple[np.ndarray, str]:
    """Images for `verify` and what they are: of the pair `data`, else of the run's pair, else random ones."""
    if data is None:
        settings = settings_of(net.path)
        if settings is None or not (Path(settings.data) / PAIR_MANIFEST).is_file():
            return check_images(), f"{CHECK_IMAGES} random pictures"
        data = settings.data
    pair = PairReader(data, "test")
    check_labels(net, pair)
    count = min(CHECK_IMAGES, len(pair))
    return whole_views(pair, range(count)), f"{count} test images of {data}"


def label_names(net: DeployNet, dataset: str | None) -> tuple[str, ...]:
    """Names of the net's labels: of the named data set, else the run's; UsageError when they do not fit."""
    settings = settings_of(net.path)
    if dataset is None and settings is None:
        raise UsageError(
            f"{net.path} is in no run's folder, so the names of its labels are not known", "--dataset NAME"
        )
    name = dataset or settings.recipe.dataset.name
    names = class_names(dataset) if dataset else settings.recipe.dataset.classes
    if len(names) != net.architecture.classes:
        raise UsageError(f"{net.path} has {net.architecture.classes} labels, {name} has {len(names)}", "--dataset NAME")
    return names


def check_images(count: int = CHECK_IMAGES, seed: int = 0) -> np.ndarray:
    """Random pictures with edges and flat parts, BGR minus mean: float32 count x 3 x 224 x 224."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 3, CROP_SIZE // 16, CROP_SIZE // 16))
    pixels = coarse.repeat(16, 2).repeat(16, 3) + random.normal(0, 8, (count, 3, CROP_SIZE, CROP_SIZE))
    return (np.clip(pixels, 0, 255) - np.array(MEAN_BGR)[:, None, None]).astype(np.float32)


def report(differences: Mapping[str, Difference], checked_on: str) -> str:
    """The verification as text: a line for each output."""
    lines = [
        f"Caffe and PyTorch on {checked_on}; tolerance {TOLERANCE:g} (times the greatest value if above 1)",
        f"  {'output':<10}{'difference':>11}{'greatest':>10}",
    ]
    for name, found in differences.items():
        verdict = "ok" if found.ok else "OUT OF TOLERANCE"
        lines.append(f"  {name:<10}{found.absolute:11.2e}{found.greatest:10.3g}  {verdict}")
    return "\n".join(lines)


def card(
    source: Path,
    architecture: Architecture,
    classes: Sequence[str],
    differences: Mapping[str, Difference],
    checked_on: str,
) -> dict:
    """What a user must know to use the weights, ready for JSON."""
    return {
        "model": "SRN",
        "variant": architecture.heads.variant,
        "trunk": architecture.trunk,
        "heads": vars(architecture.heads).copy(),
        "classes": list(classes),
        "input_size": [CROP_SIZE, CROP_SIZE],
        "channel_order": "BGR",
        "value_range": [0, 255],
        "mean": list(MEAN_BGR),
        "outputs": {"scores": list(SCORES), "maps": list(MAPS), "scores_are": "logits"},
        "source": {"file": source.name, "sha256": sha256_of(source)},
        "verification": {
            "images": checked_on,
            "tolerance": TOLERANCE,
            "max_abs_difference_to_caffe": {name: found.absolute for name, found in differences.items()},
            "max_abs_value": {name: found.greatest for name, found in differences.items()},
        },
        "pysrn": pysrn.__version__,
        "torch": torch.__version__,
    }


def save(model: SRN, description: Mapping, path: Path) -> Path:
    """Write the state dict to `path` and beside it the card (`.json`), each whole; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    card_path = path.with_suffix(".json")
    partials = {target: target.with_name(f".{target.name}.{os.getpid()}.part") for target in (path, card_path)}
    try:
        torch.save(model.state_dict(), partials[path])
        partials[card_path].write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        for target, partial in partials.items():
            partial.replace(target)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
    return card_path
