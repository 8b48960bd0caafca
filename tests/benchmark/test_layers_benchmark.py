"""Layers one by one: that parts of a pass compute what a whole pass computes, that all layers are in a row, sums."""

import dataclasses
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from pysrn.benchmark import speed
from pysrn.benchmark.contender import CAFFE, OPENVINO, TORCH
from pysrn.benchmark.layers import figures
from pysrn.benchmark.layers.rows import BEFORE, UPDATE, Row, block_of, rows_of, sum_by_row
from pysrn.benchmark.layers.timeline import Timeline
from pysrn.benchmark.limit import COPY_BYTES, COUNTED, PRODUCT_OPERATIONS, passes
from pysrn.benchmark.plan import Plan
from tools import benchmark

pytest.importorskip("torch")
pytest.importorskip("caffe")
SHORT = {"trunk": "resnet14", "rounds": 2, "threads": 1, "round_seconds": 0.01}


@pytest.fixture(scope="module")
def step_job(tmp_path_factory):
    return dataclasses.replace(
        speed.material(Plan("step", batch=1, **SHORT), tmp_path_factory.mktemp("step")), layers=True
    )


@pytest.fixture(scope="module")
def inference_job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference")
    return dataclasses.replace(speed.material(Plan("inference", batch=1, **SHORT), folder), layers=True)


def test_parts_of_a_step_change_the_weights_as_a_step_does(step_job):
    """Bit for bit: the parts cut no chain of layers that are computed as one."""
    from pysrn.benchmark.layers.caffe_layers import make_worker

    apart, whole = make_worker(step_job), make_worker(step_job)
    before = {name: blobs[0].data.copy() for name, blobs in apart.solver.net.params.items()}
    told = apart.parts()
    whole.once()
    changed = 0
    for name, blobs in whole.solver.net.params.items():
        for mine, other in zip(apart.solver.net.params[name], blobs, strict=True):
            assert mine.data.tobytes() == other.data.tobytes(), name
        changed += before[name].tobytes() != blobs[0].data.tobytes()
    assert changed > 20
    rows = [row.name for row in rows_of(whole.solver.net)]
    assert [name for name, _ in told] == [BEFORE, *rows, *reversed(rows), UPDATE]


def test_parts_of_inference_compute_what_a_pass_computes(inference_job):
    from pysrn.benchmark.layers.caffe_layers import make_worker
    from pysrn.benchmark.sides.caffe_side import Inference

    job = dataclasses.replace(inference_job, folded=True)
    apart = make_worker(job)
    for name in apart._deploy.scores:
        apart._deploy.net.blobs[name].data[...] = np.nan
    apart.parts()
    expected = Inference(job).check()
    for name in apart._deploy.scores:
        assert apart._deploy.net.blobs[name].data.tobytes() == expected[name].tobytes()


def test_every_layer_and_every_operation_is_in_one_row(inference_job):
    from pysrn.benchmark.layers.caffe_layers import make_worker

    net = make_worker(inference_job)._deploy.net
    rows = rows_of(net)
    assert [name for row in rows for name in row.layers] == list(net._layer_names)
    assert [number for row in rows for number in range(row.first, row.last + 1)] == list(range(len(net.layers)))
    counted = [layer.type in COUNTED for layer in net.layers]
    assert not any(counted[: rows[0].last + 1]) and rows[0].name == BEFORE
    for row in rows[1:]:
        assert counted[row.first] and not any(counted[row.first + 1 : row.last + 1])
    assert {one.layer for one in passes(net)} == {row.name for row in rows[1:]}


def test_rows_begin_where_memory_allows_it():
    """A blob that shares its memory is gone behind the pass that made it."""
    blobs = {name: SimpleNamespace(_pooled_data=name == "a") for name in ("data", "a", "b")}
    net = SimpleNamespace(
        _layer_names=["data", "one", "two", "three"],
        layers=[SimpleNamespace(type=kind) for kind in ("Input", "Convolution", "Convolution", "Convolution")],
        bottom_names={"data": [], "one": ["data"], "two": ["a"], "three": ["b"]},
        top_names={"data": ["data"], "one": ["a"], "two": ["b"], "three": ["c"]},
        blobs=blobs,
    )
    assert [row.layers for row in rows_of(net)] == [("data",), ("one", "two"), ("three",)]


def test_every_moment_of_pytorchs_pass_is_some_layers(step_job):
    from pysrn.benchmark.layers.torch_layers import make_worker

    worker = make_worker(dataclasses.replace(step_job, framework=TORCH))
    worker.once()
    started = time.perf_counter()
    told = worker.parts()
    took = time.perf_counter() - started
    assert 0.5 * took < sum(seconds for _, seconds in told) < took
    names = [name for name, _ in told]
    half = names.index("sr_fc")
    forward, backward = names[:half], names[half + 1 :]
    assert names[0] == BEFORE and backward[-1] == UPDATE
    convolutions = {name for name in names if name.startswith(("conv1", "res", "att_conv", "sr_conv"))}
    assert len(convolutions) > 20 and convolutions <= set(forward) & set(backward)
    assert backward.index("sr_conv4") < backward.index("att_conv1") < backward.index("res2a_branch2a")
    assert not worker._model.trunk.conv1._forward_hooks


