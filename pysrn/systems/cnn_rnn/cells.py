"""The two recurrent cells from stock layers: T steps in training, one step in a search.

Both read `rnn_embedded` (T x N x E) and give `rnn_state` (T x N x D).

`lstm`: Caffe's LSTM, whose gates are i, f, o, g with one bias.
`paper` (transcribed alike by STU and others): x' = delta(U_r r + U_w w), gates i, f, o' likewise, r' = f r + i x',
o = r' o'. It has neither a squashed output nor gates that see o. assumed: the gates are sigmoids and delta is tanh, as
in the usual cell (no source says so; with rectifiers everywhere it learned less).
"""

from __future__ import annotations

from collections.abc import Mapping

from pysrn.nets import messages
from pysrn.nets.layers import Learning, add_layer
from pysrn.systems.cnn_rnn.heads import HeadSpec

UNIFORM = {"type": "uniform", "min": -0.08, "max": 0.08}  # assumed: the custom of recurrent nets in Caffe
GATES = {"i": "Sigmoid", "f": "Sigmoid", "o": "Sigmoid", "x": "TanH"}
RECURRENT = "rnn_recurrent_weights"  # what the steps of the paper's cell share
EMBEDDED, CONT, STATE = "rnn_embedded", "rnn_cont", "rnn_state"
# Of a single step, by cell: memory that it takes -> memory that it gives.
MEMORY = {"lstm": {"rnn_h0": "rnn_h1", "rnn_c0": "rnn_c1"}, "paper": {"rnn_memory": "rnn_r_0"}}


def add_cell(net: messages.NetParameter, heads: HeadSpec, steps: int, learning: Learning) -> None:
    """Add the cell, `steps` long, beginning with an empty memory."""
    if heads.cell == "lstm":
        _add_lstm(net, heads.recurrent_width, learning)
    else:
        _add_paper_cell(net, heads.recurrent_width, steps, learning, None)


def add_step(net: messages.NetParameter, heads: HeadSpec, learning: Learning) -> Mapping[str, str]:
    """Add Input layers for the memory (1 x 1 x D each) and the cell, one step long.

    Returns what a step takes from the one before and gives to the next: input blob -> output blob.
    """
    width, memory = heads.recurrent_width, MEMORY[heads.cell]
    if heads.cell == "lstm":
        add_input(net, CONT, 1, 1)
    for name in memory:
        add_input(net, name, 1, 1, width)
    if heads.cell == "lstm":
        _add_lstm(net, width, learning, exposed=True)
    else:
        _add_paper_cell(net, width, 1, learning, *memory)
    return memory


def add_input(net: messages.NetParameter, name: str, *shape: int) -> None:
    """Add an Input layer."""
    add_layer(net, name, "Input", [], input_param={"shape": [{"dim": list(shape)}]})


def share(net: messages.NetParameter, learning: Learning, *names: str) -> None:
    """Rates of the blobs of the layer added last, each shared with the blobs of its name ("": its own)."""
    for name in names:
        param = net.layer[-1].param.add(lr_mult=learning.rate, decay_mult=0.0 if learning.fixed else 1.0)
        if name:
            param.name = name


def _add_lstm(net: messages.NetParameter, width: int, learning: Learning, exposed: bool = False) -> None:
    parameters = {"num_output": width, "weight_filler": UNIFORM, "bias_filler": {"type": "constant"}}
    memory = ["rnn_h0", "rnn_c0"] if exposed else []
    add_layer(
        net, "rnn_lstm", "LSTM", [EMBEDDED, CONT, *memory], STATE,
        recurrent_param=parameters | ({"expose_hidden": True} if exposed else {}),
    )  # fmt: skip
    net.layer[-1].top.extend(["rnn_h1", "rnn_c1"] if exposed else [])
    share(net, learning, "", "", "")


def _add_paper_cell(net: messages.NetParameter, width: int, steps: int, learning: Learning, memory: str | None) -> None:
    """`memory`: the blob that the first step begins with; None: zeros."""
    inner = {"num_output": len(GATES) * width, "axis": 2, "weight_filler": UNIFORM}
    add_layer(net, "rnn_input", "InnerProduct", EMBEDDED, "rnn_seen", inner_product_param=inner)
    share(net, learning, "", "")
    _split(net, "rnn_steps", "rnn_seen", [f"rnn_seen_{t}" for t in range(steps)], 0)
    for t in range(steps):
        last = f"rnn_r_{t - 1}" if t else memory
        if last is None:
            _split(net, "rnn_first", "rnn_seen_0", [f"rnn_first_{gate}" for gate in GATES], 2)
            add_layer(net, "rnn_unused", "Silence", [f"rnn_first_{gate}" for gate in list(GATES)[1:]], "")
            del net.layer[-1].top[:]
            last = add_layer(net, "rnn_memory", "Power", "rnn_first_i", power_param={"scale": 0.0})
        add_layer(
            net, f"rnn_recurrent_{t}", "InnerProduct", last, inner_product_param=inner | {"bias_term": False}
        )  # fmt: skip
        share(net, learning, RECURRENT)
        add_layer(net, f"rnn_sum_{t}", "Eltwise", [f"rnn_seen_{t}", f"rnn_recurrent_{t}"])
        _split(net, f"rnn_gates_{t}", f"rnn_sum_{t}", [f"rnn_{gate}_{t}_sum" for gate in GATES], 2)
        for gate, kind in GATES.items():
            add_layer(net, f"rnn_{gate}_{t}", kind, f"rnn_{gate}_{t}_sum")
        _product(net, f"rnn_new_{t}", f"rnn_i_{t}", f"rnn_x_{t}")
        _product(net, f"rnn_kept_{t}", f"rnn_f_{t}", last)
        add_layer(net, f"rnn_r_{t}", "Eltwise", [f"rnn_new_{t}", f"rnn_kept_{t}"])
        _product(net, f"rnn_out_{t}", f"rnn_o_{t}", f"rnn_r_{t}")
    add_layer(net, STATE, "Concat", [f"rnn_out_{t}" for t in range(steps)], concat_param={"axis": 0})


def _split(net: messages.NetParameter, name: str, bottom: str, tops: list[str], axis: int) -> None:
    """Slice a blob evenly; Caffe's Slice takes a single top, too."""
    add_layer(net, name, "Slice", bottom, tops[0], slice_param={"axis": axis})
    net.layer[-1].top.extend(tops[1:])


def _product(net: messages.NetParameter, name: str, one: str, other: str) -> None:
    add_layer(net, name, "Eltwise", [one, other], eltwise_param={"operation": "PROD"})
