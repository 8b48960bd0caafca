"""Scores from cached trunk features: those of the net in one piece; stages with one trunk share what it made."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import without, write_realistic
from pysrn.console import SrnError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.caffemodel import read_layers, write_weights
from pysrn.predict.cached_deploy import CachedDeployNet
from pysrn.predict.splits import predict
from pysrn.systems.srn.heads import HeadSpec
from tests.holding import HANG
from tests.srn import Architecture, check_images

TOOL = Path(__file__).resolve().parents[2] / "tools/predict.py"
RELEASED = Architecture("resnet14_preact", 16, HeadSpec(32, 16, 2, variant="released", confidence_width=24))


@pytest.fixture(scope="module")
def pair(shapes_folder):
    return PairReader(shapes_folder, "test")


@pytest.fixture(scope="module")
def released_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "weights.caffemodel"
    return write_realistic(path, RELEASED, check_images(2))


@pytest.mark.parametrize("model", ["shapes_model", "released_model"])
def test_scores_are_those_of_the_net_in_one_piece(model, request, pair, tmp_path):
    path = request.getfixturevalue(model)
    plain = predict(path, pair, tmp_path / "plain.npz", batch_size=4)
    for attempt, workers in (("filling", 1), ("reading", 1), ("sharing", 2)):
        cached = predict(path, pair, tmp_path / attempt, batch_size=4, workers=workers, cache=("fp32", tmp_path / "c"))
        for name, scores in plain.scores.items():
            np.testing.assert_array_equal(cached.scores[name], scores, err_msg=f"{attempt}, {name}")
    predict(path, pair, tmp_path / "others", batch_size=3, cache=("fp32", tmp_path / "c"))
    assert len(list((tmp_path / "c").iterdir())) == 1  # whatever the batch size
    half = predict(path, pair, tmp_path / "half.npz", batch_size=4, cache=("fp16", tmp_path / "c"))
    for name, scores in plain.scores.items():
        np.testing.assert_allclose(half.scores[name], scores, atol=0.02)
    assert any((half.scores[name] != scores).any() for name, scores in plain.scores.items())


def test_weights_of_an_earlier_stage_need_no_image(shapes_model, pair, tmp_path):
    whole = CachedDeployNet(shapes_model, 4, None, pair, "fp32", tmp_path)
    whole.forward_records(range(4), lambda: np.ones((4, 3, 224, 224), np.float32))

    def no_images():
        raise AssertionError("the features are there")

    main = CachedDeployNet(
        without(shapes_model, tmp_path / "main", "att_", "conf_", "sr_"), 4, None, pair, "fp32", tmp_path
    )
    assert main.scores == ("score_cls",)
    expected = whole.forward_records(range(4), no_images)["score_cls"]
    np.testing.assert_array_equal(main.forward_records(range(4), no_images)["score_cls"], expected)


def test_what_the_net_does_not_know_is_refused(shapes_model, pair, tmp_path):
    layers = read_layers(shapes_model) | {"of_others": ("Convolution", [np.ones((1, 1, 1, 1))])}
    write_weights(tmp_path / "odd", "odd", layers)
    with pytest.raises(SrnError, match="unknown to the net: of_others"):
        CachedDeployNet(tmp_path / "odd", 4, None, pair, "fp32", tmp_path)


def test_the_tool_keeps_features_in_the_run_or_where_it_is_told(shapes_model, shapes_folder, tmp_path):
    def call(*words):
        command = [sys.executable, TOOL, shapes_model, "--data", shapes_folder, "-o", tmp_path / "out.npz", *words]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=HANG)

    refused = call("--cache-features", "fp16")
    assert refused.returncode == 2 and "is of no run" in refused.stderr and "--cache-folder" in refused.stderr
    assert call("--cache-folder", tmp_path / "c").returncode == 2
    done = call("--cache-features", "fp16", "--cache-folder", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert "features of 21 images, fp16: 1.0 MiB in" in done.stderr
    assert [path.name.rpartition("_")[0] for path in (tmp_path / "c").iterdir()] == ["test_whole_fp16"]


def test_a_worker_says_what_mends_it_and_the_size_is_said_once(shapes_model, shapes_folder, tmp_path):
    layers = read_layers(shapes_model)
    for name, (kind, blobs) in layers.items():
        if kind == "Scale" and name.startswith("scale4"):
            layers[name] = (kind, [blob * np.float32(1e6) for blob in blobs])
    write_weights(tmp_path / "large.caffemodel", "large", layers)
    words = [tmp_path / "large.caffemodel", "--data", shapes_folder, "-o", tmp_path / "out.npz", "--batch-size", "2"]
    words += ["--cache-features", "fp16", "--cache-folder", tmp_path / "c", "--workers", "2"]
    failed = subprocess.run([sys.executable, TOOL, *map(str, words)], capture_output=True, text=True, timeout=HANG)
    assert failed.returncode == 1 and "cannot be kept as float16" in failed.stderr
    assert "mend it: take --cache-features fp32" in failed.stderr
    assert failed.stderr.count("features of 21 images") == 1
