"""Five trainings through all four stages with all parts of the engine end where stock Caffe's end, but for the seed."""

import numpy as np
import pytest

from tests.caffe import five_seeds
from tests.caffe.engine import ALL, STOCK

SEEDS = [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_five_seeds(parts, tmp_path):
    """The means of every score differ by less than stock Caffe's own standard deviation over the seeds."""
    found = five_seeds.measure(tmp_path / "runs", tmp_path / "data", SEEDS)
    print("\n" + five_seeds.table(SEEDS, found))
    difference = np.abs(found[ALL].mean(axis=0) - found[STOCK].mean(axis=0))
    assert (difference < found[STOCK].std(axis=0, ddof=1)).all()
    assert found[ALL].mean(axis=0)[-1] > 0.8  # they have learned: chance is 0.32


def test_the_table_by_hand():
    stock = np.array([[0.8, 0.7, 0.85, 0.90], [0.7, 0.6, 0.75, 0.80]])
    lines = five_seeds.table([3, 4], {STOCK: stock, ALL: stock + 0.01}).splitlines()
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if "|" in line
    }
    assert rows["seed 3"] == ["80.00", "70.00", "85.00", "90.00", "81.00", "71.00", "86.00", "91.00", "1.00"]
    assert rows["mean"][3] == "85.00" and rows["mean"][-1] == "1.00"
    assert rows["standard deviation"][3] == "7.07" and rows["standard deviation"][-1] == "0.00"
