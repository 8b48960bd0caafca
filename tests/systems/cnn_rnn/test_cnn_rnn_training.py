"""CNN-RNN through the tools: stages, resuming bit for bit with dropout, ranks, prediction, PyTorch and back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pysrn.data.build import build_dataset
from pysrn.nets.caffemodel import read_layers, read_weights, write_weights
from pysrn.predict.deploy import DeployNet
from pysrn.predict.predictions import load_predictions
from pysrn.systems.cnn_rnn import cells
from pysrn.systems.cnn_rnn.heads import CELLS
from pysrn.systems.cnn_rnn.nets import IMAGE, PATH, SCORES
from tests.train.conftest import assert_same_weights

ROOT = Path(__file__).resolve().parents[3]
STEPS = ("--batch-size", "4", "--snapshot-every", "3")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small pair of `shapes` in it."""
    folder = tmp_path_factory.mktemp("cnn_rnn")
    build_dataset("shapes", folder / "data", seed=3, counts={"train": 24, "test": 8}, workers=1)
    return folder


@pytest.fixture(scope="module")
def call(place):
    """Calls a tool in that folder; asserts its exit code, and that nothing ends in a traceback."""

    def calling(tool, *arguments, code=0):
        words = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, arguments)]
        paths = os.pathsep.join([str(ROOT), *sys.path])
        variables = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=place, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return calling


def train(call, run, *arguments, iterations="2,8", code=0):
    return call(
        "run_stage", "--system", "cnn_rnn", "--data", "data", "--run", run, "--iterations", iterations, *STEPS,
        *arguments, code=code,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(call, place):
    """A finished run, and what its training said."""
    done = train(call, "whole")
    return place / "runs" / "whole", done.stderr


@pytest.fixture(scope="module")
def with_paper_s_cell(call, place):
    """A finished run with the other cell and another order."""
    train(call, "paper", "--cell", "paper", "--label-order", "rare", iterations="1,2")
    return place / "runs" / "paper"


def test_the_trunk_stays_and_shared_weights_are_written_once(trained):
    run, said = trained
    first, last = (read_weights(run / f"stage{number}" / "weights.caffemodel") for number in (1, 2))
    assert "cls_fc" in first and "cls_fc" not in last and "dropped        1  cls_fc" in said
    assert "rnn_scores" not in last and last["rnn_embed"][0].shape == (17, 64)
    assert all(first[name][0].tobytes() == last[name][0].tobytes() for name in first if name != "cls_fc")
    heads = json.loads((run / "run.json").read_text())["recipe"]["heads"]
    assert sorted(heads["path_order"]) == list(range(16)) and heads["path_steps"] > 2


def test_an_interrupted_stage_goes_on_bit_for_bit(trained, call, place):
    """Dropout draws random numbers in every iteration: what was drawn before the interruption must not matter."""
    run, _ = trained
    other = place / "runs" / "again"
    shutil.copytree(run, other)
    for path in (other / "stage2").glob("*"):
        if path.name in ("weights.caffemodel", "manifest.json") or path.name.startswith(("iter_000006", "iter_000008")):
            path.unlink()
    for path in (run / "stage2").glob("iter_*"):
        assert path.name[5:11] in ("000006", "000008")  # the two newest stay
    done = train(call, "again", code=0)
    assert "stage 2 (recurrent): run" in done.stderr or "resume" in done.stderr
    assert_same_weights(other / "stage2" / "weights.caffemodel", run / "stage2" / "weights.caffemodel")


def test_a_snapshot_goes_on_bit_for_bit(trained, call, place):
    run, _ = trained
    other = place / "runs" / "from6"
    shutil.copytree(run, other)
    for name in ("weights.caffemodel", "manifest.json"):
        (other / "stage2" / name).unlink()
    for path in (other / "stage2").glob("iter_000008*"):
        path.unlink()
    done = train(call, "from6")
    assert "going on from the snapshot of iteration 6" in done.stderr
    assert_same_weights(other / "stage2" / "weights.caffemodel", run / "stage2" / "weights.caffemodel")


@pytest.fixture(scope="module")
def straight(trained, call, place):
    """A run of stage 2 alone on a trunk from ImageNet, as the recipes of photographs have it."""
    layers = read_layers(trained[0] / "stage1" / "weights.caffemodel")
    layers["fc1000"] = layers.pop("cls_fc")
    write_weights(place / "imagenet.caffemodel", "imagenet", layers)
    words = ("--left-out", "1", "--weights", "imagenet.caffemodel", "--cache-features", "fp32")
    done = train(call, "straight", *words, iterations="1,4")
    return place / "runs" / "straight", done.stderr


def test_the_first_stage_can_be_left_out(straight, call, place):
    run, said = straight
    assert "stage 1" not in said and "dropped        1  fc1000" in said and not (run / "stage1").exists()
    first, last = read_weights(place / "imagenet.caffemodel"), read_weights(run / "stage2" / "weights.caffemodel")
    assert all(first[name][0].tobytes() == last[name][0].tobytes() for name in first if name != "fc1000")
    assert "fc1000" not in last
    assert "stage 2 (recurrent): keep" in call("run_stage", "--run", "straight", "--data", "data").stderr


def test_a_snapshot_with_the_imagenet_classifier_predicts_what_the_weights_do(straight, call, place):
    run, _ = straight
    snapshot = run / "stage2" / "iter_000004.caffemodel"
    assert "fc1000" in read_weights(snapshot)
    call("predict", "runs/straight")
    call("predict", snapshot, "--data", "data", "-o", "snapshot.npz")
    ours, theirs = (
        load_predictions(path).scores for path in (run / "stage2/predictions_test.npz", place / "snapshot.npz")
    )
    assert ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)


