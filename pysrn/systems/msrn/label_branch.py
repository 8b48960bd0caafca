"""The label branch in layers of stock Caffe: label vectors and graph -> embeddings of labels and groups, group loss.

Two graph attention layers (GAT) make the label embeddings, two more the groups (DiffPool): what each group is made of
and how far each label belongs to it. No image takes part, so at prediction all of this is one constant.
A GAT: h = x W; e_ij = LeakyReLU(a1 h_i + a2 h_j) where the graph has i -> j, else -1e12; softmax over j;
ELU(sum_j e_ij h_j + h_i). Sources: `LabelEmbedding.py` and `models.py` of the released code.
"""

from __future__ import annotations

import math

from pysrn.nets import messages
from pysrn.nets.layers import FIXED, Learning, add_layer, set_learning
from pysrn.systems.msrn.heads import HeadSpec, dense, mean_of_rows, reshape, uniform

VECTORS, GRAPH = "emb_vectors", "emb_graph"  # the constants: C x 300, and C x C with 0 on edges, else NO_EDGE
NO_EDGE = -1e12  # LabelEmbedding.py: zero_vec
GAT_SLOPE = 0.2  # LabelEmbedding.py: alpha
GAIN = 1.414  # LabelEmbedding.py: of xavier_uniform_
GROUP_LOSS = 1e-4  # models.py: weight of the group loss
# Under the root, so that the gradient of no distance is 0, as PyTorch's is, and not NaN.
LEAST_SQUARE = 1e-12
LABELS, GROUPS, ROWS, ASSIGNMENT = "emb_labels", "emb_groups", "emb_rows", "emb_assignment"


def add_label_branch(
    net: messages.NetParameter, classes: int, heads: HeadSpec, learning: Learning
) -> tuple[str, str | None]:
    """Add all of it but the loss; returns the rows (labels, then groups: C + m x D) and the assignment (C x m).

    Without groups the rows are the labels, and there is no assignment.
    """
    width, groups = heads.embedding_width, heads.groups(classes)
    _constant(net, VECTORS, (classes, heads.vector_width))
    _constant(net, GRAPH, (classes, classes))
    dense(net, "emb_fc", VECTORS, (heads.vector_width, heads.label_width), learning)
    _add_gat(net, "emb_gat1", "emb_fc", classes, (heads.label_width, heads.graph_width), learning)
    _add_gat(net, "emb_gat2", "emb_gat1", classes, (heads.graph_width, width), learning, LABELS)
    if not groups:
        return LABELS, None
    add_layer(net, "emb_rectified", "ReLU", LABELS)
    _add_gat(net, "emb_gatz", "emb_rectified", classes, (width, width), learning)
    _add_gat(net, "emb_gats", "emb_rectified", classes, (width, groups), learning)
    add_layer(net, ASSIGNMENT, "Softmax", "emb_gats", softmax_param={"axis": 1})
    # S^T Z: each label's Z once a group, scaled by S, summed over the labels.
    top = reshape(net, "emb_z_apart", "emb_gatz", [classes, 1, width])
    top = add_layer(net, "emb_z_each", "Tile", top, tile_param={"axis": 1, "tiles": groups})
    top = add_layer(net, "emb_z_scaled", "Scale", [top, ASSIGNMENT], scale_param={"axis": 0})
    top = reshape(net, "emb_z_flat", top, [1, 1, classes, groups * width])
    top = mean_of_rows(net, "emb_z_mean", top, classes)
    top = add_layer(net, "emb_z_sum", "Power", top, power_param={"scale": classes})
    reshape(net, GROUPS, top, [groups, width])
    add_layer(net, ROWS, "Concat", [LABELS, GROUPS], concat_param={"axis": 0})
    return ROWS, ASSIGNMENT


