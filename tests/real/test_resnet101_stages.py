"""The generated ResNet-101 nets at full width on real images: all four stages run, learn, and fix what they should.

ResNet-101's ImageNet weights are not at hand, so the trunk is the real ResNet-50 grown to 101 layers: the added blocks
of res4 end in a scale of zero, so that the trunk computes what ResNet-50 does. Slow (about three minutes on two
cores): `pytest -s -m slow tests/real/test_resnet101_stages.py`.
"""

import csv

import numpy as np
import pytest

from pysrn.nets.caffemodel import read_layers, read_weights, write_weights
from tests.grown_weights import grow

pytestmark = pytest.mark.slow
ITERATIONS = 12


def test_four_stages_at_full_width(shared_data, coco_pair, tool, tmp_path, capfd):
    layers = read_layers(shared_data / "pretrained/resnet50_msra/ResNet-50-model.caffemodel")
    write_weights(tmp_path / "grown.caffemodel", "ResNet-101", grow(layers))
    tool(
        "run_stage", 4, "--dataset", "coco", "--weights", tmp_path / "grown.caffemodel", "--data", coco_pair,
        "--runs", tmp_path, "--batch-size", 4, "--iterations", ITERATIONS, "--base-lr", "0.0002,0.0002,0.001,0.0001",
    )  # fmt: skip
    said = capfd.readouterr().err
    assert "initialised    1  cls_fc\n  unused         1  fc1000" in said
    weights = {stage: read_weights(tmp_path / f"coco/stage{stage}/weights.caffemodel") for stage in (1, 2, 3, 4)}
    third = ITERATIONS // 3
    for stage in (1, 2, 3, 4):
        with open(tmp_path / f"coco/stage{stage}/log.csv", newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        begin, end = np.mean(losses[:third]), np.mean(losses[-third:])
        with capfd.disabled():
            print(f"\nstage {stage}: loss {begin:.2f} -> {end:.2f} over {ITERATIONS} iterations", end="")
        assert end < begin
    for stage in (2, 3):
        for name, blobs in weights[stage - 1].items():
            assert all(a.tobytes() == b.tobytes() for a, b in zip(blobs, weights[stage][name], strict=True)), name
