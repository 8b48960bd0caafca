"""What a user takes away: PyTorch weights with a card, after both nets were run on the same images.

`tools/to_torch.py` is the command line of this module. The conversion needs no Caffe; the comparison takes Caffe where
it is there (layer by layer), else the tensors that it left earlier (`check_tensors.py`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

import pysrn
from pysrn.console import UsageError
from pysrn.convert import layer_check
from pysrn.convert.check_tensors import CheckTensors
from pysrn.convert.layer_check import TOLERANCE, Difference
from pysrn.evaluate.metrics import THRESHOLD
from pysrn.nets.caffemodel import sha256_of
from pysrn.predict.trained import settings_of
from pysrn.recipes import Input, class_names
from pysrn.systems.system import Architecture, System
from pysrn.systems.torch_parts import BN_EPSILON

CHECK_IMAGES = 4
FLAT = 16  # pixels of a side of the flat parts


@dataclass(frozen=True)
class Verification:
    """How PyTorch was compared, with what, and the differences by blob, the outputs last."""

    against: str  # "Caffe", or which stored tensors
    images: str
    differences: Mapping[str, Difference]
    outputs: tuple[str, ...] = ()  # those that are reported in any case; none: all

    @property
    def ok(self) -> bool:
        """Whether everything is within the tolerance."""
        return all(found.ok for found in self.differences.values())

    @property
    def worst(self) -> str:
        """The blob that uses up most of the tolerance (NaN: all of it)."""
        return max(self.differences, key=lambda name: np.nan_to_num(self.differences[name].excess, nan=np.inf))

    def report(self, every_layer: bool = False) -> str:
        """A line for each output and for each blob out of tolerance (or each at all), and the worst."""
        lines = [
            f"{self.against} and PyTorch on {self.images}; tolerance {TOLERANCE:g} (times a greatest value above 1)",
            f"  {'blob':<24}{'difference':>11}{'relative':>11}{'greatest':>10}",
        ]
        for name, found in self.differences.items():
            if every_layer or not self.outputs or name in self.outputs or not found.ok:
                numbers = f"{found.absolute:11.2e}{found.relative:11.2e}{found.greatest:10.3g}"
                lines.append(f"  {name:<24}{numbers}  {'ok' if found.ok else 'OUT OF TOLERANCE'}")
        worst, good = self.differences[self.worst], sum(found.ok for found in self.differences.values())
        lines.append(f"  {good} of {len(self.differences)} blobs within it; worst: {self.worst}, {worst.absolute:.2e}")
        return "\n".join(lines) + f" (relative {worst.relative:.2e})"


def has_caffe() -> bool:
    """Whether Caffe's Python package is there."""
    return importlib.util.find_spec("caffe") is not None


def verify(net, model: nn.Module, images: np.ndarray) -> dict[str, Difference]:
    """Compare every blob of Caffe (a `DeployNet`) and PyTorch on N x 3 x S x S images, one after the other."""
    from pysrn.systems.stage_nets import deploy_message

    message = deploy_message(net.architecture)
    worst: dict[str, Difference] = {}
    for image in images[:, None]:
        outputs = net.forward(image)
        blobs = {name: blob.data for name, blob in net.net.blobs.items()} | outputs
        for name, found in layer_check.compare(message, blobs, model, image).items():
            before = worst.get(name, found)
            absolute = float(np.maximum(before.absolute, found.absolute))
            worst[name] = Difference(absolute, max(before.greatest, found.greatest))
    outputs = outputs_of(net.system)
    return {name: worst[name] for name in (*(name for name in worst if name not in outputs), *outputs)}


def outputs_of(system: System) -> tuple[str, ...]:
    """What a net of the system gives: scores, then maps."""
    return (*system.final_scores, *system.blob_maps)


def authors_of(architecture: Architecture) -> ModuleType:
    """The system's module of its authors' code; UsageError for none, before anything is written."""
    return architecture.system.module("authors", "names of its authors' PyTorch code")


