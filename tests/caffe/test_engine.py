"""The switch, and every part of the engine alone and all together against stock Caffe."""

import subprocess
import sys

import numpy as np
import pytest

from tests.caffe import engine, large_cases, layer_cases, net_cases, state_cases
from tests.caffe.comparing import (
    LUCK,
    OUTPUT_TOLERANCE,
    allowed_gradient_difference,
    gradient_difference,
    output_difference,
)

SETTINGS = (*engine.PARTS, engine.ALL)
SOME = (engine.STOCK, engine.ALL)
LARGE = ("large", "elementwise,large")  # the second part is what BatchNorm needs
SAME_GRADIENT = 1e-5  # assumed: relative L2, ten times what BLAS kernels differ by in these small nets
HEADS = ("att_", "conf_", "sr_")


def judge(results, case: str, setting: str, bar_of: tuple[str, ...] = ()) -> None:
    """Fail with the figures unless a setting computes what stock Caffe does.

    `bar_of`: whole nets, where a gradient may differ by luck; the bar is that of the worst of these cases.
    """
    if setting not in results:
        pytest.skip(f"this Caffe has no part {setting}")
    stock = results[engine.STOCK].numbers[case]
    assert case not in results[setting].failures, results[setting].failures[case]
    found = results[setting].numbers[case]
    assert set(found) == set(stock)
    outputs = output_difference(stock, found)
    wrong = {name: difference for name, difference in outputs.items() if difference > OUTPUT_TOLERANCE}
    assert not wrong, f"outputs differ: {wrong}"
    stocks = [result for name, result in results.items() if name == engine.STOCK or name.startswith("kernel")]
    bars = [allowed_gradient_difference([result.numbers[one] for result in stocks]) for one in bar_of or (case,)]
    allowed, difference = max(bars) * (LUCK if bar_of else 1), gradient_difference(stock, found)
    assert difference <= allowed, (
        f"gradients differ by {difference:.1e}; BLAS kernels among themselves by {allowed:.1e}"
    )


def test_the_switch(parts):
    assert set(parts) <= set(engine.PARTS) and parts
    assert engine.engine_parts(engine.STOCK) == []
    for part in parts:
        assert engine.engine_parts(part) == [part]
    assert sorted(engine.engine_parts(",".join(parts[:2]))) == sorted(parts[:2])
    assert engine.engine_parts("all") == engine.engine_parts(engine.ALL)


def test_what_no_device_has_run_has_to_be_asked_for(parts):
    unseen = {"device", "measured"}
    assert not unseen.intersection(parts)
    asked = engine.engine_parts(",".join(["all", *sorted(unseen)]))
    assert set(asked) - set(parts) <= unseen and set(parts) <= set(asked)


def test_a_misspelled_part_is_an_error(parts):
    a_net = "from tests.caffe.running import *; build(text_net(layer('r', 'ReLU', 'data'), data=(1, 2)), 'test')"
    command = [sys.executable, "-c", a_net]
    done = subprocess.run(command, capture_output=True, text=True, cwd=engine.ROOT, env=engine.environment("onednm"))
    assert done.returncode != 0 and "onednm" in done.stderr


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", layer_cases.CASES)
def test_layers(case, setting, computed):
    judge(computed("layer_cases", tuple(layer_cases.CASES)), case, setting)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", state_cases.CASES)
def test_what_happens_between_passes(case, setting, computed):
    judge(computed("state_cases", tuple(state_cases.CASES)), case, setting)


@pytest.mark.parametrize("setting", [*LARGE, engine.ALL])
@pytest.mark.parametrize("case", large_cases.CASES)
def test_large_nets(case, setting, computed):
    judge(computed("large_cases", tuple(large_cases.CASES), chosen=LARGE), case, setting)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", net_cases.FEW)
def test_nets(case, setting, computed):
    judge(computed("net_cases", net_cases.FEW, ("paper", "released")), case, setting, net_cases.FEW)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", sorted(set(net_cases.CASES) - set(net_cases.FEW)))
def test_all_nets(case, setting, computed):
    """ResNet-101 among them; the bar is that of the same net."""
    net = case.partition("_stage")[0].partition("_deploy")[0]
    same = tuple(one for one in net_cases.CASES if one.partition("_stage")[0].partition("_deploy")[0] == net)
    judge(computed("net_cases", tuple(net_cases.CASES), tuple(net_cases.NETS)), case, setting, same)