def test_a_slow_layer_is_where_the_time_is(step_job):
    """Forward and backward of one PyTorch layer are held up, and its row alone has that time."""
    import torch

    from pysrn.benchmark.layers.torch_layers import make_worker

    worker, wait = make_worker(dataclasses.replace(step_job, framework=TORCH)), 0.5

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            time.sleep(wait)
            return values.clone()

        @staticmethod
        def backward(context, gradient):
            time.sleep(wait)
            return gradient

    layer = worker._model.trunk.res4.res4a.branch1
    plain = layer.forward
    layer.forward = lambda values: Slow.apply(plain(values))
    worker.once()
    found = {}
    for name, seconds in worker.parts():
        found[name] = found.get(name, 0.0) + seconds
    assert found["res4a_branch1"] > 2 * wait
    assert max(seconds for name, seconds in found.items() if name.startswith("res") and name != "res4a_branch1") < wait


def test_times_of_unknown_layers_belong_to_what_came_before():
    rows = [Row(BEFORE, 0, 0, ("data",)), Row("a", 1, 2, ("a", "a_relu"), ("a",)), Row("b", 3, 3, ("b",), ("score",))]
    told = [("copy", 1), ("a", 2), ("a_relu", 4), ("reorder", 8), ("score", 16), ("a", 32), (UPDATE, 64), ("x", 128)]
    assert sum_by_row(told, rows) == {BEFORE: 1, "a": 46, "b": 16, UPDATE: 192}
    assert sum(sum_by_row(told, rows).values()) == 255


def test_nodes_of_openvino_are_layers_of_caffe(inference_job):
    layers = ("conv1", "res2a_branch2a", "res4b1_branch2c", "att_conv3", "cls_fc")
    rows = [Row(name, 0, 0, (name,), ("score_cls",) if name == "cls_fc" else ()) for name in layers]
    job = dataclasses.replace(inference_job, framework=OPENVINO)
    nodes = {
        "images_abcd_acdb_/trunk/conv1/Conv/WithoutBiases": "conv1",
        "/trunk/res2/res2a/branch2a/Conv/WithoutBiases": "res2a_branch2a",
        "/trunk/res4/res4b1/branch2c/Conv": "res4b1_branch2c",
        "/att_conv3/Conv/WithoutBiases_acdb_abcd_/Reshape": "att_conv3",
        "score_cls": "score_cls",
        "/trunk/res2/res2a/Relu": "/trunk/res2/res2a/Relu",
    }
    told = figures.as_caffe_has_it([(node, 1.0) for node in nodes], job, rows)
    assert [name for name, _ in told] == list(nodes.values())
    assert sum_by_row(told, rows)["cls_fc"] == 2  # the blob is its row's, and nobody knows what comes last
    assert figures.as_caffe_has_it([("x", 1.0)], dataclasses.replace(job, framework=CAFFE), rows) == [("x", 1.0)]


def test_blocks():
    assert [block_of(name) for name in ("res4b22_branch2a", "conv1", "att_conv3")] == ["res4b22", "conv1", "att"]


def test_a_timeline_has_all_of_the_time():
    started = time.perf_counter()
    timeline = Timeline("first")
    for name in ("second", "third"):
        time.sleep(0.01)
        timeline.begin(name)
    told = timeline.end()
    assert [name for name, _ in told] == ["first", "second", "third"]
    assert sum(seconds for _, seconds in told) <= time.perf_counter() - started
    assert all(seconds >= 0.01 for _, seconds in told[:2]) and told[2][1] < 0.01


def test_the_command_prints_blocks_that_add_up(tmp_path, capsys):
    words = ["layers", "--of", "inference", "--batch", "1", "--trunk", "resnet14", "--rounds", "2", "--threads", "1"]
    words += ["--no-limit", "--formats", "contiguous", "--json", str(tmp_path / "found.json")]
    assert benchmark.main(words) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())["layers, inference"]
    assert {"ours", "PyTorch, folded"} == set(found["whole"]) == set(found["agreement"])
    rows, blocks = found["rows"], figures.by_block(found["rows"])
    assert len(blocks) < len(rows)
    for key in ("operations", "bytes"):
        assert sum(row[key] for row in rows) == sum(block[key] for block in blocks) > 1e6
    for block in ("conv1", "res2a", "att", "sr", "a whole pass"):
        assert f"  {block} " in said
    # Loose: the machine may be busy.
    for name, whole in found["whole"].items():
        assert 0.1 < sum(row["seconds"][name] for row in rows) / whole < 10, name


def test_a_rows_limit_is_that_of_its_passes():
    row = Row("a", 1, 2, ("a", "a_relu"))
    work = [{"layer": name, "operations": 2e9, "bytes": 1} for name in ("a", "b", "a")]
    speed = [PRODUCT_OPERATIONS / 1e9], [COPY_BYTES / 1e9]
    found = figures._figures(row, {"ours": [{"a": 1.0}, {"a": 3.0}, {"a": 8.0}]}, work, speed)
    assert (found["operations"], found["bytes"], found["limit_seconds"]) == (4e9, 2, pytest.approx(4.0))
    assert found["seconds"] == {"ours": 3.0} and figures._figures(row, {}, work, ())["limit_seconds"] == 0
    plan = {"part": "inference", "trunk": "t", "dataset": "d", "batch": 1, "threads": 1, "rounds": 3}
    lines = figures.report_lines({"plan": plan, "rows": [found], "whole": {"ours": 3.5}})
    assert lines[2].split() == ["a", "3000.000", "100.0%", "4.00", "0.0", "4000.000", "133%"]
