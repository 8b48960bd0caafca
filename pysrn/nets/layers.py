"""Building blocks of the nets: one function adds one layer group to a NetParameter and returns its top.

The systems string these together (`systems/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pysrn.later import later
from pysrn.nets import messages

np, json_format = later("numpy"), later("google.protobuf.json_format")

BN_MOMENTUM = 0.9  # official repo, bn_layer.cpp; Caffe's own 0.999 remembers more iterations than a short run has
BIAS_RATE = 2.0  # assumed: biases learn twice as fast, the custom of Caffe's own models


@dataclass(frozen=True)
class Learning:
    """How a part of a net learns in a stage: its rate as a multiple of base_lr, and its BN statistics."""

    rate: float = 1.0
    train_bn: bool = False

    @property
    def fixed(self) -> bool:
        """True when nothing of the part may change."""
        return self.rate == 0


FIXED = Learning(rate=0.0)


def add_layer(
    net: messages.NetParameter, name: str, kind: str, bottoms: str | list[str], top: str | None = None, **parameters
) -> str:
    """Append a layer; `parameters` are its `*_param` messages as dicts. Returns the name of its (first) top."""
    layer = net.layer.add(name=name, type=kind)
    layer.bottom.extend([bottoms] if isinstance(bottoms, str) else bottoms)
    layer.top.append(top or name)
    for field_name, values in parameters.items():
        message = getattr(layer, field_name)
        message.SetInParent()
        json_format.ParseDict(values, message)
    return layer.top[0]


def add_input(net: messages.NetParameter, name: str, shape: Sequence[int]) -> str:
    """Append an Input layer; who runs the net fills its blob, whose name is returned."""
    return add_layer(net, name, "Input", [], input_param={"shape": [{"dim": list(shape)}]})


def set_learning(net: messages.NetParameter, learning: Learning, bias_rate: float | None) -> None:
    """Write the learning rates of the layer added last; its bias, if it has one, does not decay."""
    layer = net.layer[-1]
    layer.param.add(lr_mult=learning.rate, decay_mult=0.0 if learning.fixed else 1.0)
    if bias_rate is not None:
        layer.param.add(lr_mult=bias_rate * learning.rate, decay_mult=0.0)


def convolution(
    net: messages.NetParameter,
    name: str,
    bottom: str,
    channels: int,
    kernel: int,
    learning: Learning,
    *,
    stride: int = 1,
    pad: int = 0,
    group: int = 1,
    bias: bool = True,
    filler: dict | None = None,
    first_bias: float = 0.0,
    top: str | None = None,
) -> str:
    """Add a square convolution."""
    parameters = {"num_output": channels, "kernel_size": [kernel], "pad": [pad], "stride": [stride]}
    if group != 1:
        parameters["group"] = group
    if not bias:
        parameters["bias_term"] = False
    parameters["weight_filler"] = filler or {"type": "msra"}  # assumed: He et al. 2015
    parameters |= _bias_filler(first_bias)
    add_layer(net, name, "Convolution", bottom, top, convolution_param=parameters)
    set_learning(net, learning, BIAS_RATE if bias else None)
    return top or name


def batch_norm_names(blob: str) -> tuple[str, str]:
    """Names of the BatchNorm and Scale layers that normalise a blob.

    In the trunk as in the public release (`res4a_branch2a`: `bn4a_branch2a`, `scale4a_branch2a`; `conv1`: `bn_conv1`,
    `scale_conv1`), elsewhere the blob's name with `_bn` and `_scale` behind it.
    """
    if blob.startswith("res"):
        return f"bn{blob[3:]}", f"scale{blob[3:]}"
    if "_" not in blob:
        return f"bn_{blob}", f"scale_{blob}"
    return f"{blob}_bn", f"{blob}_scale"


def batch_norm_scale(
    net: messages.NetParameter, blob: str, learning: Learning, name: str | None = None, top: str | None = None
) -> str:
    """Add BatchNorm and Scale on a blob, named after it or as `name` would be, in place without `top`.

    Statistics follow the batch only where `learning` says so (D7).
    """
    bn_name, scale_name = batch_norm_names(name or blob)
    stored = learning.fixed or not learning.train_bn
    parameters = {"use_global_stats": stored} | ({} if stored else {"moving_average_fraction": BN_MOMENTUM})
    top = add_layer(net, bn_name, "BatchNorm", blob, top or blob, batch_norm_param=parameters)
    for _ in range(3):  # mean, variance, scale factor: never touched by the solver
        net.layer[-1].param.add(lr_mult=0.0, decay_mult=0.0)
    add_layer(net, scale_name, "Scale", top, top, scale_param={"bias_term": True})
    set_learning(net, learning, 1.0)
    return top


def activation(net: messages.NetParameter, blob: str, learning: Learning, name: str | None = None) -> str:
    """Add what a pre-activation net puts before a convolution: BN and ReLU of a blob that others read too.

    Named after the blob or as `name` would be. The top is `<name>_relu`: `res4b22` gives the `res4b22_relu` of the
    authors' nets.
    """
    top = f"{name or blob}_relu"
    return relu(net, top, batch_norm_scale(net, blob, learning, name, top))


def relu(net: messages.NetParameter, name: str, bottom: str) -> str:
    """Add a rectifier in place."""
    return add_layer(net, name, "ReLU", bottom, bottom)


def inner_product(
    net: messages.NetParameter,
    name: str,
    bottom: str,
    outputs: int,
    learning: Learning,
    top: str,
    std: float,
    first_bias: float = 0.0,
) -> str:
    """Add a fully connected layer with Gaussian initial weights of standard deviation `std`."""
    parameters = {"num_output": outputs, "weight_filler": {"type": "gaussian", "std": std}, **_bias_filler(first_bias)}
    add_layer(net, name, "InnerProduct", bottom, top, inner_product_param=parameters)
    set_learning(net, learning, BIAS_RATE)
    return top


def _bias_filler(value: float) -> dict:
    """What makes biases begin with `value`; with 0 they do anyway."""
    return {"bias_filler": {"type": "constant", "value": value}} if value else {}


def preact_bottleneck(
    net: messages.NetParameter,
    name: str,
    bottom: str,
    activated: str,
    inside: int,
    learning: Learning,
    *,
    stride: int = 1,
    projected: bool = False,
    stride_in_3x3: bool = True,
) -> tuple[str, str]:
    """Add a pre-activation residual block; `activated` is `bottom` behind its BN and ReLU.

    1x1, BN, ReLU, 3x3, BN, ReLU, 1x1 on `activated`, beside `bottom` itself or a projection of `activated`; their sum
    `name`, and its own BN and ReLU. Returns the sum and the latter. Convolutions have no bias (timm, resnetv2).
    """
    shortcut = bottom
    if projected:
        shortcut = convolution(net, f"{name}_branch1", activated, 4 * inside, 1, learning, stride=stride, bias=False)
    strides = (1, stride) if stride_in_3x3 else (stride, 1)
    top = convolution(net, f"{name}_branch2a", activated, inside, 1, learning, stride=strides[0], bias=False)
    relu(net, f"{name}_branch2a_relu", batch_norm_scale(net, top, learning))
    top = convolution(net, f"{name}_branch2b", top, inside, 3, learning, stride=strides[1], pad=1, bias=False)
    relu(net, f"{name}_branch2b_relu", batch_norm_scale(net, top, learning))
    top = convolution(net, f"{name}_branch2c", top, 4 * inside, 1, learning, bias=False)
    add_layer(net, name, "Eltwise", [shortcut, top])
    return name, activation(net, name, learning)


def give_blobs(net: messages.NetParameter, blobs: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write the values of the named layers into a net, so that they begin with them; a net need not have all."""
    for layer in net.layer:
        for values in blobs.get(layer.name, ()):
            message = layer.blobs.add()
            message.shape.dim.extend(values.shape)
            message.data.extend(np.asarray(values, np.float32).reshape(-1).tolist())