def add_group_loss(net: messages.NetParameter, classes: int) -> None:
    """Add 1e-4 times the sum of the labels' distances to the group that they belong to most; top `emb_group_loss`."""
    add_layer(net, "emb_which", "ArgMax", ASSIGNMENT, argmax_param={"axis": 1})
    net.layer[-1].propagate_down.append(False)
    reshape(net, "emb_which_flat", "emb_which", [classes])
    net.layer[-1].propagate_down.append(False)
    add_layer(net, "emb_own", "BatchReindex", [GROUPS, "emb_which_flat"])
    net.layer[-1].propagate_down.extend([True, False])
    add_layer(net, "emb_off", "Eltwise", [LABELS, "emb_own"], eltwise_param={"coeff": [1, -1]})
    add_layer(net, "emb_squared", "Reduction", "emb_off", reduction_param={"operation": "SUMSQ", "axis": 1})
    add_layer(net, "emb_distance", "Power", "emb_squared", power_param={"power": 0.5, "shift": LEAST_SQUARE})
    add_layer(net, "emb_group_loss", "Reduction", "emb_distance", reduction_param={"coeff": GROUP_LOSS})
    net.layer[-1].loss_weight.append(1)


def _constant(net: messages.NetParameter, name: str, shape: tuple[int, int]) -> None:
    """A `Parameter` layer that never learns; its values come from the run's data (`labels/constants.py`)."""
    add_layer(net, name, "Parameter", [], parameter_param={"shape": {"dim": list(shape)}})
    set_learning(net, FIXED, None)


def _add_gat(
    net: messages.NetParameter,
    name: str,
    bottom: str,
    classes: int,
    sizes: tuple[int, int],
    learning: Learning,
    top: str = "",
) -> None:
    """A GAT of (inputs, outputs): C x inputs -> `top`, C x outputs."""
    inputs, outputs = sizes
    _product(net, f"{name}_W", bottom, outputs, GAIN * math.sqrt(6 / (inputs + outputs)), learning)
    for part in ("a1", "a2"):  # the two halves of `a`, of 2 * outputs + 1 inputs and outputs together
        _product(net, f"{name}_{part}", f"{name}_W", 1, GAIN * math.sqrt(6 / (2 * outputs + 1)), learning)
    add_layer(net, f"{name}_from", "Tile", f"{name}_a1", tile_param={"axis": 1, "tiles": classes})
    reshape(net, f"{name}_a2_lying", f"{name}_a2", [1, classes])
    add_layer(net, f"{name}_to", "Tile", f"{name}_a2_lying", tile_param={"axis": 0, "tiles": classes})
    add_layer(net, f"{name}_sum", "Eltwise", [f"{name}_from", f"{name}_to"])
    add_layer(net, f"{name}_leaky", "ReLU", f"{name}_sum", relu_param={"negative_slope": GAT_SLOPE})
    add_layer(net, f"{name}_masked", "Eltwise", [f"{name}_leaky", GRAPH])
    add_layer(net, f"{name}_att", "Softmax", f"{name}_masked", softmax_param={"axis": 1})
    # att h: h once for every i, scaled by att_ij, summed over j.
    reshape(net, f"{name}_h", f"{name}_W", [1, classes, outputs])
    add_layer(net, f"{name}_each", "Tile", f"{name}_h", tile_param={"axis": 0, "tiles": classes})
    add_layer(net, f"{name}_scaled", "Scale", [f"{name}_each", f"{name}_att"], scale_param={"axis": 0})
    reshape(net, f"{name}_maps", f"{name}_scaled", [classes, 1, classes, outputs])
    mean_of_rows(net, f"{name}_mean", f"{name}_maps", classes)
    reshape(net, f"{name}_found", f"{name}_mean", [classes, outputs])
    add_layer(net, f"{name}_with_own", "Eltwise", [f"{name}_found", f"{name}_W"], eltwise_param={"coeff": [classes, 1]})
    add_layer(net, top or name, "ELU", f"{name}_with_own")


def _product(
    net: messages.NetParameter, name: str, bottom: str, outputs: int, bound: float, learning: Learning
) -> None:
    parameters = {"num_output": outputs, "bias_term": False, "weight_filler": uniform(bound)}
    add_layer(net, name, "InnerProduct", bottom, inner_product_param=parameters)
    set_learning(net, learning, None)