def for_authors(
    values: Mapping[str, torch.Tensor], architecture: Architecture
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """A state dict under the names of the system's authors' code, and which of them are zero; UsageError for none."""
    return authors_of(architecture).from_ours(values, architecture.system.trunks[architecture.trunk])


def verify_stored(tensors: CheckTensors, model: nn.Module) -> Verification:
    """Compare PyTorch's outputs with stored ones of Caffe."""
    images = f"{len(tensors.images)} image{'s' * (len(tensors.images) > 1)}"
    return Verification(f"Stored tensors of Caffe ({tensors.path.name})", images, tensors.compare(model))


def images_to_check(net, data: str | None) -> tuple[np.ndarray, str]:
    """Images for `verify` and what they are: of the pair `data`, else of the run's pair, else random ones."""
    from pysrn.data.pair.lmdb_pair import PairReader
    from pysrn.data.pair.manifest import NAME as PAIR_MANIFEST
    from pysrn.predict.splits import check_labels, whole_views

    if data is None:
        settings = settings_of(net.path)
        if settings is None or not (Path(settings.data) / PAIR_MANIFEST).is_file():
            return check_images(net.architecture.input), f"{CHECK_IMAGES} random pictures"
        data = settings.data
    pair = PairReader(data, "test")
    check_labels(net, pair)
    count = min(CHECK_IMAGES, len(pair))
    return whole_views(pair, range(count), net.architecture.input), f"{count} test images of {data}"


def label_names(
    weights: Path, architecture: Architecture, dataset: str | None, data: str | None = None
) -> tuple[str, ...]:
    """Names of a net's labels: of the named data set, else its run's, else those of the LMDB pair `data`.

    Raises UsageError where there is none of them, or their number is not the net's.
    """
    settings = settings_of(weights)
    if dataset is not None:
        name, names = dataset, class_names(dataset)
    elif settings is not None:
        name, names = settings.recipe.dataset.name, settings.recipe.dataset.classes
    elif data is not None:
        from pysrn.data.pair.lmdb_pair import PairReader

        name, names = data, tuple(PairReader(data, "test").classes)
    else:
        raise UsageError(
            f"{weights} is in no run's folder, so the names of its labels are not known",
            "--dataset NAME, or --data FOLDER for those of an LMDB pair",
        )
    if len(names) != architecture.classes:
        raise UsageError(f"{weights} has {architecture.classes} labels, {name} has {len(names)}", "--dataset NAME")
    return names


def check_images(eaten: Input, count: int = CHECK_IMAGES, seed: int = 0) -> np.ndarray:
    """Random pictures with edges and flat parts, as nets eat them: float32 count x 3 x S x S."""
    random, size = np.random.default_rng(seed), eaten.size
    coarse = random.integers(0, 256, (count, 3, size // FLAT, size // FLAT))
    pixels = coarse.repeat(FLAT, 2).repeat(FLAT, 3) + random.normal(0, 8, (count, 3, size, size))
    shifted = np.clip(pixels, 0, 255) - np.array(eaten.mean)[:, None, None]
    return (shifted * eaten.scale).astype(np.float32)


def card(source: Path, architecture: Architecture, classes: Sequence[str], verification: Verification | None) -> dict:
    """What a user must know to use the weights, ready for JSON; `verification` null: nothing to compare with."""
    system, eaten, heads = architecture.system, architecture.input, architecture.heads
    stored, size = eaten.stored_size, eaten.size
    widths = {} if heads is None else vars(heads).copy()
    return {
        "model": system.title,
        "system": system.name,
        **({"variant": widths["variant"]} if "variant" in widths else {}),
        "trunk": architecture.trunk,
        "trunk_layers": asdict(system.trunks[architecture.trunk]),
        "batch_norm_epsilon": BN_EPSILON,
        "not_computed_with": "*.caffe_sums: Caffe's own batch statistics, for the way back to it",
        "heads": widths,
        "classes": list(classes),
        "input": f"float32, N x 3 x {size} x {size}, pixels minus mean in channel_order",
        "input_size": [size, size],
        "resize": f"the whole image to {stored} x {stored}, whatever its shape, then bilinearly to input_size",
        "channel_order": "BGR",
        "value_range": [0, 255],
        "mean": list(eaten.mean),
        **({"scale": eaten.scale} if eaten.scale != 1 else {}),
        "outputs": {
            "scores": list(system.final_scores),
            "maps": list(system.blob_maps),
            "scores_are": "logits",
            "prediction": f"{system.result}; a label is there where sigmoid({system.result}) is above {THRESHOLD}",
        },
        "source": {"file": source.name, "sha256": sha256_of(source)},
        "verification": verification
        and {
            "against": verification.against,
            "images": verification.images,
            "tolerance": TOLERANCE,
            "tolerance_is": "absolute; of a blob whose greatest value is above 1, times that value",
            "worst": verification.worst,
            "max_abs_difference": {name: found.absolute for name, found in verification.differences.items()},
            "max_abs_value": {name: found.greatest for name, found in verification.differences.items()},
        },
        "pysrn": pysrn.__version__,
        "torch": torch.__version__,
    }
