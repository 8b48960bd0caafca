"""The engine's part `winograd` against float64, against stock Caffe, and where it must not be used."""

import numpy as np
import pytest
import torch

from tests.caffe import engine, winograd_cases
from tests.caffe.comparing import OUTPUT_TOLERANCE, output_difference

CHAINS = [name for name in winograd_cases.CASES if name.startswith("chain")]
WITHOUT = ",".join(part for part in engine.PARTS if part != "winograd")


@pytest.fixture(scope="module")
def found(parts, tmp_path_factory):
    """Setting -> the numbers of each case."""
    if "winograd" not in parts:
        pytest.skip("no part winograd, or no vectors of 16")
    folder = tmp_path_factory.mktemp("winograd")
    results = {}
    for setting in (engine.STOCK, WITHOUT, engine.ALL):
        result = engine.run_cases(folder / setting, "winograd_cases", list(winograd_cases.CASES), setting)
        assert not result.failures
        results[setting] = result.numbers
    return results


@pytest.mark.parametrize("number", range(len(winograd_cases.SHAPES)))
def test_against_float64(number, found):
    numbers, shape = found[engine.ALL][f"test{number}"], winograd_cases.SHAPES[number]
    data, *weights = (torch.tensor(numbers[f"output/{name}"]).double() for name in _read(shape))
    exact = torch.nn.functional.conv2d(data, *weights, padding=(shape["pad_h"], shape["pad_w"])).numpy()
    rounding = np.sqrt(((numbers["output/third"] - exact) ** 2).mean() / (exact**2).mean())
    print(f"{rounding:.1e}")
    assert rounding < 1e-6
    assert not np.array_equal(numbers["output/third"], found[WITHOUT][f"test{number}"]["output/third"])


def _read(shape: dict[str, int]) -> list[str]:
    return ["data", "weight0", *["weight1"] * shape["bias"]]


@pytest.mark.parametrize("name", winograd_cases.CASES)
def test_against_stock(name, found):
    differences = output_difference(found[engine.STOCK][name], found[engine.ALL][name])
    assert max(differences.values()) < OUTPUT_TOLERANCE, differences


def test_every_pass_gives_the_same_bytes(found):
    """The first one transforms the weights for itself, the second one keeps them."""
    for name in set(winograd_cases.CASES).difference(CHAINS):
        numbers = found[engine.ALL][name]
        assert np.array_equal(numbers["output/first"], numbers["output/second"])


def test_what_learns_is_computed_as_before(found):
    for number in range(2):
        ours, without = (found[setting][f"train{number}"] for setting in (engine.ALL, WITHOUT))
        for name, values in without.items():
            assert np.array_equal(values, ours[name])
