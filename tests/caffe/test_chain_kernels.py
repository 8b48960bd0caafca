"""The device's kernels of CAFFE_ENGINE's part `device`, run on the host over all blocks and threads, against NumPy."""

import ctypes
import shutil
import subprocess
from ctypes import POINTER, Structure, c_bool, c_float, c_int
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5  # relative: sums of some thousand float32 products
SHAPES = 200
Floats = POINTER(c_float)


class Affine(Structure):
    _fields_ = [
        *((name, Floats) for name in ("mean", "variance", "weight", "gamma", "beta")),
        ("eps", c_float),
        ("channels", c_int),
        ("factor", Floats),
        ("shift", Floats),
        ("lost", POINTER(c_int)),
    ]


class Forward(Structure):
    _fields_ = [
        *((name, c_int) for name in ("images", "channels", "inner")),
        *((name, Floats) for name in ("input", "factor", "shift", "addend")),
        ("relu", c_bool),
        ("branch", Floats),
        ("out", Floats),
    ]


class Backward(Structure):
    _fields_ = [
        *((name, c_int) for name in ("images", "channels", "inner", "parts")),
        *((name, Floats) for name in ("gradient", "gate", "branch", "gamma", "beta", "factor")),
        *((name, Floats) for name in ("in_diff", "addend_diff", "sums")),
    ]


class Parameter(Structure):
    _fields_ = [
        *((name, Floats) for name in ("data", "diff", "history")),
        *((name, c_float) for name in ("rate", "decay")),
        *((name, c_int) for name in ("count", "first_block")),
    ]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The kernels, compiled for the host with every check of memory that stops the program."""
    library = tmp_path_factory.mktemp("kernels") / "host_grid.so"
    include = f"-I{ROOT / 'docker/caffe/include'}"
    flags = ["-std=c++11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-ffp-contract=off"]
    source = str(Path(__file__).with_name("host_grid.cpp"))
    subprocess.run([shutil.which("g++"), *flags, include, source, "-o", library], check=True)
    found = ctypes.CDLL(str(library))
    found.run_descend.argtypes = [POINTER(Parameter), c_int, c_float, c_float]
    return found


def pointer(array):
    return None if array is None else array.ctypes.data_as(Floats)


def aligned(random, *shape):
    """Random numbers that begin where four of them may be read at once, as the device's memory does."""
    memory = np.empty(np.prod(shape, dtype=int) + 4, np.float32)
    start = -(memory.ctypes.data // 4) % 4
    array = memory[start : start + np.prod(shape, dtype=int)].reshape(shape)
    array[...] = random.normal(size=shape)
    return array


def width_of(inner):
    return 4 if inner % 4 == 0 else 1


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * (np.abs(expected).max() or 1))


def a_shape(random):
    return (*(int(random.integers(1, most)) for most in (5, 20)), int(random.choice([1, 3, 4, 9, 16, 49, 196, 225])))