def parameter_layers(net: messages.NetParameter) -> list[str]:
    """Names of the layers that have weights or statistics of their own, in net order.

    What several layers share, by the names of their parameters, is the first one's.
    """
    found, known = [], {""}
    for layer in net.layer:
        names = {param.name for param in layer.param}
        if not names <= known - {""}:
            found.append(layer.name)
        known |= names
    return found


def fix_up_to(net: messages.NetParameter, blob: str) -> None:
    """Let nothing change of the layers up to the one that makes a blob: no rates, no decay, stored BN statistics."""
    end = 1 + max(i for i, layer in enumerate(net.layer) if blob in layer.top)
    for layer in net.layer[:end]:
        for param in layer.param:
            param.lr_mult = param.decay_mult = 0.0
        if layer.type == "BatchNorm":
            layer.batch_norm_param.ClearField("moving_average_fraction")
            layer.batch_norm_param.use_global_stats = True


def fixed_layers(net: messages.NetParameter) -> set[str]:
    """Names of the layers with weights of which nothing may change while the net is trained."""
    fixed = {layer.name for layer in net.layer if layer.param and not any(p.lr_mult for p in layer.param)}
    moving = {
        layer.name for layer in net.layer if layer.type == "BatchNorm" and not layer.batch_norm_param.use_global_stats
    }
    return fixed - moving
