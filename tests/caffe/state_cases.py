"""What happens between two passes: weights, shapes and nets change, and nothing remembered may outlive them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import caffe
import numpy as np
from google.protobuf import text_format

from tests.caffe.layer_cases import FIXED, RELU_IN_PLACE, SHORTCUT, chain, convolution, lstm
from tests.caffe.running import Record, build, fill, layer, numbers, text_net

SMALL = {"data": (2, 16, 9, 9)}
WIDE = "num_output: 16 kernel_size: 3 pad: 1"
GROUPED = convolution("num_output: 32 kernel_size: 14 group: 8")
# A chain with every kind of weight that somebody could keep a copy of.
LAYERS = (
    chain("true", RELU_IN_PLACE, channels=32)
    + layer("pool", "Pooling", "conv", "", "pooling_param { kernel_size: 3 stride: 2 }")
    + layer("last", "Convolution", "pool", "", "convolution_param { num_output: 4 kernel_size: 4 group: 4 }")
)


def small(seed: int = 0, phase: str = "test") -> caffe.Net:
    return build(text_net(LAYERS, **SMALL), phase, seed)


def changed_in_place(record: Record) -> None:
    """New weights by `blob.data[...] =`, one blob after the other."""
    net = small()
    record.outputs("before ", **net.forward())
    for name, blobs in net.params.items():
        for number, blob in enumerate(blobs):
            blob.data[...] = blob.data * 1.25 + 0.01
            record.outputs(f"{name} {number} ", **net.forward())


def changed_through_a_kept_view(record: Record) -> None:
    """New weights through arrays that were taken before the first pass: Caffe is not asked for them again."""
    net = small()
    views = [blob.data for blobs in net.params.values() for blob in blobs]
    record.outputs("before ", **net.forward())
    for number, view in enumerate(views):
        view *= 1.25
        record.outputs(f"{number} ", **net.forward())


def one_number_changed(record: Record) -> None:
    """A single weight of many, the last one of its blob."""
    for name, layers, inputs in (("conv", LAYERS, SMALL), ("grouped", GROUPED, {"data": (2, 8, 14, 14)})):
        net = build(text_net(layers, **inputs), "test")
        record.outputs(f"{name} before ", **net.forward())
        net.params["conv"][0].data[-1, -1, -1, -1] += 3
        record.outputs(f"{name} behind ", **net.forward())


def shapes_changed(record: Record) -> None:
    """Other batches and other sizes, and back."""
    for phase in ("train", "test"):
        net = build(text_net(chain("true", RELU_IN_PLACE), **SMALL), phase)
        for turn, shape in enumerate(((2, 16, 9, 9), (5, 16, 9, 9), (1, 16, 12, 7), (2, 16, 9, 9))):
            net.blobs["data"].reshape(*shape)
            net.blobs["data"].data[...] = numbers(np.random.default_rng(turn), shape)
            record.pass_through(net, f"{phase} {turn} ")


def reshaped_without_a_pass(record: Record) -> None:
    """`net.reshape()` by itself, then weights changed, then a pass."""
    net = small()
    net.forward()
    net.blobs["data"].reshape(3, 16, 9, 9)
    net.reshape()
    fill(net, 3)
    record.outputs(**net.forward())


def copied_from_a_file(record: Record) -> None:
    """`copy_from` and `save` between passes."""
    one, other = small(0), small(1)
    with tempfile.TemporaryDirectory() as folder:
        other.forward()
        other.save(f"{folder}/other.caffemodel")
        record.outputs("before ", **one.forward())
        one.copy_from(f"{folder}/other.caffemodel")
        record.outputs("copied ", **one.forward())


def weights_shared(record: Record) -> None:
    """`share_with`: what changes in one net changes in the other, in TRAIN and TEST."""
    one, other = small(0, "train"), small(1, "test")
    record.outputs("apart ", **other.forward())
    other.share_with(one)
    for name in other.inputs:
        other.blobs[name].data[...] = one.blobs[name].data
    record.outputs("shared ", **other.forward())
    one.params["conv"][0].data[...] *= -1
    record.outputs("negated in the one ", **other.forward())
    record.pass_through(one, "one ")
    other.params["conv"][0].data[...] *= 2
    record.pass_through(one, "doubled in the other ")


def several_nets(record: Record) -> None:
    """Nets of equal shapes and other weights, one after the other; one is gone in between."""
    nets = [small(seed) for seed in range(3)]
    for turn in range(2):
        for number, net in enumerate(nets):
            record.outputs(f"{turn} {number} ", **net.forward())
    del nets[1], net
    nets.append(small(5))
    for number, net in enumerate(nets):
        record.outputs(f"last {number} ", **net.forward())


def read_in_the_middle(record: Record) -> None:
    """Every blob, after a pass and after a part of one."""
    for phase in ("train", "test"):
        net = small(phase=phase)
        net.forward()
        record.outputs(f"{phase} whole ", **{name: blob.data for name, blob in net.blobs.items()})
        net.blobs["data"].data[...] *= -1
        net.forward(end="scale")
        record.outputs(f"{phase} to the scale ", conv=net.blobs["conv"].data)
        net.forward(start="relu", end="pool")
        record.outputs(f"{phase} to the pool ", pool=net.blobs["pool"].data)
        record.outputs(f"{phase} to the end ", **net.forward(start="last"))


def written_in_the_middle(record: Record) -> None:
    """A blob inside the net is replaced, and the pass goes on from there."""
    for phase in ("train", "test"):
        net = small(phase=phase)
        net.forward()
        net.blobs["pool"].data[...] = numbers(np.random.default_rng(2), net.blobs["pool"].data.shape)
        record.outputs(f"{phase} ", **net.forward(start="last"))
        net.blobs["conv"].data[...] = numbers(np.random.default_rng(3), net.blobs["conv"].data.shape)
        record.outputs(f"{phase} from the pool ", **net.forward(start="pool"))


def activations_reused(record: Record) -> None:
    """Outputs and what is to be kept, of a net whose other activations give their memory to later layers."""
    for kept in ([], ["pool"]):
        net = small()
        if hasattr(net, "reuse_activations"):
            net.reuse_activations(keep=kept)
        for turn, shape in enumerate(((2, 16, 9, 9), (4, 16, 9, 9), (1, 16, 9, 9))):
            net.blobs["data"].reshape(*shape)
            net.blobs["data"].data[...] = numbers(np.random.default_rng(turn), shape)
            record.outputs(f"{kept} {turn} ", **net.forward(), **{name: net.blobs[name].data for name in kept})
            net.params["conv"][0].data[...] *= 1.5


def activations_reused_behind_a_concat_of_one(record: Record) -> None:
    """Concat of a single bottom makes no copy: what is read of its top is the bottom's memory."""
    names = [f"conv{number}" for number in range(12)]
    layers = layer("first", "Convolution", "data", "", f"convolution_param {{ {WIDE} }}") + layer(
        "cat", "Concat", "first"
    )
    for bottom, name in zip(["cat", *names[:-1]], names, strict=True):
        layers += layer(name, "Convolution", bottom, "", f"convolution_param {{ {WIDE} }}")
    layers += layer("sum", "Eltwise", f"cat {names[-1]}") + layer(
        "last", "Convolution", "sum", "", f"convolution_param {{ {WIDE} }}"
    )
    net = build(text_net(layers, **SMALL), "test")
    if hasattr(net, "reuse_activations"):
        net.reuse_activations()
    for turn in range(2):
        record.outputs(f"{turn} ", **net.forward())