def test_what_cannot_be_left_out_is_refused(straight, call):
    for words, said in (
        (("--system", "cnn_rnn", "--left-out", "2"), "none, or of the stages 1"),
        (("--system", "cnn_rnn", "--left-out", "1", "--from-scratch"), "a trunk that nobody has trained"),
        (("--system", "srn", "--left-out", "2"), "those behind them build on them"),
        (("--system", "cnn_rnn", "--left-out", "main"), "numbers of stages divided by commas"),
    ):
        assert said in call("run_stage", "--run", "refused", *words, "--data", "data", code=2).stderr
    done = call("run_stage", 1, "--run", "straight", "--data", "data", code=2)
    assert "has no stage 1" in done.stderr and "--left-out says" in done.stderr


def test_two_different_copies_of_shared_weights_are_refused(trained, call, place):
    run, _ = trained
    weights = read_weights(run / "stage2" / "weights.caffemodel")
    layers = {name: ("Convolution", blobs) for name, blobs in weights.items()}
    for copy, code in ((weights["rnn_embed"][0], 0), (weights["rnn_embed"][0] + 1, 1)):
        write_weights(place / "both.caffemodel", "both", layers | {"rnn_scores": ("InnerProduct", [copy])})
        out = call("predict", "both.caffemodel", "--data", "data", "-o", "both.npz", code=code)
    assert "two different copies of what rnn_embed and rnn_scores share" in out.stderr


def test_prediction_evaluation_comparison_report(trained, call, place):
    run, _ = trained
    call("predict", "runs/whole")
    found = load_predictions(run / "stage2" / "predictions_test.npz")
    assert list(found.scores) == ["score_first", "score_greedy", "score_visits", "score"]
    assert (found.scores["score"] != 0).all()
    call("predict", "runs/whole", "--stage", "1")
    assert "exact sets" in call("evaluate", "runs/whole").stdout
    assert "no figures" in call("compare", "runs/whole", "--resamples", "0").stdout
    call("report", "runs/whole")
    assert (run / "report.html").stat().st_size > 1000


