"""The order of samples."""

import numpy as np
import pytest

from pysrn.data.feed.sampler import SampleOrder


def test_every_epoch_is_another_permutation():
    order = SampleOrder(7, seed=3, shuffle=True)
    found = [order.locate(n) for n in range(28)]
    assert [epoch for epoch, _ in found] == sorted([0, 1, 2, 3] * 7)
    epochs = np.array([index for _, index in found]).reshape(4, 7)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(7), (4, 1)))
    assert len({tuple(row) for row in epochs}) == 4


def test_order_has_no_memory():
    forward = SampleOrder(11, 0, True)
    told = [forward.locate(n) for n in range(60)]
    backward = SampleOrder(11, 0, True)
    assert [backward.locate(n) for n in reversed(range(60))] == told[::-1]
    assert [SampleOrder(11, 1, True).locate(n) for n in range(60)] != told


@pytest.mark.parametrize("seed", [0, 9])
def test_testing_goes_through_the_database_as_it_is(seed):
    order = SampleOrder(3, seed, shuffle=False)
    assert [order.locate(n) for n in range(5)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_a_part_of_the_records_is_fed_as_a_database_of_its_own():
    part, alone = SampleOrder(5, 4, True, begin=20), SampleOrder(5, 4, True)
    for number in range(17):
        epoch, index = alone.locate(number)
        assert part.locate(number) == (epoch, 20 + index)
    assert [SampleOrder(3, 0, False, begin=8).locate(n)[1] for n in range(4)] == [8, 9, 10, 8]