@pytest.mark.parametrize("seed", range(SHAPES))
def test_a_chain_forth_and_back(kernels, seed):
    """Convolution's output x: BatchNorm, Scale, sum and ReLU, each there or not, and the gradients, in float64."""
    random = np.random.default_rng(seed)
    shape = _, channels, inner = a_shape(random)
    norm, bias, added, relu = (bool(value) for value in random.integers(2, size=4))
    x, dy, addend = (aligned(random, *shape) for _ in range(3))
    gamma, beta, mean = (aligned(random, channels) for _ in range(3))
    gamma += np.where(gamma < 0, -0.5, 0.5)  # so that the input can be recovered exactly enough
    variance, weight = np.abs(aligned(random, channels)) + 0.5, np.float32([random.choice([0, 1, 999.9])])
    factor, shift, lost = np.empty(channels, np.float32), np.empty(channels, np.float32), c_int(0)
    stored = [pointer(value) if norm else None for value in (mean, variance, weight)]
    described = Affine(
        *stored, pointer(gamma), pointer(beta) if bias else None, 1e-5, channels, pointer(factor), pointer(shift),
        ctypes.pointer(lost),
    )  # fmt: skip
    kernels.run_affine(ctypes.byref(described))
    assert lost.value == 0

    by_channel = (1, channels, 1)
    share = 0 if weight[0] == 0 else 1 / float(weight[0])
    deviation = np.sqrt(share * np.float64(variance) + 1e-5).reshape(by_channel) if norm else 1.0
    centre = share * np.float64(mean).reshape(by_channel) if norm else 0.0
    normal = (np.float64(x) - centre) / deviation
    branch = normal * np.float64(gamma).reshape(by_channel) + (np.float64(beta).reshape(by_channel) if bias else 0)
    whole = branch + addend if added else branch
    expected = np.maximum(whole, 0) if relu else whole

    out = aligned(random, *shape) if added else x  # without a sum the chain is in place
    forward = Forward(
        *shape, pointer(x), pointer(factor), pointer(shift), pointer(addend) if added else None, relu,
        pointer(x) if added else None, pointer(out),
    )  # fmt: skip
    kernels.run_forward(ctypes.byref(forward), width_of(inner), int(random.integers(1, 8)))
    near(out, expected)
    if added:
        near(x, branch)

    addend_diff = aligned(random, *shape) if added else None
    parts, gamma_diff, beta_diff = int(random.integers(1, 5)), aligned(random, channels), aligned(random, channels)
    before = np.float64(gamma_diff), np.float64(beta_diff)
    in_diff, sums = (aligned(random, *shape) if added else dy), np.full(2 * parts * channels, np.nan, np.float32)
    gradient = np.float64(dy) * (out > 0 if relu else 1)
    backward = Backward(
        *shape, parts, pointer(dy), pointer(out) if relu else None, pointer(x), pointer(gamma),
        pointer(beta) if bias else None, pointer(factor), pointer(in_diff), pointer(addend_diff), pointer(sums),
    )  # fmt: skip
    kernels.run_backward(ctypes.byref(backward), width_of(inner), pointer(gamma_diff), pointer(beta_diff))
    near(in_diff, gradient * (np.float64(gamma).reshape(by_channel) / deviation))
    if added:
        near(addend_diff, gradient)
    scale = np.abs(gradient * normal).sum((0, 2)).max() + 1  # what is summed up may cancel out
    assert np.abs(gamma_diff - before[0] - (gradient * normal).sum((0, 2))).max() < TOLERANCE * scale
    scale = np.abs(gradient).sum((0, 2)).max() + 1
    assert np.abs(beta_diff - before[1] - gradient.sum((0, 2))).max() < TOLERANCE * scale


def test_a_sum_alone_keeps_its_first_input_and_nan(kernels):
    """Folded weights: no factor, so nothing but the sum and the ReLU, and the branch is not written."""
    random = np.random.default_rng(0)
    x, addend, out = (aligned(random, 2, 3, 8) for _ in range(3))
    x[0, 0, 0] = np.nan
    before = x.copy()
    kernels.run_forward(
        ctypes.byref(Forward(2, 3, 8, pointer(x), None, None, pointer(addend), True, None, pointer(out))), 4, 2
    )
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(out, np.maximum(before + addend, 0))


@pytest.mark.parametrize(("gamma", "beta"), [(0.0, 0.0), (0.0, 1.0), (1e-4, 1.0), (np.nan, 1.0), (1.0, np.nan)])
def test_an_input_that_cannot_be_recovered_is_told(kernels, gamma, beta):
    numbers = {"gamma": np.float32([1, gamma, 1]), "beta": np.float32([0, beta, 0])}
    factor, shift, lost = np.empty(3, np.float32), np.empty(3, np.float32), c_int(0)
    described = Affine(
        None, None, None, pointer(numbers["gamma"]), pointer(numbers["beta"]), 1e-5, 3, pointer(factor),
        pointer(shift), ctypes.pointer(lost),
    )  # fmt: skip
    kernels.run_affine(ctypes.byref(described))
    assert lost.value == 1


@pytest.mark.parametrize("seed", range(20))
def test_descent_over_all_parameters(kernels, seed):
    random = np.random.default_rng(seed)
    counts = [int(count) for count in random.choice([1, 2, 255, 4095, 4096, 4097, 9000], random.integers(1, 9))]
    arrays = [[np.float32(random.normal(size=count)) for _ in range(3)] for count in counts]
    rates, decays = random.uniform(0, 1, len(counts)), random.uniform(0, 0.1, len(counts))
    momentum, norm = 0.9, float(1 / random.integers(1, 5))
    expected = []
    for (data, diff, history), rate, decay in zip(arrays, rates, decays, strict=True):
        step = momentum * np.float64(history) + rate * (np.float64(diff) * norm + decay * np.float64(data))
        expected.append((data - step, step))
    table = (Parameter * len(counts))(
        *(
            Parameter(*map(pointer, three), rate, decay, count, -1)
            for three, rate, decay, count in zip(arrays, rates, decays, counts, strict=True)
        )
    )
    kernels.run_descend(table, len(counts), momentum, norm)
    for (data, _, history), (after, step) in zip(arrays, expected, strict=True):
        near(data, after)
        near(history, step)