def scale_learns_behind_fixed_layers(record: Record) -> None:
    """No gradient goes on from Scale to its input, but its own factors have one, which needs this input."""
    fixed = layer("conv", "Convolution", "data", "", FIXED * 2 + f"convolution_param {{ {WIDE} }}")
    norm = layer("bn", "BatchNorm", "conv", "conv", FIXED * 3 + "batch_norm_param { use_global_stats: true }")
    scale = layer("scale", "Scale", "conv", "conv", "scale_param { bias_term: true }")
    loss = layer("sum", "Reduction", "out", "", "reduction_param { operation: SUMSQ }  loss_weight: 0.01")
    for name, before in (("conv", fixed), ("norm", fixed + norm)):
        message = text_net(before + scale + RELU_IN_PLACE + convolution(WIDE, "conv", "out") + loss, **SMALL)
        message.force_backward = False
        net = build(message, "train")
        record.outputs(f"{name} ", **net.forward())
        net.clear_param_diffs()
        net.backward()
        record.parameter_gradients(net, f"{name} ")


def layers_one_by_one_after_a_chain(record: Record) -> None:
    """With a callback each layer is computed by itself: nothing that a fused pass has left may be used then."""
    net = small(phase="train")
    net.forward()
    net.before_forward(lambda layer: None)
    for name in ("scale", "bn"):
        for blob in net.params[name]:
            blob.data[...] *= 2
    record.pass_through(net)


