"""How many parameters the parts of a net have, counted from the generated net.

`tools/make_prototxt.py --count` prints the table that the README shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from pysrn.nets import messages
from pysrn.recipes import Recipe
from pysrn.systems.stage_nets import recipe_deploy_net
from pysrn.systems.system import Part, System


@dataclass(frozen=True)
class Count:
    """Weights of convolutions and fully connected layers; `others`: their biases, and scale and shift of BN."""

    weights: int = 0
    others: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.weights + other.weights, self.others + other.others)


def count_parts(net: messages.NetParameter, system: System) -> dict[Part, Count]:
    """Learnable parameters of a deploy net by part; BN statistics are not learnt."""
    parts = dict.fromkeys(system.parts, Count())
    for name, count in count_layers(net).items():
        parts[system.part_of(name)] += count
    return parts


def count_layers(net: messages.NetParameter) -> dict[str, Count]:
    """Learnable parameters of each layer that has any; where maps are read fully connected, they are 1 x 1."""
    shapes: dict[str, list[int]] = {}
    found = {}
    for layer in net.layer:
        bottoms = [shapes[bottom] for bottom in layer.bottom]
        top = _top_shape(layer, bottoms)
        if layer.type == "Convolution":
            parameters = layer.convolution_param
            area, biases = parameters.kernel_size[0] ** 2, top[1] if parameters.bias_term else 0
            found[layer.name] = Count(top[1] * bottoms[0][1] // parameters.group * area, biases)
        elif layer.type == "InnerProduct":
            biases = top[1] if layer.inner_product_param.bias_term else 0
            found[layer.name] = Count(top[1] * prod(bottoms[0][1:]), biases)
        elif layer.type == "Scale" and layer.param:
            found[layer.name] = Count(0, 2 * top[1])
        shapes.update(dict.fromkeys(layer.top, top))
    return found


def _top_shape(layer: messages.LayerParameter, bottoms: list[list[int]]) -> list[int]:
    """The shape of a layer's top as far as weights depend on it: maps count as 1 x 1, most layers keep the shape."""
    if layer.type == "Input":
        return [*layer.input_param.shape[0].dim[:2], 1, 1]
    if layer.type == "Parameter":
        return list(layer.parameter_param.shape.dim)
    first = bottoms[0]
    if layer.type == "Convolution":
        return [first[0], layer.convolution_param.num_output, 1, 1]
    if layer.type == "InnerProduct":
        return [first[0], layer.inner_product_param.num_output]
    if layer.type == "Reshape":
        return [dim or first[axis] for axis, dim in enumerate(layer.reshape_param.shape.dim)]
    if layer.type == "Concat":
        axis = layer.concat_param.axis
        return [*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :]]
    if layer.type == "SemanticAttention":
        return [first[0], *bottoms[1]]
    return first


def table(recipes: Iterable[Recipe]) -> str:
    """Markdown: a line a part, a column a recipe of one system, in millions of weights; below it their sums."""
    recipes = list(recipes)
    system = recipes[0].system
    counts = [count_parts(recipe_deploy_net(recipe), system) for recipe in recipes]
    sums = [sum((count[part] for part in system.parts if part.extra), Count()) for count in counts]
    names = [", ".join(filter(None, (system.variant_of(one), f"C={len(one.dataset.classes)}"))) for one in recipes]
    lines = ["| weights in millions | " + " | ".join(names) + " |", "|---|" + "---:|" * len(recipes)]
    for part in counts[0]:
        lines.append(_line(part.title, [count[part].weights for count in counts]))
    lines.append(_line(f"**{system.title}'s extra weights**", [total.weights for total in sums]))
    lines.append(_line("with biases and BN", [total.weights + total.others for total in sums]))
    return "\n".join(lines)


def _line(title: str, numbers: Iterable[int]) -> str:
    return f"| {title} | " + " | ".join(f"{number / 1e6:.3f}" for number in numbers) + " |"