@pytest.mark.parametrize("net", ["paper", "released"])
def test_gradients_of_the_heads_are_of_the_size_of_training(net, computed):
    numbers = computed("net_cases", net_cases.FEW, ("paper", "released"))[engine.STOCK].numbers[f"{net}_stage_4"]
    first = "gradient/0 "
    sizes = {
        name: np.abs(values).max()
        for name, values in numbers.items()
        if name.removeprefix(first).startswith(HEADS) and name.endswith(".0")
    }
    assert len(sizes) >= 7 and min(sizes.values()) > 1e-3, sizes


def test_a_pass_that_begins_with_shared_memory_is_an_error(parts):
    """The fixed layers of a solver's net share: what one of them reads is another's by the end of a pass."""
    if "memory" not in parts:
        pytest.skip("this Caffe has no part memory")
    program = (
        "import tempfile; from tests.caffe.state_cases import *; solver = fixed_solver(tempfile.mkdtemp()); "
        "solver.net.forward(); solver.net.forward(start='last'); solver.net.forward(start='conv3')"
    )
    command = [sys.executable, "-c", program]
    for setting, expected in (("onednn", ""), (engine.ALL, "Layer conv3 reads blob conv2, which shares its memory")):
        done = subprocess.run(command, capture_output=True, text=True, cwd=engine.ROOT, env=engine.environment(setting))
        assert (done.returncode != 0) == bool(expected) and expected in done.stderr, done.stderr


@pytest.mark.parametrize("instructions", ["AVX2", "SSE41"])
def test_machines_with_other_vectors(instructions, parts, tmp_path, monkeypatch):
    """Without AVX-512 oneDNN's layout has blocks of 8 channels."""
    if "onednn" not in parts:
        pytest.skip("this Caffe has no part onednn")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", instructions)
    for module, cases in (
        (
            "layer_cases",
            (
                "in_blocks_train",
                "in_blocks_test",
                "chain_residual_in_blocks_train",
                "chain_7x7_residual_in_blocks_test",
                "chain_1x1_residual_many_channels_test",
            ),
        ),
        ("state_cases", ("shapes_changed", "solver_steps", "read_in_the_middle")),
    ):
        stock, found = (engine.run_cases(tmp_path / f"{module} {one}", module, cases, one) for one in SOME)
        assert not found.failures
        for case in cases:
            differences = output_difference(stock.numbers[case], found.numbers[case])
            assert max(differences.values()) <= OUTPUT_TOLERANCE, differences
            assert gradient_difference(stock.numbers[case], found.numbers[case]) <= SAME_GRADIENT


def test_no_layer_starts_threads_within_a_region(parts, tmp_path):
    """OpenMP keeps the threads of the outermost region alone; those of one within it are started in every call."""
    told = {"OMP_DISPLAY_AFFINITY": "true", "OMP_AFFINITY_FORMAT": "region of depth %L"}
    command = [sys.executable, "-m", "tests.caffe.running", str(tmp_path), "layer_cases", *layer_cases.CASES]
    options = {"capture_output": True, "text": True, "cwd": engine.ROOT}
    done = subprocess.run(command, env=engine.environment(engine.ALL) | told, **options)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "region of depth 1" in said, said
    assert "region of depth 2" not in said


def test_chains_without_the_kernels_of_single_layers(parts, tmp_path):
    """`fusion` without `elementwise`: where a chain is computed in parts, the layers are stock Caffe's."""
    cases = ("backward_in_parts", "scale_learns_behind_fixed_layers", "layers_one_by_one_after_a_chain")
    stock, found = (
        engine.run_cases(tmp_path / one, "state_cases", cases, one) for one in (engine.STOCK, "onednn,fusion")
    )
    assert not found.failures
    for case in cases:
        assert gradient_difference(stock.numbers[case], found.numbers[case]) <= SAME_GRADIENT


def test_the_same_bits_again(parts, tmp_path):
    """With as many threads, all parts together compute the same twice."""
    cases = ("chain_residual_train", "conv_14x14_grouped_train", "bn_of_the_batch_train", "pool_max_train")
    one, two = (engine.run_cases(tmp_path / name, "layer_cases", cases, engine.ALL) for name in ("one", "two"))
    assert not one.failures
    for case in cases:
        for name, values in one.numbers[case].items():
            np.testing.assert_array_equal(two.numbers[case][name], values, err_msg=f"{case} {name}")