def blob_that_outlives_its_net(record: Record) -> None:
    """Its numbers are right or refused."""
    net, same = (build(text_net(chain("true", SHORTCUT, channels=16), **SMALL), "test") for _ in range(2))
    net.forward()
    same.forward()
    blob = net.blobs["conv"]
    del net
    record.outputs(conv=_or_none(lambda: blob.data, same.blobs["conv"].data))


def views_of_a_solvers_blobs(record: Record) -> None:
    """Arrays taken before the first pass go on to show what is computed."""
    with tempfile.TemporaryDirectory() as folder:
        solver = _solver(folder, 1)
        views = {name: solver.net.blobs[name].diff for name in ("conv", "pool", "last")}
        for step in range(2):
            solver.step(1)
            record.gradients(f"{step} ", **views)


def blobs_of_a_solver(record: Record) -> None:
    """Whatever can be read of a solver's net is right: the memory of a blob that is gone must not be handed out."""
    with tempfile.TemporaryDirectory() as folder:
        net = _solver(folder, 1).net
        net.forward()
        readable = net.blobs["pool"].data.copy()
        net.backward()
        record.outputs(pool=readable, same=np.abs(_or_none(lambda: net.blobs["pool"].data, readable) - readable))
        record.parameter_gradients(net)


def _or_none(read, otherwise: np.ndarray) -> np.ndarray:
    """What `read` gives; `otherwise` where Caffe refuses with a RuntimeError."""
    try:
        return read()
    except RuntimeError:
        return otherwise


def copies_kept_in_python(record: Record) -> None:
    """Outputs of a pass that stay what they were while the next one runs."""
    net = small()
    first = {name: values.copy() for name, values in net.forward().items()}
    net.blobs["data"].data[...] += 1
    record.outputs("second ", **net.forward())
    record.outputs("first ", **first)


def gradients_add_up(record: Record) -> None:
    """Two backward passes add the gradients of the weights; those of blobs are new each time."""
    net = small(phase="train")
    diff = numbers(np.random.default_rng(0), net.blobs["last"].data.shape)
    net.clear_param_diffs()
    for turn in range(3):
        net.forward()
        net.backward(last=diff)
        record.parameter_gradients(net, f"{turn} ")
        record.gradients(f"{turn} ", data=net.blobs["data"].diff)


def backward_in_parts(record: Record) -> None:
    """`backward(start, end)`."""
    net = small(phase="train")
    net.forward()
    net.clear_param_diffs()
    net.blobs["last"].diff[...] = numbers(np.random.default_rng(0), net.blobs["last"].data.shape)
    net._backward(list(net._layer_names).index("last"), list(net._layer_names).index("pool"))
    net._backward(list(net._layer_names).index("relu"), 0)
    record.parameter_gradients(net)


