"""What a user brings: PyTorch weights as a caffemodel, after both nets were run on the same images.

`tools/from_torch.py` is the command line of this module. Weights are an ImageNet net's (`imagenet.py` and
`imagenet_vgg.py`: the caffemodel holds the trunk, for the first stage) or of a net of ours. Without Caffe the file is
read back into our PyTorch modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pysrn.console import SrnError, UsageError, existing_folder
from pysrn.convert import torch_export, torch_weights
from pysrn.convert.layer_check import Difference, difference
from pysrn.data.pair.manifest import read_manifest
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_weights, write_weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import add_input
from pysrn.nets.surgery import plan_copy
from pysrn.systems.registry import default_system, recognise, systems
from pysrn.systems.stage_nets import net_name
from pysrn.systems.system import System
from pysrn.systems.trunks import imagenet, imagenet_vgg
from pysrn.systems.trunks.imagenet_vgg import VggTrunk
from pysrn.systems.trunks.resnet import TrunkSpec
from pysrn.train.settings import Settings, with_real_counts

# A net of 101 layers with random weights may itself lose 2e-4 in float32 (measured against float64): so many times what
# the original loses is allowed, and at most this part of the greatest value.
OWN_ROUNDING, MOST_ROUNDING = 4.0, 1e-2
AUTHORS = "authors"  # a system's module that knows its authors' state dicts
OF_ANOTHER = "see tools/from_torch.py --help"


@dataclass(frozen=True)
class Imported:
    """What became of a state dict: the trunk's title, number of Caffe layers, how it was compared, with which result.

    `border` (ImageNet nets): the differences to the original with its own zeros beyond the border, see `imagenet.py`;
    `flags` of tools/run_stage.py, its stage among them, that train with this trunk.
    """

    title: str
    layers: int
    verification: torch_export.Verification
    border: Mapping[str, Difference] | None = None
    flags: str = ""


def import_model(values: Mapping[str, Tensor], source: str, path: Path, count: int) -> Imported:
    """Write the state dict of a net of ours as the caffemodel `path`, compared on `count` images.

    SrnError where it is no whole net of any system.
    """
    for name, value in values.items():
        if "." not in name or (name.endswith("running_mean") and value.ndim != 1):
            raise SrnError(f"{source}: {name} is no tensor of a net of ours", OF_ANOTHER)
    # Weights may have been saved in half precision, which NumPy or the comparison would not take.
    values = {name: value if name.endswith("tracked") else value.float() for name, value in values.items()}
    try:
        layers = torch_weights.caffe_layers(values)
    except KeyError as error:
        raise SrnError(f"{source} is no whole state dict: {error.args[0]} is missing") from None
    weights = {name: blobs for name, (_, blobs) in layers.items()}
    try:
        architecture = recognise(weights, source)
    except SrnError:
        first = ", ".join(list(values)[:3])
        raise SrnError(f"{source} is of another net (its tensors: {first}, ...)", OF_ANOTHER) from None
    with torch.device("meta"):
        model = torch_weights.empty_model(architecture)
    plan_copy(torch_weights.caffe_shapes(model), weights, source)
    try:
        model.load_state_dict(values, assign=True)
    except RuntimeError as error:
        title = architecture.system.title
        raise SrnError(f"{source} is no state dict of {title}: {' '.join(str(error).split())[:200]}") from None
    write_weights(path, net_name(architecture), layers)
    images = torch_export.check_images(architecture.input, count)
    if torch_export.has_caffe():
        from pysrn.predict.deploy import DeployNet

        against, differences = "Caffe", torch_export.verify(DeployNet(path), model, images)
    else:
        again = torch_weights.load_model(path)
        with torch.inference_mode():
            ours, theirs = model(torch.from_numpy(images)), again(torch.from_numpy(images))
        differences = {
            name: difference(a.numpy(), b.numpy()) for name, a, b in zip(ours._fields, ours, theirs, strict=True)
        }
        against = "The file read back (no Caffe is here)"
    outputs = torch_export.outputs_of(architecture.system)
    verification = torch_export.Verification(against, f"{len(images)} random pictures", differences, outputs)
    return Imported(architecture.system.trunks[architecture.trunk].title, len(layers), verification)


def of_authors(values: Mapping[str, Tensor]) -> System | None:
    """The system whose authors' own PyTorch code a state dict is of, or None."""
    having = (system for system in systems().values() if AUTHORS in system.modules)
    return next((system for system in having if system.module(AUTHORS, "").recognises(values)), None)


