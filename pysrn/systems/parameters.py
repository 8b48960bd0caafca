"""How many parameters the parts of a net have, counted from the generated net.

`tools/make_prototxt.py --count` prints the table that the README shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    """Learnable parameters of each layer that has any, of a net whose fully connected layers read 1 x 1 maps."""
    channels: dict[str, int] = {}
    found = {}
    for layer in net.layer:
        inputs = channels[layer.bottom[0]] if layer.bottom else layer.input_param.shape[0].dim[1]
        outputs = inputs
        if layer.type == "Convolution":
            parameters = layer.convolution_param
            outputs, area = parameters.num_output, parameters.kernel_size[0] ** 2
            biases = outputs if parameters.bias_term else 0
            found[layer.name] = Count(outputs * inputs // parameters.group * area, biases)
        elif layer.type == "InnerProduct":
            outputs = layer.inner_product_param.num_output
            found[layer.name] = Count(outputs * inputs, outputs)
        elif layer.type == "Scale":
            found[layer.name] = Count(0, 2 * inputs)
        channels.update(dict.fromkeys(layer.top, outputs))
    return found


def table(recipes: Iterable[Recipe]) -> str:
    """Markdown: a line a part, a column a recipe of one system, in millions of weights; below it their sums."""
    recipes = list(recipes)
    system = recipes[0].system
    counts = [count_parts(recipe_deploy_net(recipe), system) for recipe in recipes]
    sums = [sum((count[part] for part in system.parts if part.extra), Count()) for count in counts]
    heads = [f"{system.variant_of(recipe)}, C={len(recipe.dataset.classes)}" for recipe in recipes]
    lines = ["| weights in millions | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(recipes)]
    for part in counts[0]:
        lines.append(_line(part.title, [count[part].weights for count in counts]))
    lines.append(_line(f"**{system.title}'s extra weights**", [total.weights for total in sums]))
    lines.append(_line("with biases and BN", [total.weights + total.others for total in sums]))
    return "\n".join(lines)


def _line(title: str, numbers: Iterable[int]) -> str:
    return f"| {title} | " + " | ".join(f"{number / 1e6:.3f}" for number in numbers) + " |"
