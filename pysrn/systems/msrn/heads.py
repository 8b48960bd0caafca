"""What MSRN adds to the trunk: three taps, semantic attention in each of them, and the fusion of what it finds.

| step              | blob of one image           | layers                                                            |
|-------------------|-----------------------------|-------------------------------------------------------------------|
| taps              | channels x H x W            | ends of res3, res4, res5; the first two behind a 1x1 buffer       |
| pooled            | channels x H/2 x W/2        | 2x2 maximum, FLOOR                                                |
| projected         | D x H/2 x W/2               | 1x1 convolution, nothing behind it                                |
| semantic attention| R x D                       | `SemanticAttention`, rows: C label and m group embeddings         |
| all depths        | R x 3D                      | the three side by side, hyperbolic tangent                        |
| scores            | C                           | fusion `flatten` or `per_class`                                   |

Source of every number: `MSRN`, the released code (chehao2628/MSRN), by file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pysrn.console import UsageError
from pysrn.later import later
from pysrn.nets import messages
from pysrn.nets.layers import Learning, add_layer, convolution, set_learning
from pysrn.recipes import option
from pysrn.systems.trunks.resnet import TrunkSpec, block_names

json_format = later("google.protobuf.json_format")

TAPS = (3, 4, 5)  # ResNet.py, forward: ends of layer2, layer3, layer4
BUFFERED = (3, 4)  # ResNet.py: conv_buffer1 and conv_buffer2; the third tap has none
FUSION_SLOPE = 0.01  # models.py: leaky_relu, PyTorch's default
FUSIONS = ("flatten", "per_class")
# The label graph's edges (ours, for tests of the paper's claims; the paper's are those of the labels): none, or as many
# as the labels have, between any two, by the seed.
EDGES = LABELS, NO_EDGES, RANDOM = ("labels", "none", "random")
TWIN = {"module": "pysrn.systems.msrn.semantic_attention", "layer": "SemanticAttention"}


@dataclass(frozen=True)
class HeadSpec:
    """Widths and structure of the label branch and of the fusion; the values are those of the released code."""

    vector_width: int = 300  # data/*/*_glove_word2vec.pkl
    label_width: int = 256  # models.py: fc_label
    graph_width: int = 300  # LabelEmbedding.py: between the two graph layers of the labels
    embedding_width: int = 512  # models.py: label_dim; of labels, groups and projected features
    fusion_width: int = 2048  # models.py: fc1
    pool_ratio: float = option(  # demo_*.py: groups as a part of the labels
        0.2, kind="fraction", metavar="F", help="groups of labels, as a part of the labels"
    )
    edge_threshold: float = option(  # models.py, t: how probable a label makes its neighbour
        0.4, kind="fraction", metavar="F", help="labels are neighbours from this conditional probability on"
    )
    # `flatten`: two layers on all rows (models.py). `per_class`: the head that models.py holds commented out.
    fusion: str = option("flatten", kind="choice", choices=FUSIONS, help="how scores are made of all rows")
    label_vectors: str | None = option(
        None,
        kind="path",
        metavar="FILE",
        help="vectors of words in GloVe's text form (default: those shipped for the known data sets, else PPMI)",
    )
    tapped_depths: int = option(  # ResNet.py: all three
        len(TAPS), kind="count", metavar="N", help="depths of the trunk that labels look at: the last N of 3"
    )
    group_rows: bool = option(  # models.py: DiffPool
        True, kind="switch", help="whether groups of labels look, too (default: yes), or labels alone"
    )
    graph_edges: str = option(
        LABELS,
        kind="choice",
        choices=EDGES,
        help="edges of the label graph: of the labels (default), none, random ones",
    )

    def __post_init__(self) -> None:
        """Raises ValueError for a fusion or edges that there are not, UsageError for numbers that contradict."""
        if self.fusion not in FUSIONS:
            raise ValueError(f"no fusion {self.fusion}")
        if self.graph_edges not in EDGES:
            raise ValueError(f"no edges {self.graph_edges}")
        if not 1 <= self.tapped_depths <= len(TAPS):
            raise UsageError(f"--tapped-depths {self.tapped_depths}: the trunk has 1 to {len(TAPS)}")
        if not self.group_rows and self.fusion != "flatten":
            raise UsageError(f"--fusion {self.fusion} is made of groups", "leave --no-group-rows out")

    @property
    def taps(self) -> tuple[tuple[int, int], ...]:
        """(number, stage of the trunk) of the taps: a tap keeps its number where others are left out."""
        return tuple(enumerate(TAPS, 1))[-self.tapped_depths :]

    def groups(self, classes: int) -> int:
        """How many groups so many labels have; at least one, where the released code would have none."""
        return max(1, int(self.pool_ratio * classes)) if self.group_rows else 0


def uniform(bound: float) -> dict:
    """A filler between -bound and bound."""
    return {"type": "uniform", "min": -bound, "max": bound}


def torch_filler(inputs: int) -> dict:
    """How PyTorch draws weights and biases of a layer with so many inputs by default."""
    return uniform(1 / math.sqrt(inputs))


def as_torch(net: messages.NetParameter, inputs: int) -> None:
    """Let the bias of the convolution added last be drawn as PyTorch draws it."""
    json_format.ParseDict(torch_filler(inputs), net.layer[-1].convolution_param.bias_filler)


def dense(
    net: messages.NetParameter, name: str, bottom: str, sizes: tuple[int, int], learning: Learning, top: str = ""
) -> str:
    """A fully connected layer of (inputs, outputs), drawn as PyTorch draws it."""
    filler = torch_filler(sizes[0])
    parameters = {"num_output": sizes[1], "weight_filler": filler, "bias_filler": filler}
    add_layer(net, name, "InnerProduct", bottom, top or name, inner_product_param=parameters)
    set_learning(net, learning, 1.0)
    return top or name


def tap_channels(trunk: TrunkSpec, stage: int) -> int:
    """Channels of the end of a stage of the trunk."""
    return trunk.width * 2**stage


def add_taps(
    net: messages.NetParameter, trunk: TrunkSpec, heads: HeadSpec, learning: Learning, inside: Learning
) -> list[str]:
    """The taps, pooled and projected: N x D x H x W each. `inside`: of the buffers, which learn as the trunk."""
    tops = []
    for number, stage in heads.taps:
        top, channels = block_names(trunk, stage)[-1], tap_channels(trunk, stage)
        if stage in BUFFERED:
            filler = {"type": "gaussian", "std": math.sqrt(2 / channels)}  # ResNet.py: sqrt(2 / (k * k * outputs))
            top = convolution(net, f"tap_buffer{number}", top, channels, 1, inside, filler=filler)
            as_torch(net, channels)
        pooling = {"kernel_size": 2, "stride": 2, "pool": "MAX", "round_mode": "FLOOR"}  # ResNet.py: pool1 to pool3
        top = add_layer(net, f"tap_pool{number}", "Pooling", top, pooling_param=pooling)
        top = convolution(
            net, f"tap_project{number}", top, heads.embedding_width, 1, learning, filler=torch_filler(channels)
        )
        as_torch(net, channels)
        tops.append(top)
    return tops


def add_attention(net: messages.NetParameter, taps: list[str], rows: str, heads: HeadSpec) -> str:
    """What every row finds in every tap, side by side and squashed: N x R x 3D, less for fewer taps."""
    found = [
        add_layer(net, f"fuse_seen{number}", "SemanticAttention", [tap, rows], python_param=TWIN)
        for (number, _), tap in zip(heads.taps, taps, strict=True)
    ]
    add_layer(net, "fuse_all", "Concat", found, concat_param={"axis": 2})
    return add_layer(net, "fuse_tanh", "TanH", "fuse_all")


def add_fusion(
    net: messages.NetParameter, seen: str, assignment: str | None, classes: int, heads: HeadSpec, learning: Learning
) -> str:
    """`score`, N x C logits, of what the rows have seen; `assignment`: C x m, how far a label is of a group."""
    groups, width = heads.groups(classes), heads.tapped_depths * heads.embedding_width
    if heads.fusion == "flatten":
        flat = (classes + groups) * width
        top = dense(net, "fuse_fc1", seen, (flat, heads.fusion_width), learning)
        top = add_layer(net, "fuse_leaky", "ReLU", top, relu_param={"negative_slope": FUSION_SLOPE})
        return dense(net, "fuse_fc2", top, (heads.fusion_width, classes), learning, "score")
    # Each label's own row, and what its groups have seen: their rows weighed by the assignment.
    slicing = {"axis": 1, "slice_point": [classes]}
    add_layer(net, "fuse_slice", "Slice", "fuse_all", "fuse_labels", slice_param=slicing)
    net.layer[-1].top.append("fuse_groups")
    top = reshape(net, "fuse_groups_apart", "fuse_groups", [0, 1, groups, width])
    top = add_layer(net, "fuse_groups_each", "Tile", top, tile_param={"axis": 1, "tiles": classes})
    top = add_layer(net, "fuse_groups_weighed", "Scale", [top, assignment], scale_param={"axis": 1})
    top = mean_of_rows(net, "fuse_groups_mean", top, groups)
    top = reshape(net, "fuse_groups_flat", top, [0, classes, width])
    top = add_layer(net, "fuse_groups_sum", "Power", top, power_param={"scale": groups})
    add_layer(net, "fuse_both", "Concat", ["fuse_labels", top], concat_param={"axis": 2})
    add_layer(net, "fuse_squashed", "TanH", "fuse_both")
    top = reshape(net, "fuse_channels", "fuse_squashed", [0, 2 * width * classes, 1, 1])
    filler = torch_filler(2 * width)  # models.py: reset_parameters
    convolution(net, "fuse_class", top, classes, 1, learning, group=classes, filler=filler)
    as_torch(net, 2 * width)
    return reshape(net, "score", "fuse_class", [0, classes])


def mean_of_rows(net: messages.NetParameter, name: str, bottom: str, rows: int) -> str:
    """N x K x `rows` x W -> N x K x 1 x W: stock Caffe has no other sum over an axis before the last."""
    return add_layer(net, name, "Pooling", bottom, pooling_param={"pool": "AVE", "kernel_h": rows, "kernel_w": 1})


def reshape(net: messages.NetParameter, name: str, bottom: str, shape: list[int]) -> str:
    """The same numbers in another shape; 0: as the bottom's."""
    return add_layer(net, name, "Reshape", bottom, reshape_param={"shape": {"dim": shape}})
