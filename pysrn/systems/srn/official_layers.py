"""The layers with weights of the authors' nets and of ours, in the terms in which they are compared.

Under `official.py`; the comparison itself is `nets/weight_graph.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

from pysrn.nets.caffemodel import StoredLayer
from pysrn.nets.map_places import two_sides
from pysrn.nets.weight_graph import Mark, Unit, units_of
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.srn.system import SYSTEM
from pysrn.systems.stage_nets import deploy_net
from pysrn.systems.system import Architecture
from pysrn.systems.trunks.resnet import IMAGENET_CLASSIFIER, TRUNKS

IMAGENET_CLASSES = 1000
KINDS = {"Convolution": "Convolution", "InnerProduct": "InnerProduct", "BN": "BN", "BatchNorm": "BN"}


@dataclass(frozen=True)
class OurLayer:
    """A layer of our net; `scale` is the Scale behind a BatchNorm."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bias: bool
    geometry: Hashable
    scale: str | None = None


@dataclass(frozen=True)
class Target:
    """A net of ours that a file of theirs may hold; `title` is for people."""

    title: str
    layers: list[OurLayer]
    units: list[Unit]
    classifier: str = "cls_fc"

    def rename(self, name: str) -> str:
        """The classifier of an ImageNet model keeps the name under which stage 1 expects and leaves it."""
        return self.classifier if name == "cls_fc" else name


def targets(theirs: Iterable[StoredLayer], geometry: bool, wired: bool) -> Iterable[Target]:
    """The nets of ours to try: each pre-activation trunk, alone and with heads, for as many labels as a layer has."""
    counts = sorted({_matrix(layer)[0] for layer in theirs if layer.kind == "InnerProduct"})
    for spec in TRUNKS.values():
        if not spec.preact:
            continue
        for classes in counts:
            for shared in (True, False):
                heads = HeadSpec(variant="released", confidence_sees_blocks=shared)
                layers, units = _our_net(spec.name, classes, heads, geometry, wired)
                where = "" if shared else ", confidence branch on X"
                yield Target(f"SRN_{spec.name}_{classes}_labels{where}", layers, units)
            trunk = [i for i, unit in enumerate(units) if not SYSTEM.part_of(unit.name).extra]
            at = {place: i for i, place in enumerate(trunk)}
            alone = [replace(units[i], sources=frozenset(at[source] for source in units[i].sources)) for i in trunk]
            classifier = IMAGENET_CLASSIFIER if classes == IMAGENET_CLASSES else "cls_fc"
            yield Target(f"{spec.name}_{classes}_labels", [layers[i] for i in trunk], alone, classifier)


def _our_net(
    trunk: str, classes: int, heads: HeadSpec, geometry: bool, wired: bool
) -> tuple[list[OurLayer], list[Unit]]:
    """Layers with weights of our deploy net, a BatchNorm and its Scale as one; and their graph, in the same order."""
    net = deploy_net(Architecture(SYSTEM, trunk, classes, heads))
    scales = {layer.bottom[0]: layer.name for layer in net.layer if layer.type == "Scale"}
    channels: dict[str, int] = {}
    found, rows = [], []
    for layer in net.layer:
        inputs = channels[layer.bottom[0]] if layer.bottom else 3
        outputs, shape, bias, place = inputs, None, False, None
        if layer.type == "Convolution":
            parameters = layer.convolution_param
            outputs, bias, place = parameters.num_output, parameters.bias_term, _geometry(parameters)
            shape = (outputs, inputs // parameters.group, *[parameters.kernel_size[0]] * 2)
        elif layer.type == "InnerProduct":
            outputs, bias = layer.inner_product_param.num_output, True
            shape = (outputs, inputs)
        elif layer.type == "BatchNorm":
            shape = (inputs,)
        channels.update(dict.fromkeys(layer.top, outputs))
        like = mark_of(layer.type, layer.pooling_param)
        if shape is not None:
            scale = scales[layer.top[0]] if layer.type == "BatchNorm" else None
            found.append(OurLayer(layer.name, layer.type, shape, bias, place, scale))
            like = (KINDS[layer.type], shape, place if geometry else None)
        rows.append((layer.name, list(layer.bottom), list(layer.top), like))
    return found, units_of(rows, wired)


def likeness(layer: StoredLayer, geometry: bool) -> Hashable:
    """Kind and shape of a layer of theirs and, where the file tells, stride, padding and groups."""
    if layer.kind == "BN":
        return ("BN", (layer.blobs[0].size,), None)
    if layer.kind == "InnerProduct":
        return ("InnerProduct", _matrix(layer), None)
    return ("Convolution", layer.blobs[0].shape, _geometry(layer.message.convolution_param) if geometry else None)


def mark_of(kind: str, parameters) -> Mark | None:
    """The mark of a maximum over windows: the pre-activation families differ in its place alone (`resnet.py`)."""
    return Mark("maximum") if kind == "Pooling" and parameters.pool == parameters.MAX else None


def _geometry(parameters) -> Hashable:
    """(vertical, horizontal) stride and padding, and groups, of a convolution_param."""
    groups = parameters.group if parameters.HasField("group") else 1
    return two_sides(parameters, "stride", 1), two_sides(parameters, "pad", 0), groups


def kind_of(layer: StoredLayer) -> str | None:
    """The kind of a layer of theirs, or None for one that they do not have or that has not its blobs."""
    sizes = [blob.size for blob in layer.blobs]
    if layer.kind == "BN":
        return "BN" if len(sizes) == 4 and len(set(sizes)) == 1 else None
    axes = {"Convolution": 4, "InnerProduct": 2}.get(layer.kind)
    if axes is None or len(sizes) > 2 or layer.blobs[0].ndim not in (axes, 4) or not sizes[0]:
        return None
    outputs = _matrix(layer)[0] if layer.kind == "InnerProduct" else layer.blobs[0].shape[0]
    return layer.kind if sizes[1:] in ([], [outputs]) else None


def _matrix(layer: StoredLayer) -> tuple[int, int]:
    """Outputs and inputs of a fully connected layer, whose legacy shape has ones before them."""
    return layer.blobs[0].shape[-2:]