def from_authors(
    values: Mapping[str, Tensor], system: System, source: str, data: str | None, head: str | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Our state dict of that of a system's authors, and the names of what takes no part.

    What no training changes comes from the LMDB pair `data`; `head`: which of theirs.
    Raises UsageError without a pair, SrnError where it is of another data set or tensors are missing or unknown.
    """
    if data is None:
        raise UsageError(
            f"{source} is of {system.title}'s authors: what it does not hold is in the data", "--data FOLDER"
        )
    manifest = read_manifest(existing_folder(data, "LMDB folder")) or {}
    recipe = system.recipe(manifest.get("dataset", ""))
    settings = with_real_counts(Settings(recipe, data, None))
    constants = system.constants(settings.recipe, Path(data))
    return system.module(AUTHORS, "").to_ours(values, source, constants, head)


def family_of(values: Mapping[str, Tensor]) -> imagenet.Family | None:
    """The ImageNet nets whose names a state dict has, or None."""
    return imagenet.family_of(values, (*imagenet.FAMILIES, imagenet_vgg.FAMILY))


def import_trunk(
    values: Mapping[str, Tensor],
    family: imagenet.Family,
    source: str,
    path: Path,
    count: int,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
) -> Imported:
    """Write an ImageNet net's trunk as the caffemodel `path`, its input folded, and compare with the original.

    `count`: of the images that are compared. The input is that of the system which has the trunk.

    `mean` and `deviation` (RGB, of values from 0 to 1) default to the family's.
    """
    mean, deviation = mean or family.normalisation[0], deviation or family.normalisation[1]
    kind = kind_of(family)
    trunk, spec = kind.trunk_with(values, family, source), kind.trunk_of(values, family, source)
    system = next(system for system in systems().values() if spec.name in system.trunks)
    eaten = system.input_of(spec.name)
    images = torch_export.check_images(eaten, count)
    kind.fold_input(trunk, eaten, mean, deviation)
    layers = torch_weights.caffe_layers(trunk.state_dict())
    write_weights(path, f"{spec.title} trunk", layers)
    written = len(layers)
    del trunk, layers
    border = imagenet.shift_bgr(eaten, mean, deviation)[::-1]
    exact, rounded = (
        kind.their_forward(values, family, imagenet.their_input(images, eaten, mean, deviation, dtype), border)
        for dtype in (torch.float64, torch.float32)
    )
    original = kind.their_forward(values, family, imagenet.their_input(images, eaten, mean, deviation))
    if torch_export.has_caffe():
        found, against = trunk_in_caffe(spec, path, images, kind), "Caffe"
    else:
        found, against = trunk_read_back(spec, path, images, kind), "The file read back (no Caffe is here)"
    differences, at_border = {}, {}
    for name, e, r, o, f in zip(kind.COMPARED, exact, rounded, original, found, strict=True):
        plain, own = difference(e.numpy(), f), difference(e.numpy(), r.numpy()).absolute
        differences[name] = replace(plain, allowance=min(OWN_ROUNDING * own, MOST_ROUNDING * plain.greatest))
        at_border[name] = difference(o.numpy(), f)
    verification = torch_export.Verification(against, f"{len(images)} random pictures", differences)
    return Imported(spec.title, written, verification, at_border, flags_for(system, spec))


def kind_of(family: imagenet.Family) -> ModuleType:
    """The module that knows a family's nets."""
    return imagenet_vgg if family is imagenet_vgg.FAMILY else imagenet


def flags_for(system: System, trunk: TrunkSpec | VggTrunk) -> str:
    """The flags of tools/run_stage.py, its stage among them, that give a run this trunk."""
    recipe = next(iter(system.recipes.values()))
    words = "" if recipe.stages[0].left_out else "1 "
    words += "" if system is default_system() else f"--system {system.name} "
    for variant, make in system.variants.items():
        for name in (trunk.name, trunk.release):
            if name in system.offered and make(replace(recipe, trunk=name)).trunk == trunk.name:
                plain = variant == next(iter(system.variants))
                return words + ("" if plain else f"--variant {variant} ") + f"--trunk {name}"
    return words + f"--trunk {trunk.name}"


def trunk_in_caffe(
    spec: TrunkSpec | VggTrunk, path: Path, images: np.ndarray, kind: ModuleType = imagenet
) -> tuple[np.ndarray, ...]:
    """What is compared of a trunk, in Caffe, which reads the caffemodel itself."""
    message = messages.NetParameter(name=spec.name)
    add_input(message, "data", images.shape)
    blobs = kind.add_trunk(message, spec)
    net = make_net(message, weights=path)
    shapes = {name: [tuple(blob.shape) for blob in blobs] for name, blobs in net.params.items()}
    plan_copy(shapes, read_weights(path), str(path))
    net.blobs["data"].data[...] = images
    net.forward()
    return tuple(net.blobs[name].data.copy() for name in blobs)


@torch.inference_mode()
def trunk_read_back(
    spec: TrunkSpec | VggTrunk, path: Path, images: np.ndarray, kind: ModuleType = imagenet
) -> tuple[np.ndarray, ...]:
    """The same in PyTorch, with the weights of a caffemodel."""
    trunk = kind.empty_trunk(spec)
    trunk.load_state_dict(torch_weights.state_dict(trunk, read_weights(path), str(path)), assign=True)
    return tuple(output.numpy() for output in kind.outputs_of(trunk, torch.from_numpy(images)))
