"""The layer `SemanticAttention` in C++ and in Python against its definition in float64, with every kind of vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest
import torch

from tests.caffe import engine
from tests.caffe.attention_cases import NO_NUMBERS, SHAPES, WRONG, inputs, wrong_inputs

TOLERANCE = 1e-5  # of the greatest number of a blob
FLOOR = 1e-9  # below which a blob counts as zeros: a variance of equal numbers, in float64
# Kind of vectors -> what the processor must have for it.
VECTORS = {"avx512": "avx512vl", "avx2": "avx2", "baseline": "sse2"}


@pytest.fixture(scope="session")
def run_child(tmp_path_factory):
    """A function (case, variables) -> what the case recorded; the layer's cases skip where Caffe has no such layer."""
    kept: dict = {}

    def run(case: str, **variables: str) -> dict[str, np.ndarray]:
        if case.endswith("_layer"):
            need_layer()
        key = case, *sorted(variables.items())
        if key not in kept:
            folder = tmp_path_factory.mktemp("attention")
            command = [sys.executable, "-m", "tests.caffe.running", str(folder), "attention_cases", case]
            child = engine.environment(engine.ALL) | variables
            done = subprocess.run(command, cwd=engine.ROOT, env=child, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-1500:]
            with np.load(folder / f"{case}.npz") as stored:
                kept[key] = dict(stored)
        return kept[key]

    return run


def need_layer() -> None:
    if "SemanticAttention" not in caffe.layer_type_list():
        pytest.skip("this Caffe was built before it had the layer SemanticAttention")


def need_vectors(vectors: str) -> None:
    if VECTORS[vectors] not in Path("/proc/cpuinfo").read_text(encoding="ascii").split():
        pytest.skip(f"this processor has no {vectors}")


def definition(features: np.ndarray, rows: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    """Softmax over positions, in PyTorch's float64, and what its autograd says."""
    f, e = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (features, rows))
    maps = f.flatten(2)[:, None]
    out = (torch.softmax(e[None, :, :, None] * maps, dim=-1) * maps).sum(-1)
    out.backward(torch.tensor(gradient, dtype=torch.float64))
    return {"out": out.detach().numpy(), "features": f.grad.numpy(), "rows": e.grad.numpy()}


@pytest.fixture(scope="session")
def expected() -> list[dict[str, np.ndarray]]:
    return [definition(*inputs(number)) for number in range(SHAPES)]


def judge(found: dict[str, np.ndarray], expected: list[dict[str, np.ndarray]]) -> None:
    assert len(found) == 3 * SHAPES
    wrong = {}
    for number, blobs in enumerate(expected):
        for name, values in blobs.items():
            difference = np.abs(found[f"{number} {name}"] - values).max()
            if not difference <= TOLERANCE * np.abs(values).max() + FLOOR:
                wrong[f"{number} {name}"] = difference / np.abs(values).max()
    assert not wrong


@pytest.mark.parametrize("vectors", VECTORS)
def test_the_layer_computes_its_definition(vectors, run_child, expected):
    need_vectors(vectors)
    judge(run_child("random_shapes_layer", CAFFE_VECTORS=vectors), expected)


def test_the_twin_computes_its_definition(run_child, expected):
    judge(run_child("random_shapes_twin"), expected)


@pytest.mark.parametrize("vectors", VECTORS)
def test_results_do_not_depend_on_threads(vectors, run_child):
    assert engine.THREADS == 2
    need_vectors(vectors)
    one = run_child("random_shapes_layer", CAFFE_VECTORS=vectors, OMP_NUM_THREADS="1")
    two = run_child("random_shapes_layer", CAFFE_VECTORS=vectors)
    for name, values in one.items():
        assert two[name].tobytes() == values.tobytes(), name


def test_training_with_shared_memory(run_child):
    """Where gradients share their memory the layer reads and writes the right ones."""
    stock, shared = (run_child("steps_layer", CAFFE_ENGINE=parts) for parts in ("stock", "memory"))
    assert set(stock) == {"conv1.0", "conv1.1", "conv2.0", "conv2.1", "rows.0"}
    for name, values in stock.items():
        np.testing.assert_array_equal(shared[name], values, err_msg=name)


@pytest.mark.parametrize("kind", ["layer", "twin"])
def test_no_number_stays_none(kind, run_child):
    """NaN and infinity are in all that they belong to, as the definition says, and in nothing else."""
    found = run_child(f"no_numbers_{kind}")
    for number, place in WRONG:
        lost = np.isnan if np.isnan(NO_NUMBERS[number]) else lambda values: ~np.isfinite(values)
        for name, values in definition(*wrong_inputs(number, place)).items():
            key = f"{number} {place} {name}"
            np.testing.assert_array_equal(lost(found[key]), lost(values), err_msg=key)


@pytest.mark.parametrize("kind", ["layer", "twin"])
@pytest.mark.parametrize("rows", [(3, 5), (3, 4, 1), (0, 4)])
def test_bottoms_that_do_not_fit(kind, rows):
    """Caffe ends the program, Python raises; both say the shapes."""
    if kind == "layer":
        need_layer()
    program = (
        "from tests.caffe.attention_cases import *; "
        f"build(text_net(LAYERS['{kind}'], features=(1, 4, 2, 2), rows={rows}), 'train')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=engine.ROOT,
        env=engine.environment(engine.ALL),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "SemanticAttention wants" in done.stderr, done.stderr[-500:]


def test_misspelled_vectors_are_an_error(run_child):
    need_layer()
    with pytest.raises(AssertionError, match="CAFFE_VECTORS=avx3: this machine has baseline"):
        run_child("no_numbers_layer", CAFFE_VECTORS="avx3")
