"""CNN-RNN against a logistic regression on the same features: film posters, ImageNet ResNet-50, own images' recipe.

Slow (about five minutes on two cores): `pytest -s -m slow tests/real/test_cnn_rnn_posters.py`.
"""

import csv

import numpy as np
import pytest
import torch

from pysrn.data.feed.sampler import SampleOrder
from pysrn.data.pair.pair_reader import PairReader
from pysrn.evaluate.metrics import evaluate
from pysrn.predict.predictions import load_predictions
from pysrn.train.fixed.feature_cache import FeatureCache

pytestmark = pytest.mark.slow
COUNTS = {"train": 1200, "test": 400}  # all of train.csv: the posters of test.csv are for figures alone
POINTS = 2.0  # that F1-O may lie below the logistic regression's
STRENGTHS = (0.01, 0.1, 1.0)  # of which the best on the very test images is taken


def test_sets_are_as_good_as_a_logistic_regression_s(shared_data, tool, tmp_path, capfd):
    root, data, cache, run = tmp_path / "MINE", tmp_path / "data", tmp_path / "cache", tmp_path / "runs" / "posters"
    _write_tables(shared_data / "posters", root)
    keep = ("--cache-features", "fp32", "--cache-folder", cache)
    weights = shared_data / "pretrained/resnet50_msra/ResNet-50-model.caffemodel"
    tool("make_lmdb", "folder", "--root", root, "--out", data)
    tool(
        "run_stage", "--system", "cnn_rnn", "--dataset", "folder", "--data", data, "--runs", run.parent,
        "--run", run.name, "--trunk", "resnet50", "--weights", weights, *keep,
    )  # fmt: skip
    tool("predict", run, *keep)
    found = load_predictions(run / "stage2" / "predictions_test.npz")
    sets = evaluate(found.scores["score"], found.labels)
    images, others = (
        _features(cache, kind, count) for kind, count in (("train_", COUNTS["train"]), ("test_", COUNTS["test"]))
    )
    order = SampleOrder(len(images), seed=0, shuffle=True)  # row n of a training cache is sample n
    truth = PairReader(data, "train").all_labels()[[order.locate(n)[1] for n in range(len(images))]] > 0
    regressions = [evaluate(_regression(images, truth, others, c), found.labels) for c in STRENGTHS]
    ours, theirs = f1_o(sets), max(map(f1_o, regressions))
    with capfd.disabled():
        print(f"\nF1-O {ours:.1f}, exact sets {100 * sets.exact_sets:.1f}; logistic regression {theirs:.1f}, ", end="")
        print(", ".join(f"C {c:g}: {f1_o(one):.1f}" for c, one in zip(STRENGTHS, regressions, strict=True)))
    chance = (found.labels > 0).mean()
    assert max(one.mean_ap for one in regressions) > 1.5 * chance  # features and labels belong together
    assert ours >= theirs - POINTS


def f1_o(evaluation) -> float:
    return 100 * evaluation.decisions["threshold"]["F1-O"]


def _write_tables(posters, root):
    with open(posters / "train.csv", newline="") as stream:
        head, *rows = csv.reader(stream)
    root.mkdir()
    (root / "images").symlink_to(posters / "images")
    begin = 0
    for split, count in COUNTS.items():
        with open(root / f"{split}.csv", "w", newline="") as stream:
            csv.writer(stream).writerows([head, *rows[begin : begin + count]])
        begin += count


def _features(cache, kind, count):
    (folder,) = (path for path in cache.iterdir() if path.name.startswith(kind))
    opened = FeatureCache(folder)
    values = np.empty((count, *opened.shape), np.float32)
    assert opened.count() == count and not opened.fetch(range(count), values, lambda: pytest.fail("rows are missing"))
    return values.reshape(count, -1)


def _regression(images, truth, others, strength):
    """Scores of one logistic regression a label, L2, by its own optimizer: standardised features, the bias free."""
    mean, deviation = images.mean(0), images.std(0) + 1e-6
    x, y = torch.tensor((images - mean) / deviation), torch.tensor(truth, dtype=torch.float32)
    weights = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, history_size=20, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        fit = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights + bias, y, reduction="sum")
        total = (fit + (weights**2).sum() / (2 * strength)) / len(x)
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        return (torch.tensor((others - mean) / deviation) @ weights + bias).numpy()
