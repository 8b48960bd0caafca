"""What of a stage's net is fixed, apart from what learns: stages 2 and 3 need no trunk that could be trained (D8).

The net of stage 2 or 3 falls into a fixed part, which nothing is back-propagated into, and the part that learns, which
reads one blob of the fixed one: X in stage 2, the weighted attention maps U in stage 3. The fixed part itself falls
into the trunk up to X, which both stages share, and the fixed heads. `train/` runs the fixed part as nets of their own,
with batch normalisation folded into the weights; the checked-in prototxt are the whole nets.
"""

from __future__ import annotations

from dataclasses import dataclass

from caffe.proto import caffe_pb2

from pysrn.nets.layers import add_layer
from pysrn.recipes import CROP_SIZE, FEATURE_SIZE, TrunkSpec
from pysrn.systems.srn.nets import fixed_layers, parameter_layers
from pysrn.systems.trunks.resnet import feature_name

LABEL = "label"


@dataclass(frozen=True)
class Parts:
    """A stage's net in parts; all are NetParameters.

    `fixed`: the trunk and, in stage 3, the heads that do not learn, each reading the one before it; the first reads
    `data`. `learning` has all other layers but the data layer; it reads the last one's output and `label`.
    """

    fixed: tuple[caffe_pb2.NetParameter, ...]
    learning: caffe_pb2.NetParameter

    @property
    def fixed_names(self) -> list[str]:
        """Names of the fixed layers that have weights."""
        return [name for net in self.fixed for name in parameter_layers(net)]


def split(net: caffe_pb2.NetParameter, spec: TrunkSpec) -> Parts:
    """Take a net of stage 2 or 3 with this trunk apart.

    Raises ValueError where what learns reads several blobs of what is fixed, or the images (stages 1 and 4).
    """
    data, *layers = net.layer
    fixed, learning = [], []
    moving: set[str] = set()  # blobs that something that learns has a part in
    read: set[str] = set()  # blobs of the fixed part that the learning part reads
    still = fixed_layers(net)
    for layer in layers:
        learns = layer.name not in still and bool(layer.param)
        if learns or moving.intersection(layer.bottom):
            read |= set(layer.bottom) - moving - {LABEL}
            moving |= set(layer.top)
            learning.append(layer)
        else:
            fixed.append(layer)
    if len(read) != 1 or read & set(data.top):
        raise ValueError(f"{net.name} has no fixed part of its own: what learns reads {', '.join(sorted(read))}")
    whole = caffe_pb2.NetParameter(name=net.name)
    _put_input(whole, data.top[0], [1, 3, CROP_SIZE, CROP_SIZE])
    whole.layer.extend(fixed)
    trunk, heads = cut_at_features(whole, spec)
    rest = caffe_pb2.NetParameter(name=f"{net.name}_learning")
    rest.layer.extend(learning)
    return Parts((trunk, heads) if len(heads.layer) > 1 else (trunk,), rest)


def cut_at_features(
    net: caffe_pb2.NetParameter, spec: TrunkSpec
) -> tuple[caffe_pb2.NetParameter, caffe_pb2.NetParameter]:
    """A net with this trunk, which begins with an Input layer, in two: the trunk up to X, and what reads X."""
    features = feature_name(spec)
    end = 1 + max(i for i, layer in enumerate(net.layer) if features in layer.top)
    trunk = caffe_pb2.NetParameter(name=f"{net.name}_trunk")
    trunk.layer.extend(net.layer[:end])
    rest = caffe_pb2.NetParameter(name=f"{net.name}_on_features")
    _put_input(rest, features, features_shape(spec, net.layer[0].input_param.shape[0].dim[0]))
    rest.layer.extend(net.layer[end:])
    return trunk, rest


def features_shape(spec: TrunkSpec, images: int) -> list[int]:
    """Shape of X."""
    return [images, spec.feature_channels, FEATURE_SIZE, FEATURE_SIZE]


def input_and_output(net: caffe_pb2.NetParameter) -> tuple[str, str]:
    """What a fixed part reads and what it makes."""
    return net.layer[0].top[0], net.layer[-1].top[0]


def _put_input(net: caffe_pb2.NetParameter, name: str, shape: list[int]) -> None:
    """Begin a net with an Input layer; who runs it gives it the batch."""
    add_layer(net, name, "Input", [], input_param={"shape": [{"dim": shape}]})