def weights_shared_by_name(record: Record) -> None:
    """Two layers of one net on the same weights: the gradients of both add up in them."""
    shared = 'param { name: "w" } param { name: "b" } convolution_param { num_output: 16 kernel_size: 3 pad: 1 }'
    layers = layer("a", "Convolution", "data", "", shared) + layer("b", "Convolution", "a", "", shared)
    net = build(text_net(layers, **SMALL), "train")
    record.pass_through(net)
    net.params["a"][0].data[...] *= 0.5
    record.pass_through(net, "halved ")


def _solver(folder: str, iter_size: int, layers: str = LAYERS):
    loss = layer("sum", "Reduction", "last", "", "reduction_param { operation: SUMSQ }  loss_weight: 0.01")
    message = text_net(layers + loss, **SMALL)
    message.force_backward = False
    net, path = Path(folder) / "net.prototxt", Path(folder) / "solver.prototxt"
    net.write_text(text_format.MessageToString(message))
    path.write_text(
        f'train_net: "{net}" test_net: "{net}" test_iter: 1 test_interval: 1000 test_initialization: false type: "SGD" '
        f'base_lr: 0.01 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed" display: 0 iter_size: {iter_size} '
        f'snapshot_after_train: false snapshot_prefix: "{folder}/run"'
    )
    solver = caffe.get_solver(str(path))
    fill(solver.net)
    solver.test_nets[0].share_with(solver.net)
    solver.test_nets[0].blobs["data"].data[...] = solver.net.blobs["data"].data
    return solver


def fixed_solver(folder: str):
    """A solver whose net learns nothing but its last layer, behind a dozen fixed ones."""
    fixed = "".join(
        layer(f"conv{number}", "Convolution", bottom, "", FIXED * 2 + f"convolution_param {{ {WIDE} }}")
        for number, bottom in enumerate(["data", *(f"conv{number}" for number in range(11))])
    )
    return _solver(folder, 1, fixed + layer("last", "Convolution", "conv11", "", f"convolution_param {{ {WIDE} }}"))


