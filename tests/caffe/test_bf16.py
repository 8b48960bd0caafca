"""Convolutions in bf16: the products of rounded numbers, summed up in float; what stays bf16; and who is refused."""

import subprocess
import sys

import numpy as np
import pytest

from tests.caffe import engine
from tests.caffe.bf16_cases import CASES, CHOSEN, READERS, SHAPES
from tests.processor import needs_bf16

SETTINGS = "onednn,bf16", "all,bf16"
FLOAT_SUMS = 1e-5  # assumed: relative L2 of sums of up to 2,000 products in float, with room
ROUNDED = 1e-3  # assumed: less than what rounding the factors must change, relative L2


@pytest.fixture(scope="module")
def found(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("bf16")
    return {name: engine.run_cases(folder / name, "bf16_cases", tuple(CASES), name) for name in (*SETTINGS, engine.ALL)}


def halved(values):
    """The nearest bf16 of float32 numbers, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def convolve(x, weight, dy, stride, padding):
    """In float64: the output, and the gradients of x and weight for the output's gradient dy."""
    x, weight, dy = (values.astype(np.float64) for values in (x, weight, dy))
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = dy.shape[2:]
    y, dx, dweight = np.zeros(dy.shape), np.zeros(padded.shape), np.zeros(weight.shape)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            window = np.s_[:, :, row : row + stride * height : stride, column : column + stride * width : stride]
            seen = padded[window][:, :, :height, :width]
            y += np.einsum("nchw,oc->nohw", seen, weight[:, :, row, column])
            dx[window][:, :, :height, :width] += np.einsum("nohw,oc->nchw", dy, weight[:, :, row, column])
            dweight[:, :, row, column] = np.einsum("nohw,nchw->oc", dy, seen)
    inner = np.s_[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return y, dx[inner], dweight


def distance(values, reference):
    return np.linalg.norm(values.astype(np.float64) - reference) / np.linalg.norm(reference)


@needs_bf16
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_products_of_rounded_numbers_are_summed_in_float(found, number, setting):
    result = found[setting]
    assert f"convolution{number}" not in result.failures, result.failures
    case, (_, _, _, stride, padding, *_) = result.numbers[f"convolution{number}"], SHAPES[number]
    read = [case[f"output/{name}"] for name in ("data", "weight", "diff")]
    computed = case["output/conv"], case["gradient/data"], case["gradient/conv.0"]
    if "output/bias" in case:
        computed = computed[0].astype(np.float64) - case["output/bias"].reshape(1, -1, 1, 1), *computed[1:]
        expected = read[2].astype(np.float64).sum((0, 2, 3))  # its gradient: of rounded numbers, or not
        assert distance(case["gradient/conv.1"], expected) < 1e-2
    exact, rounded = (convolve(*map(change, read), stride, padding) for change in (np.asarray, halved))
    for values, of_exact, of_rounded in zip(computed, exact, rounded, strict=True):
        assert distance(values, of_rounded) < FLOAT_SUMS
        assert distance(values, of_exact) > ROUNDED


@needs_bf16
@pytest.mark.parametrize("phase", ["train", "test"])
def test_blobs_are_bf16_where_only_convolutions_read_them(found, phase):
    """Without learning; and there no score is rounded, nor what another layer reads."""
    result = found["all,bf16"]
    assert phase not in result.failures, result.failures
    case, plain = result.numbers[phase], found[engine.ALL].numbers[phase]
    blobs = {name: case[f"output/{name}"] for name in ("alone", "first", "sum", "third")}
    kept = {name for name, values in blobs.items() if np.array_equal(values, halved(values))}
    assert kept == ({"alone", "first", "sum"} if phase == "test" else set())
    for name in READERS:
        assert 1e-6 < distance(case[f"output/{name}"], plain[f"output/{name}"]) < 2e-2
        assert np.array_equal(case[f"output/{name}"], case[f"output/again {name}"])


def windows(values):
    """Of 3 x 3 numbers, a stride of 2 apart, beginning one before the first; Caffe has one more where some are left."""
    height, width = (-(-(size - 1) // 2) + 1 for size in values.shape[2:])
    padded = np.full((*values.shape[:2], 2 * height + 1, 2 * width + 1), -np.inf, np.float32)
    padded[:, :, 1 : 1 + values.shape[2], 1 : 1 + values.shape[3]] = values
    return [padded[:, :, r : r + 2 * height - 1 : 2, c : c + 2 * width - 1 : 2] for r in range(3) for c in range(3)]


@needs_bf16
@pytest.mark.parametrize("name", CHOSEN)
def test_poolings_that_choose_numbers_leave_them_bf16(found, name):
    """What convolutions read through them is bf16, too; the gradient goes to the number that was chosen."""
    result = found["all,bf16"]
    assert name not in result.failures, result.failures
    case, plain = result.numbers[name], found[engine.ALL].numbers[name]
    wide, largest, tall, single = (case[f"output/{name}"] for name in ("wide", "largest", "tall", "single"))
    for values in (wide, largest, tall, single):
        assert np.array_equal(values, halved(values))
    assert np.array_equal(largest, np.max(windows(wide), axis=0))
    assert np.array_equal(single, tall[:, :, ::2, ::2])
    chosen = np.argmax(windows(wide), axis=0)
    row, column = chosen // 3, chosen % 3
    expected = np.zeros((*wide.shape[:2], wide.shape[2] + 2, wide.shape[3] + 2), np.float32)
    at = np.indices(chosen.shape)
    np.add.at(expected, (at[0], at[1], 2 * at[2] + row, 2 * at[3] + column), case["gradient/of largest"])
    assert np.allclose(case["gradient/of wide"], expected[:, :, 1:-1, 1:-1], atol=1e-6)
    spread = np.zeros_like(tall)
    spread[:, :, ::2, ::2] = case["gradient/of single"]
    assert np.array_equal(case["gradient/of tall"], spread)
    assert distance(case["output/score"], plain["output/score"]) < 2e-2


@needs_bf16
@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_no_number_passes_poolings_as_in_caffe(found, name):
    """Seen through arrays that were there before the pass."""
    case, plain = (found[setting].numbers[name] for setting in ("all,bf16", engine.ALL))
    for blob in ("wide", "largest", "tall", "single"):
        assert np.array_equal(np.isnan(case[f"output/broken {blob}"]), np.isnan(plain[f"output/broken {blob}"])), blob
    assert np.isnan(case["output/broken wide"]).any() and not np.isnan(case["output/broken largest"]).any()


@needs_bf16
def test_one_wrong_sum_is_seen():
    """The bar tells sums in bf16 from sums in float."""
    random = np.random.default_rng(0)
    x, weight = (halved(random.normal(0, 1, shape)) for shape in ((1, 64, 5, 5), (8, 64, 1, 1)))
    y, _, _ = convolve(x, weight, np.zeros((1, 8, 5, 5)), 1, 0)
    assert distance(halved(y.astype(np.float32)), y) > 100 * FLOAT_SUMS


@pytest.mark.parametrize(
    ("setting", "environment", "said"),
    [
        ("bf16", {}, "name onednn, or all, too"),
        ("all,bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "this processor has no such arithmetic"),
    ],
)
def test_who_cannot_have_it_is_refused(parts, setting, environment, said):
    command = [sys.executable, "-c", "import caffe; caffe.engine_parts()"]
    child = engine.environment(setting) | environment
    done = subprocess.run(command, capture_output=True, text=True, cwd=engine.ROOT, env=child)
    assert done.returncode != 0 and said in done.stderr
    assert "bf16" not in engine.engine_parts()