def test_a_wider_beam_and_a_least_length_are_asked_for(trained, call, place):
    image = next((place / "data" / "images" / "test").iterdir())
    said = call("predict", "runs/whole", image, "--search", "beam_width=2", "shortest_path=3").stdout
    assert said.splitlines()[1].count(">") >= 3 and "probability" in said
    assert "beam_width=N" in call("predict", "runs/whole", image, "--search", "width=2", code=2).stderr
    wrong = call("predict", "runs/whole", image, "--stage", "1", "--search", "beam_width=2", code=2)
    assert "nothing to search" in wrong.stderr


def test_to_pytorch_and_back_changes_no_bit(trained, call, place):
    run, _ = trained
    said = call("to_torch", "runs/whole", "-o", "torch/net.pth").stdout
    assert "score_visits" in said and "OUT OF TOLERANCE" not in said
    (path,) = (place / "torch").glob("*.safetensors")
    call("from_torch", path, "-o", "back.caffemodel")
    back, there = read_weights(place / "back.caffemodel"), read_weights(run / "stage2" / "weights.caffemodel")
    assert back.keys() == there.keys()
    for name, blobs in there.items():
        assert [blob.tobytes() for blob in back[name]] == [blob.tobytes() for blob in blobs], name


@pytest.mark.parametrize("cell", CELLS)
def test_the_step_net_in_onnx_is_caffe_s(trained, with_paper_s_cell, call, place, cell):
    """Paths of three images, word by word, with onnxruntime and with the search's own step."""
    onnxruntime = pytest.importorskip("onnxruntime")
    run = {"lstm": trained[0], "paper": with_paper_s_cell}[cell]
    said = call("to_torch", run, "-o", f"onnx/{cell}.pth", "--onnx").stdout
    assert "onnxruntime and PyTorch" in said and "OUT OF TOLERANCE" not in said
    (path,) = (place / "onnx").glob(f"{cell}-*.onnx")
    memory = cells.MEMORY[cell]
    card = json.loads(path.with_suffix(".json").read_text())["onnx"]
    assert card["inputs"][PATH] == [1, "images"] and card["inputs"][IMAGE] == ["images", 64]
    assert list(card["outputs"]) == [SCORES, *memory.values()]
    net = DeployNet(run / "stage2" / "weights.caffemodel")
    images = np.random.default_rng(0).normal(0, 50, (3, 3, 224, 224)).astype(np.float32)
    image = net.forward(images, [IMAGE])[IMAGE]
    net.searching({IMAGE: image})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state, words, known = {name: np.zeros((1, 3, 512), np.float32) for name in memory}, np.full(3, 16), None
    for step in range(4):
        scores, *after = session.run(None, {IMAGE: image, PATH: words[None]} | state)
        wanted, known = net.searching.step(np.arange(3), words, known)
        found = scores[0] - np.log(np.exp(scores[0].astype(np.float64)).sum(1, keepdims=True))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        for mine, theirs in zip(after, known, strict=True):
            np.testing.assert_allclose(mine[0], theirs, atol=1e-5)
        state, words = dict(zip(memory, after, strict=True)), np.array([step, 15 - step, 7])


def test_the_paper_s_cell_goes_the_whole_way(with_paper_s_cell):
    weights = read_weights(with_paper_s_cell / "stage2" / "weights.caffemodel")
    assert "rnn_recurrent_0" in weights and "rnn_recurrent_1" not in weights and "rnn_lstm" not in weights


def test_wrong_settings_are_one_line(call, place):
    (place / "order.txt").write_text("circle\nhouse\n", "utf-8")
    for words, code, said in (
        (("--label-order", "order.txt"), 1, "order.txt:2: house is no label"),
        (("--label-order", "alphabetic"), 3, "no file alphabetic"),
        (("--longest-path", "500"), 2, "from 1 to 199"),
        (("--cell", "gru"), 2, "invalid choice"),
        (("--variant", "released"), 2, "variant"),
    ):
        done = train(call, "wrong", *words, code=code)
        assert said in done.stderr, done.stderr
    assert not (place / "runs" / "wrong").exists()