def attention_solver(folder: str):
    """A solver of a net with maps of two sizes behind one another, and rows that look at both."""
    layers = (
        layer("conv1", "Convolution", "data", "", f"convolution_param {{ {WIDE} }}")
        + layer("pool", "Pooling", "conv1", "", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
        + layer("conv2", "Convolution", "pool", "", f"convolution_param {{ {WIDE} }}")
        + 'layer { name: "rows" type: "Parameter" top: "rows" parameter_param { shape { dim: 5 dim: 16 } } }\n'
        + layer("seen1", "SemanticAttention", "conv1 rows")
        + layer("seen2", "SemanticAttention", "conv2 rows")
        + layer("last", "Concat", "seen1 seen2", "", "concat_param { axis: 2 }")
    )
    return _solver(folder, 1, layers)


def solver_steps(record: Record) -> None:
    """Steps with momentum and decay; the test net has the weights of each of them."""
    for iter_size in (1, 3):
        with tempfile.TemporaryDirectory() as folder:
            solver = _solver(folder, iter_size)
            for step in range(4):
                solver.step(1)
                record.outputs(f"{iter_size} {step} test ", sum=solver.test_nets[0].forward()["sum"])
            for name, blobs in solver.net.params.items():
                record.outputs(f"{iter_size} ", **{f"{name}.{n}": blob.data for n, blob in enumerate(blobs)})


def solver_goes_on_from_a_snapshot(record: Record) -> None:
    """Weights and momentum from a file, into a solver that has made steps of its own."""
    with tempfile.TemporaryDirectory() as folder:
        solver = _solver(folder, 1)
        solver.step(2)
        solver.snapshot()
        solver.step(2)
        straight = {name: blobs[0].data.copy() for name, blobs in solver.net.params.items()}
        solver.restore(f"{folder}/run_iter_2.solverstate")
        record.outputs("restored ", sum=solver.net.forward()["sum"])
        solver.step(2)
        again = {name: blobs[0].data for name, blobs in solver.net.params.items()}
        equal = [np.array_equal(straight[name], again[name]) for name in straight]
        record.outputs("the same bits ", equal=np.array(equal, np.float32))


def _sequences(steps: int = 5, rows: int = 6) -> tuple[caffe.Net, np.ndarray]:
    """An LSTM, and where its rows begin a new path: all in the first step, some in the middle, all in one more."""
    net = build(text_net(lstm(), data=(steps, rows, 4), cont=(steps, rows)), "train")
    cont = np.ones((steps, rows), np.float32)
    cont[0], cont[2, ::2], cont[3] = 0, 0, 0
    net.blobs["cont"].data[...] = cont
    return net, cont


def sequences_begin_anywhere(record: Record) -> None:
    """What a row forgets does not come back; what it keeps goes on from pass to pass."""
    net, cont = _sequences()
    record.pass_through(net)
    net.blobs["cont"].data[...] = 1 - cont
    record.pass_through(net, "goes on ")
    net.blobs["cont"].data[...] = 0
    record.pass_through(net, "remembers nothing ")


def sequences_of_other_sizes(record: Record) -> None:
    """More rows and fewer."""
    net, _ = _sequences()
    for rows in (6, 9, 2, 6):
        for blob in net.inputs:
            net.blobs[blob].reshape(5, rows, *net.blobs[blob].data.shape[2:])
        net.reshape()
        fill(net, rows)
        net.blobs["cont"].data[0] = 0
        record.pass_through(net, f"{rows} ")


def gradients_of_sequences_add_up(record: Record) -> None:
    """Of two backward passes behind one forward pass."""
    net, _ = _sequences()
    net.forward()
    net.clear_param_diffs()
    for turn in range(3):
        net.backward(lstm=numbers(np.random.default_rng(turn), net.blobs["lstm"].data.shape))
        record.parameter_gradients(net, f"{turn} ")
        record.gradients(f"{turn} ", data=net.blobs["data"].diff)


def solver_steps_over_sequences(record: Record) -> None:
    """Weights that learn, and the net for tests that shares them."""
    layers = (
        layer("conv", "Convolution", "data", "", f"convolution_param {{ {WIDE} }}")
        + layer("cont", "Input", "", "cont", "input_param { shape { dim: 2 dim: 16 } }")
        + lstm("conv cont", "last", width=8)
    )
    for iter_size in (1, 3):
        with tempfile.TemporaryDirectory() as folder:
            solver = _solver(folder, iter_size, layers)
            for net in (solver.net, solver.test_nets[0]):
                net.blobs["cont"].data[...] = np.arange(32).reshape(2, 16) % 3 > 0
            for step in range(4):
                solver.step(1)
                record.outputs(f"{iter_size} {step} test ", sum=solver.test_nets[0].forward()["sum"])
            for name, blobs in solver.net.params.items():
                record.outputs(f"{iter_size} ", **{f"{name}.{n}": blob.data for n, blob in enumerate(blobs)})


CASES = {
    case.__name__: case
    for case in (
        changed_in_place, changed_through_a_kept_view, one_number_changed, shapes_changed, reshaped_without_a_pass,
        copied_from_a_file, weights_shared, several_nets, read_in_the_middle, written_in_the_middle, activations_reused,
        activations_reused_behind_a_concat_of_one, scale_learns_behind_fixed_layers, layers_one_by_one_after_a_chain,
        blob_that_outlives_its_net, views_of_a_solvers_blobs,
        blobs_of_a_solver, copies_kept_in_python, gradients_add_up, backward_in_parts, weights_shared_by_name,
        solver_steps, solver_goes_on_from_a_snapshot, sequences_begin_anywhere, sequences_of_other_sizes,
        gradients_of_sequences_add_up, solver_steps_over_sequences,
    )
}  # fmt: skip
