"""Nets whose maps or weights are as many as CAFFE_ENGINE's part `large` asks for: 2^24 numbers, 2^22 weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from tests.caffe.running import Record, build, fill, layer, numbers, text_net

SIZE = 2048  # inputs and outputs of the smallest product that is large
STRIDED = "convolution_param { num_output: 4 kernel_size: 8 stride: 8 }"


def normalised(name: str, bottom: str, channels: int) -> str:
    """A convolution whose output is normalised by the statistics of the batch, in place."""
    return (
        layer(
            name, "Convolution", bottom, "",
            f"convolution_param {{ num_output: {channels} kernel_size: 3 pad: 1 bias_term: false }}",
        )
        + layer(f"{name}_bn", "BatchNorm", name, name, "batch_norm_param { use_global_stats: false }")
        + layer(f"{name}_scale", "Scale", name, name, "scale_param { bias_term: true }")
    )  # fmt: skip


# In blocks of 16 channels, in Caffe's order (20), a sum. No rectifier, behind which rounding moves gradients by luck;
# and none of them behind another, where a gradient is the little that is left of large ones.
NORMS = (
    normalised("a", "data", 32)
    + normalised("b", "data", 20)
    + normalised("c", "data", 32)
    + layer("sum", "Eltwise", "a c")
    + layer("both", "Concat", "sum b")
    + layer("last", "Convolution", "both", "", STRIDED)
)
MAPS = {"data": (2, 3, 320, 320)}  # 2 x 84 x 320 x 320 numbers: 17.2 million


def norms_of_the_batch(record: Record) -> None:
    """Twice forth and back, with what is kept of the statistics; then another size."""
    net = build(text_net(NORMS, **MAPS), "train")
    for turn in ("first ", "second "):
        record.pass_through(net, turn)
        record.outputs(
            turn, **{f"{name} {n}": net.params[f"{name}_bn"][n].data / 1000 for name in "abc" for n in (0, 1)}
        )
    net.blobs["data"].reshape(1, 3, 96, 160)
    net.blobs["data"].data[...] = numbers(np.random.default_rng(3), (1, 3, 96, 160))
    record.pass_through(net, "smaller ")


def norms_looked_into(record: Record) -> None:
    """What lies in the blob between BatchNorm and Scale, read, kept in an array and written; a pass from there on."""
    net = build(text_net(NORMS, **MAPS), "train")
    net.forward(end="a_bn")
    record.outputs("between ", a=net.blobs["a"].data[:, :, ::16, ::16])
    net.forward(start="a_scale")
    record.outputs("behind ", last=net.blobs["last"].data)
    view = net.blobs["c"].data
    net.forward(end="c_bn")
    record.outputs("kept ", c=view[:, :, ::16, ::16])
    net.forward(end="b_bn")
    net.blobs["b"].data[...] *= 2
    net.forward(start="b_scale")
    record.outputs("written ", last=net.blobs["last"].data)
    net.clear_param_diffs()
    net.backward(last=numbers(np.random.default_rng(1), net.blobs["last"].data.shape))
    record.parameter_gradients(net)


def products(record: Record) -> None:
    """Inner products over few rows and more, with and without a bias, transposed."""
    for rows, parameters in ((1, ""), (2, ""), (8, "bias_term: false"), (9, ""), (70, ""), (2, "transpose: true")):
        fc = layer("fc", "InnerProduct", "data", "", f"inner_product_param {{ num_output: {SIZE + 5} {parameters} }}")
        net = build(text_net(fc, data=(rows, SIZE + 3)), "train")
        record.pass_through(net, f"{rows} {parameters} ")


def product_gradients_add_up(record: Record) -> None:
    """Several backward passes without clearing, and two layers on the same weights."""
    shared = f'param {{ name: "w" }} param {{ name: "v" }} inner_product_param {{ num_output: {SIZE} }}'
    for name, layers in (
        ("alone", layer("fc", "InnerProduct", "data", "", shared)),
        ("shared", layer("fc", "InnerProduct", "data", "", shared) + layer("again", "InnerProduct", "fc", "", shared)),
    ):
        net = build(text_net(layers, data=(2, SIZE)), "train")
        diffs = {top: numbers(np.random.default_rng(2), net.blobs[top].data.shape) for top in net.outputs}
        net.clear_param_diffs()
        for turn in range(3):
            net.forward()
            net.backward(**diffs)
            if turn != 1:
                record.gradients(f"{name} {turn} ", w=net.params["fc"][0].diff)


def solver(folder: str, more: str = "") -> caffe.SGDSolver:
    """A solver of a net with a large product between two small ones."""
    product = "inner_product_param {{ num_output: {} }}"
    message = text_net(
        layer("one", "InnerProduct", "data", "", product.format(SIZE))
        + layer("fc", "InnerProduct", "one", "", product.format(SIZE))
        + layer("fc_relu", "ReLU", "fc", "fc")
        + layer("two", "InnerProduct", "fc", "", product.format(3))
        + layer("sum", "Reduction", "two", "", "reduction_param { operation: SUMSQ }  loss_weight: 0.001"),
        data=(2, 5),
    )
    message.force_backward = False
    net, path = Path(folder) / "net.prototxt", Path(folder) / "solver.prototxt"
    net.write_text(text_format.MessageToString(message))
    path.write_text(
        f'train_net: "{net}" base_lr: 0.01 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed" display: 0 '
        f'snapshot_after_train: false snapshot_prefix: "{folder}/run" {more}'
    )
    found = caffe.get_solver(str(path))
    fill(found.net)
    return found


def product_learns(record: Record) -> None:
    """Steps with momentum and decay; what the gradient holds behind them; several batches a step; clipped gradients."""
    for more in ("", "iter_size: 2", "clip_gradients: 0.5", 'type: "Nesterov"', 'regularization_type: "L1"'):
        with tempfile.TemporaryDirectory() as folder:
            one = solver(folder, more)
            for step in range(3):
                one.step(1)
                record.outputs(f"{more} {step} ", loss=one.net.blobs["sum"].data)
                if step == 1:  # from then on the gradient's memory is there
                    record.gradients(f"{more} ", step=one.net.params["fc"][0].diff)
            for n, blob in enumerate(one.net.params["fc"]):
                record.outputs(f"{more} ", **{f"fc.{n}": blob.data})


def snapshot_files(record: Record) -> None:
    """The files of a snapshot: of nothing learned stock Caffe's, else what Protocol Buffers makes of them."""
    with tempfile.TemporaryDirectory() as folder:
        one = solver(folder)
        one.snapshot()
        files = {kind: Path(folder, f"run_iter_0.{kind}").read_bytes() for kind in ("caffemodel", "solverstate")}
        state = caffe_pb2.SolverState.FromString(files["solverstate"])
        assert state.learned_net == f"{folder}/run_iter_0.caffemodel"
        state.learned_net = "there"  # the folder has another name in each process
        files["solverstate"] = state.SerializeToString()
        record.outputs("bytes of ", **{kind: np.frombuffer(content, np.uint8) for kind, content in files.items()})
        one.step(3)
        one.snapshot()
        one.net.save(f"{folder}/saved")  # by Caffe's own code
        assert Path(folder, "saved").read_bytes() == Path(folder, "run_iter_3.caffemodel").read_bytes()
        content = Path(folder, "run_iter_3.solverstate").read_bytes()
        state = caffe_pb2.SolverState.FromString(content)
        assert state.SerializeToString() == content and state.iter == 3 and state.HasField("current_step")
        record.outputs("history ", **{str(n): np.array(blob.data) for n, blob in enumerate(state.history)})


CASES = {
    case.__name__: case
    for case in (
        norms_of_the_batch, norms_looked_into, products, product_gradients_add_up, product_learns, snapshot_files,
    )
}  # fmt: skip
