"""Real weights on real images: ImageNet ResNet-50 through all four stages on a few hundred COCO photos.

Slow (about six minutes on two cores): `pytest -s -m slow tests/real/test_resnet50_finetuning.py`.
"""

import numpy as np
import pytest

from pysrn.evaluate.metrics import evaluate
from pysrn.predict.predictions import load_predictions

pytestmark = pytest.mark.slow
ITERATIONS = "60,30,40,15"
LEARNING_RATES = "0.0002,0.0005,0.001,0.0001"  # small batches and stored BN statistics bear no more


def test_four_stages_from_imagenet_weights(shared_data, coco_pair, tool, tmp_path, capfd):
    weights = shared_data / "pretrained/resnet50_msra/ResNet-50-model.caffemodel"
    tool(
        "run_stage", 4, "--dataset", "coco", "--trunk", "resnet50", "--weights", weights, "--data", coco_pair,
        "--runs", tmp_path, "--batch-size", 8, "--iterations", ITERATIONS, "--base-lr", LEARNING_RATES,
        "--new-layer-lr", "10,1,1,1",
    )  # fmt: skip
    said = capfd.readouterr().err
    assert "unused         1  fc1000" in said
    tool("predict", tmp_path / "coco", "--stage", "1")
    tool("predict", tmp_path / "coco")
    first = load_predictions(tmp_path / "coco/stage1/predictions_test.npz")
    final = load_predictions(tmp_path / "coco/stage4/predictions_test.npz")
    chance = np.nanmean(
        [
            evaluate(noise, final.labels).mean_ap
            for noise in np.random.default_rng(0).normal(size=(20, *final.labels.shape))
        ]
    )
    found = {"stage 1 score_cls": evaluate(first.scores["score_cls"], first.labels).mean_ap}
    found |= {name: evaluate(scores, final.labels).mean_ap for name, scores in final.scores.items()}
    with capfd.disabled():
        print(said)
        print(
            f"{len(final.keys)} test images; mAP: chance {chance:.4f}, "
            + ", ".join(f"{k} {v:.4f}" for k, v in found.items())
        )
    assert found["stage 1 score_cls"] > 2 * chance
    assert found["score"] > chance  # a few dozen iterations: the heads are far from trained
