"""The generated ResNet-101 nets at full width on real images: all four stages run, learn, and fix what they should.

Slow (about two minutes on two cores): `pytest -m slow tests/real/test_resnet101_stages.py`.
"""

import csv

import pytest

from pysrn.nets.caffemodel import read_weights

pytestmark = pytest.mark.slow
ITERATIONS = 12


def test_four_stages_at_full_width(coco_pair, tool, tmp_path):
    tool(
        "run_stage", 4, "--dataset", "coco", "--from-scratch", "--data", coco_pair, "--runs", tmp_path,
        "--batch-size", 4, "--iterations", ITERATIONS, "--base-lr", "0.001,0.001,0.01,0.0005",
    )  # fmt: skip
    weights = {stage: read_weights(tmp_path / f"coco/stage{stage}/weights.caffemodel") for stage in (1, 2, 3, 4)}
    for stage in (1, 2, 3, 4):
        with open(tmp_path / f"coco/stage{stage}/log.csv", newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        third = ITERATIONS // 3
        print(f"stage {stage}: loss {sum(losses[:third]) / third:.2f} -> {sum(losses[-third:]) / third:.2f}")
        assert sum(losses[-third:]) < sum(losses[:third])
    for stage in (2, 3):
        for name, blobs in weights[stage - 1].items():
            assert all(a.tobytes() == b.tobytes() for a, b in zip(blobs, weights[stage][name], strict=True)), name
