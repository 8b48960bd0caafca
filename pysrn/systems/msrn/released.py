"""The state dict of the released PyTorch code (chehao2628/MSRN, class MSGDN) and ours, both ways.

| released                                          | ours                                                        |
|---------------------------------------------------|-------------------------------------------------------------|
| `resnet_101.conv1`, `bn1`, `layer1` ... `layer4`  | the trunk; their input's mean and deviation are in conv1    |
| `resnet_101.conv_buffer1`, `conv_buffer2`         | `tap_buffer1`, `tap_buffer2`                                |
| `ProjectM.0` to `ProjectM.2`                      | `tap_project1` to `tap_project3`                            |
| `fc_label`                                        | `emb_fc`                                                    |
| `label_embed.layers.0`, `.1`                      | `emb_gat1`, `emb_gat2`: W transposed, `a` in halves a1, a2  |
| `group_embed.layers.0.embed`, `.assign_mat`       | `emb_gatz`, `emb_gats`, likewise                            |
| `fc1`, `fc2`                                      | `fuse_fc1`, `fuse_fc2` of the fusion `flatten`              |
| `W`, `B`                                          | `fuse_class` of the fusion `per_class`                      |
| `resnet_101.conv_buffer0`                         | nothing: it takes no part                                   |

Of `fc1` with `fc2` and of `W` with `B` one pair takes no part, as the fusion is. Vectors and graph of the labels are
not in their state dict.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pysrn.console import SrnError, UsageError
from pysrn.nets.folding import Weights
from pysrn.systems.msrn.heads import FUSIONS
from pysrn.systems.msrn.recipes import INPUT
from pysrn.systems.trunks import imagenet
from pysrn.systems.trunks.imagenet import FAMILIES, IMAGENET
from pysrn.systems.trunks.resnet import TrunkSpec
from pysrn.systems.trunks.torch_resnet import Trunk

TRUNK, FAMILY = "resnet_101.", FAMILIES[0]
LAYERS = {
    "resnet_101.conv_buffer1": "tap_buffer1",
    "resnet_101.conv_buffer2": "tap_buffer2",
    **{f"ProjectM.{number}": f"tap_project{number + 1}" for number in range(3)},
    "fc_label": "emb_fc",
}
GATS = {
    "label_embed.layers.0": "emb_gat1",
    "label_embed.layers.1": "emb_gat2",
    "group_embed.layers.0.embed": "emb_gatz",
    "group_embed.layers.0.assign_mat": "emb_gats",
}
FLATTEN, PER_CLASS = {"fc1": "fuse_fc1", "fc2": "fuse_fc2"}, ("W", "B")
UNUSED = ("resnet_101.conv_buffer0.weight", "resnet_101.conv_buffer0.bias")


def recognises(values: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is of the released code."""
    return "fc_label.weight" in values and "label_embed.layers.0.W" in values


def to_ours(
    values: Mapping[str, Tensor], source: str, constants: Weights, fusion: str | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Our state dict, and the names of what takes no part; SrnError for a tensor that is missing or unknown.

    `constants`: vectors and graph of the labels by layer. `fusion`: as in `heads.FUSIONS`; their state dict has both.
    """
    if (fusion := fusion or FUSIONS[0]) not in FUSIONS:
        raise UsageError(f"no fusion {fusion}", f"choose of {', '.join(FUSIONS)}")
    per_class = fusion == "per_class"
    left = dict(values)

    def taken(name: str) -> Tensor:
        if name not in left:
            raise SrnError(f"{source}: {name} is missing: no whole state dict of the released code")
        return left.pop(name).float()

    inside = {name.removeprefix(TRUNK): value for name, value in values.items() if name.startswith(TRUNK)}
    inside = {name: value for name, value in inside.items() if not name.startswith(("conv_buffer", "fc."))}
    trunk = imagenet.trunk_with(inside, FAMILY, source)
    imagenet.fold_input(trunk, INPUT, *IMAGENET)
    result = {f"trunk.{name}": value for name, value in trunk.state_dict().items()}
    for name in inside:
        del left[TRUNK + name]
    for theirs, ours in (LAYERS | ({} if per_class else FLATTEN)).items():
        result |= {f"{ours}.{part}": taken(f"{theirs}.{part}") for part in ("weight", "bias")}
    for theirs, ours in GATS.items():
        a1, a2 = taken(f"{theirs}.a").reshape(2, 1, -1)
        result |= {f"{ours}.W.weight": taken(f"{theirs}.W").T.contiguous()}
        result |= {f"{ours}.a1.weight": a1.clone(), f"{ours}.a2.weight": a2.clone()}
    if per_class:
        result |= {"fuse_class.weight": taken("W")[:, :, None, None], "fuse_class.bias": taken("B")}
    unused = [*UNUSED, *(f"{name}.{part}" for name in FLATTEN if per_class for part in ("weight", "bias"))]
    unused = [name for name in (*unused, *PER_CLASS) if name in left]
    if unknown := sorted(set(left) - set(unused)):
        raise SrnError(f"{source}: {len(unknown)} tensors are unknown, the first is {unknown[0]}")
    return result | {f"{name}.value": torch.from_numpy(blobs[0]) for name, blobs in constants.items()}, unused


def from_ours(values: Mapping[str, Tensor], spec: TrunkSpec) -> tuple[dict[str, Tensor], list[str]]:
    """The released names of our state dict, and what takes no part there and is therefore zero."""
    if "emb_gats.W.weight" not in values or "tap_project1.weight" not in values:
        raise UsageError("the released code knows no net of fewer taps, or without groups", "leave --authors out")
    per_class = "fuse_class.weight" in values
    result = {TRUNK + name: value for name, value in _their_trunk(values, spec).items()}
    for theirs, ours in (LAYERS | ({} if per_class else FLATTEN)).items():
        result |= {f"{theirs}.{part}": values[f"{ours}.{part}"] for part in ("weight", "bias")}
    for theirs, ours in GATS.items():
        result[f"{theirs}.W"] = values[f"{ours}.W.weight"].T.contiguous()
        result[f"{theirs}.a"] = torch.cat([values[f"{ours}.a1.weight"], values[f"{ours}.a2.weight"]], 1).T.contiguous()
    classes, width = len(values["emb_vectors.value"]), len(values["tap_project1.weight"])
    buffer = 4 * spec.width  # channels of layer1
    zeros = {UNUSED[0]: (buffer, buffer, 1, 1), UNUSED[1]: (buffer,)}
    if per_class:
        rows = classes + len(values["emb_gats.W.weight"])
        result |= {"W": values["fuse_class.weight"].flatten(1), "B": values["fuse_class.bias"]}
        zeros |= {"fc1.weight": (2048, 3 * width * rows), "fc1.bias": (2048,)}  # models.py
        zeros |= {"fc2.weight": (classes, 2048), "fc2.bias": (classes,)}
    else:
        zeros |= {"W": (classes, 6 * width), "B": (classes,)}
    return result | {name: torch.zeros(shape) for name, shape in zeros.items()}, list(zeros)


def _their_trunk(values: Mapping[str, Tensor], spec: TrunkSpec) -> dict[str, Tensor]:
    """Our trunk under torchvision's names, its input RGB from 0 to 1 minus ImageNet's mean, by its deviation."""
    trunk = Trunk(spec)
    trunk.load_state_dict({name[6:]: value for name, value in values.items() if name.startswith("trunk.")})
    imagenet.unfold_input(trunk, INPUT, *IMAGENET)
    return imagenet.values_of(trunk, spec, FAMILY)
