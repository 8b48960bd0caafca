"""tools/gpu_check.py on the CPU: it measures what it says and sees what is wrong. Figures of a GPU it cannot give."""

import json
import math
import subprocess
import sys
from importlib.metadata import packages_distributions

import numpy as np
import pytest

from docker.bundle.parts import NOT_LEAN
from pysrn.benchmark.gpu import check as gpu_check
from pysrn.benchmark.gpu import layers as gpu_layers
from pysrn.benchmark.gpu import losses as gpu_losses
from pysrn.benchmark.gpu import runner as gpu_runner
from pysrn.systems.srn.system import SYSTEM
from pysrn.systems.stage_nets import DataSource, stage_net
from pysrn.train import launch
from tools import gpu_check as tool


def test_layers_on_the_cpu_against_themselves(tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert tool.main(["--cpu", "--small", "--only", "layers", "--json", str(out)]) == 0
    layers = json.loads(out.read_text())["results"]["layers"]
    nets = (stage_net(SYSTEM.recipe("coco", variant), SYSTEM.last_stage, DataSource("")) for variant in SYSTEM.variants)
    types = {layer.type for net in nets for layer in net.layer}
    assert {entry["type"] for entry in layers.values()} == types - gpu_layers.WITHOUT_ARITHMETIC
    assert all(set(entry["differences"].values()) == {0.0} for entry in layers.values())
    groups = layers["paper/sr_conv4"]
    assert set(groups["differences"]) == {"top0", "d_bottom0", "d_weight0", "d_weight1"}
    assert "Convolution" in capsys.readouterr().out


def test_the_outputs_are_those_of_the_layer():
    """An inner product against NumPy: data and gradients are not empty arrays that agree."""
    layer, shapes = gpu_layers.layer_kinds(SYSTEM, "resnet14", 2)["paper/cls_fc"]
    found = gpu_layers.run(layer, shapes, None)
    random = np.random.default_rng(0)
    weight, bias = random.normal(0, 0.1, (80, shapes[0][1])), random.normal(0, 0.1, 80)
    bottom, top_diff = random.normal(0, 1, (2, shapes[0][1])), random.normal(0, 1, (2, 80))
    for name, expected in {
        "top0": bottom @ weight.T + bias,
        "d_bottom0": top_diff @ weight,
        "d_weight0": top_diff.T @ bottom,
        "d_weight1": top_diff.sum(0),
    }.items():
        assert gpu_layers.difference(expected, found[name].reshape(expected.shape)) < 1e-5, name


def test_first_steps_are_compared_and_move_the_weights():
    found = gpu_losses.compare("srn", "resnet14", SYSTEM.last_stage, 2, None, 3)
    assert found["loss"] == found["gradient"] == 0 and found["cpu"] == found["here"]
    assert len(found["cpu"]) == 3 and all(len(set(one)) == 3 for one in zip(*found["cpu"], strict=True))


def test_the_worst_gradient_counts():
    rest, other = np.float32([3e-7, 0]), np.float32([0, 3e-7])  # of a sum that cancels out, in other orders
    expected = {"a": [np.float32([3, 4]), rest], "b": [np.float32([1, 0])]}
    found = {"a": [np.float32([3, 4.5]), other], "b": [np.float32([1, 0.01])]}
    assert gpu_losses.worst(expected, found) == pytest.approx(0.1)
    assert gpu_losses.worst(expected, found | {"a": [expected["a"][0], np.float32([0, 1e-6])]}) > 0.15  # no rest
    assert math.isnan(gpu_losses.worst(expected, found | {"b": [np.float32([np.nan, 0])]}))


@pytest.mark.parametrize("name", ["loss", "gradient"])
@pytest.mark.parametrize(("value", "expected"), [(0.9e-3, False), (1.1e-3, True), (math.nan, True)])
def test_steps_that_differ_are_wrong(name, value, expected):
    assert gpu_check.wrong("steps", {"loss": 0.0, "gradient": 0.0, name: value}) is expected


def test_where_the_time_goes_is_told_by_type(tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert tool.main(["--cpu", "--small", "--only", "profile", "--json", str(out)]) == 0
    ((name, found),) = json.loads(out.read_text())["results"].items()
    seconds = found["profile"]
    assert list(seconds.values()) == sorted(seconds.values(), reverse=True) and min(seconds.values()) > 0
    assert next(iter(seconds)) == "Convolution" and f"{name}, layer by layer: Convolution" in capsys.readouterr().out


def test_two_ranks_do_what_one_process_does(tmp_path, capsys):
    """The exchange of training, on one device: here the CPU."""
    pytest.importorskip("mpi4py", exc_type=ImportError)
    out = tmp_path / "figures.json"
    assert tool.main(["--cpu", "--small", "--only", "ranks", "--json", str(out)]) == 0
    (found,) = json.loads(out.read_text())["results"].values()
    assert found["exchange"] == "MPI" and "(exchanged by MPI)" in capsys.readouterr().out
    assert 0 < found["gradient"] < 1e-4 and 0 <= found["loss"] < 1e-4  # other sums: not the same bits
    assert len(found["one"]) == len(found["ranks"]) == 2 and found["one"][0] != found["one"][1]


@pytest.mark.parametrize("lacks", ["mpi4py", "mpiexec"])
def test_without_mpi_ranks_are_told_to_be_missing(lacks, tmp_path, monkeypatch):
    if lacks == "mpi4py":
        monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    else:
        pytest.importorskip("mpi4py", exc_type=ImportError)
        monkeypatch.setattr(launch.shutil, "which", lambda name, path: None)
    missing = gpu_check.Runner(gpu_check.Plan(None), tmp_path).ranks({})
    assert lacks in missing["missing"] and not gpu_check.wrong("ranks", missing)


def test_a_rank_that_fails_is_told(tmp_path):
    pytest.importorskip("mpi4py", exc_type=ImportError)
    failed = gpu_check.Runner(gpu_check.Plan(None), tmp_path).ranks({"system": "none"})
    assert "exit code" in failed["failed"] and gpu_check.wrong("ranks", failed)


def test_what_matters_most_comes_first_and_nothing_is_left_out(tmp_path):
    """Without any time: every measurement is told, in its order, and not run."""
    results = dict(gpu_check.check(gpu_check.Plan(0, limit=0), tmp_path))
    assert all(result.get("failed") == "not run: the time is over" for result in results.values())
    order = (
        "layers",
        "10 steps against the CPU's, SRN",
        "10 steps of 2 ranks on one device",
        "step, stage 4, batch 32",
        "sr_conv4 alone",
        "kernels, stage 4",
        "PyTorch's step, batch 32",
        "10 steps against the CPU's, MSRN",
        "PyTorch's step, compiled",
        "profile",
        "training, stage 1",
    )
    names = list(results)
    first = [next(number for number, name in enumerate(names) if name.startswith(one)) for one in order]
    assert first == sorted(first) and first[0] == 0
    for engine in ("one pass a chain", "one pass a chain, measured algorithms"):
        assert {
            f"step, stage 4, batch 32, TF32, {engine}",
            f"10 steps against the CPU's, SRN, stage 4, {engine}",
        } <= set(names)
    assert sum("measured algorithms" in name for name in names) == 3  # trying takes long


@pytest.mark.parametrize(("value", "expected"), [(0.9e-3, False), (1.1e-3, True), (math.nan, True)])
def test_a_layer_that_differs_is_wrong(value, expected):
    layers = {"conv1": {"type": "Convolution", "differences": {"top0": 0.0, "d_bottom0": value}}}
    assert gpu_check.wrong("layers", layers) is expected


def test_a_measurement_that_fails_is_reported_with_its_last_words(tmp_path):
    runner = gpu_check.Runner(gpu_check.Plan(None), tmp_path)
    failed = runner.measure("layers", {"system": "srn", "trunk": "no such trunk", "batch_size": 2, "gpu": None})
    assert "exit code 1: KeyError: 'no such trunk'" in failed["failed"] and gpu_check.wrong("layers", failed)
    assert "failed" in gpu_check.Runner(gpu_check.Plan(None, limit=0), tmp_path).measure("layers", {})


@pytest.mark.parametrize(
    ("words", "lacks"),
    [("the Python package cv2 is not installed", True), ("out of memory", True), ("Check failed: cv2", False)],
)
def test_what_this_machine_lacks_is_no_error(words, lacks):
    assert ("missing" in gpu_runner._lacking({"failed": f"exit code 3: error: {words}"})) is lacks


def test_a_python_without_pytorch_is_no_error(tmp_path):
    """A real one: this Python without its site-packages."""
    lean = tmp_path / "python"
    lean.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    lean.chmod(0o755)
    missing = gpu_check.Runner(gpu_check.Plan(None), tmp_path).measure("torch_steps", {}, python=str(lean))
    assert "No module named 'torch'" in missing["missing"] and not gpu_check.wrong("PyTorch's step", missing)
    assert "missing" in gpu_check.line("PyTorch's step", missing)


@pytest.mark.parametrize(
    "work",
    [
        "gpu.layers import layer_kinds; layer_kinds(system_named(None), 'resnet14', 2)",
        "gpu.losses import compare; compare('srn', 'resnet14', 4, 2, None, 1)",
        "gpu.steps import profile; profile('srn', 'resnet14', 4, 2, None, 1, None)",
        "gpu.kernels import profile; profile('srn', 'resnet14', 4, 2, None, 1)",
        "gpu.losses import comparable; import pysrn.benchmark.gpu.ranks, pysrn.train.stage.parallel",
        "gpu.check import check",
    ],
)
def test_nothing_needs_what_a_lean_bundle_has_not(work):
    modules = {name for name, owners in packages_distributions().items() if NOT_LEAN & {one.lower() for one in owners}}
    assert {"cv2", "PIL", "matplotlib"} <= modules
    blocked = f"import sys; sys.modules.update(dict.fromkeys({sorted(modules)}))"  # an import of these fails
    script = f"{blocked}; from pysrn.systems.registry import system_named; from pysrn.benchmark.{work}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
