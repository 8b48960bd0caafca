"""ResNet-101 SRN overfits 64 real photos through all four stages: training mAP of the final score above 0.95.

The trunk is the real ResNet-50 grown to 101 layers. Slow (about half an hour on two cores, five gigabytes):
`pytest -s -m slow tests/real/test_resnet101_overfit.py`.
"""

import csv
import json
import resource

import numpy as np
import pytest

from pysrn.data.pair.lmdb_pair import write_pair
from pysrn.data.readers.records import Sample
from pysrn.nets.caffemodel import read_layers, write_weights
from pysrn.recipes import class_names
from tests.grown_weights import grow

pytestmark = pytest.mark.slow
PHOTOS = 64
CPU_SECONDS = 3600  # the bar: an hour of CPU time


def test_training_map_is_above_95_percent(shared_data, tool, tmp_path, capfd):
    root = shared_data / "coco_images"
    with open(root / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row[0].startswith("coco_mini")]
    labelled = {row[1]: (root / row[0], np.array(row[3:], np.int8) * 2 - 1) for row in rows if "1" in row[3:]}
    samples = [Sample(name, *labelled[name]) for name in sorted(labelled)[:PHOTOS]]
    for split in ("train", "test"):  # the same photos: it is the training mAP that is evaluated
        write_pair(samples, tmp_path / "data", split, class_names("coco"), seed=0, dataset="coco")
    layers = read_layers(shared_data / "pretrained/resnet50_msra/ResNet-50-model.caffemodel")
    write_weights(tmp_path / "grown.caffemodel", "ResNet-101", grow(layers))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    tool(
        "run_stage", 4, "--dataset", "coco", "--weights", tmp_path / "grown.caffemodel", "--data", tmp_path / "data",
        "--runs", tmp_path, "--batch-size", 8, "--iterations", "170,100,200,60",
        "--base-lr", "0.0005,0.002,0.002,0.0003", "--drops", "0.7,0.9", "--schedule", "multistep",
        "--validation-fraction", 0,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    for stage in (1, 4):
        tool("predict", tmp_path / "coco", "--stage", stage)
    table = tool("evaluate", tmp_path / "coco")
    with capfd.disabled():
        print(f"\n{seconds:.0f} s of CPU time\n{table}")
    figures = json.loads((tmp_path / "coco/metrics.json").read_text())
    scores = {found["name"]: found["scores"] for found in figures["predictions"]}
    assert scores["stage4"]["score"]["mAP"] > 0.95
    assert seconds < CPU_SECONDS
