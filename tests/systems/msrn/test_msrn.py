"""MSRN goes through all tools: training and resuming, prediction, evaluation, PyTorch both ways, what is refused."""

import json
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pysrn.data.build import build_dataset
from pysrn.nets.caffemodel import read_weights
from pysrn.predict.deploy import DeployNet
from pysrn.recipes import class_names
from pysrn.systems.msrn.labels.constants import constants
from pysrn.systems.msrn.labels.vectors import shipped_vectors
from pysrn.train.run_folder import RunFolder
from tests.systems.conftest import command, environment

STEPS = ("--iterations", "4", "--batch-size", "4", "--snapshot-every", "2")
MSRN = ("--system", "msrn", "--data", "data")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("msrn")


@pytest.fixture(scope="module")
def call(place):
    """Calls a tool; asserts its exit code and that it never ends in a traceback."""

    def calling(name, *arguments, code=0):
        options = {"capture_output": True, "text": True, "timeout": 300, "check": False}
        done = subprocess.run(command(name, *arguments), cwd=place, env=environment(""), **options)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return calling


@pytest.fixture(scope="module")
def trained(call, place):
    """A short run of both stages; what was said."""
    build_dataset("shapes", place / "data", counts={"train": 40, "test": 12}, workers=2)
    said = call("run_stage", *MSRN, *STEPS)
    run = place / "runs" / "msrn-shapes"
    return SimpleNamespace(run=run, said=said.stderr, weights=run / "stage2" / "weights.caffemodel")


def test_both_stages_are_run_and_the_vectors_said(trained):
    assert "warning: label vectors: no words are known for these classes" in trained.said
    assert "dropped        1  cls_fc" in trained.said and "stage 2 (msrn)" in trained.said
    first, last = (set(read_weights(trained.run / f"stage{n}" / "weights.caffemodel")) for n in (1, 2))
    assert "cls_fc" in first and "cls_fc" not in last
    assert {"emb_vectors", "emb_graph", "tap_buffer1", "fuse_fc1"} <= last - first
    log = (trained.run / "stage2" / "log.csv").read_text().splitlines()
    assert log[0].endswith("loss_score,emb_group_loss") and len(log) == 5


def test_first_stage_is_that_of_srn(call, trained, place):
    """So that a table of systems begins with the same main net."""
    call("run_stage", "1", *STEPS, "--data", "data", "--run", "srn")
    ours, theirs = (
        read_weights(run / "stage1" / "weights.caffemodel") for run in (trained.run, place / "runs" / "srn")
    )
    assert ours.keys() == theirs.keys()
    for name, blobs in ours.items():
        assert [blob.tobytes() for blob in blobs] == [blob.tobytes() for blob in theirs[name]], name


def test_constants_are_those_of_the_data_and_do_not_change(trained, place):
    recipe = RunFolder(trained.run).read_settings().recipe
    recipe = replace(recipe, dataset=replace(recipe.dataset, train_images=40))
    saved = read_weights(trained.weights)
    for name, (expected,) in constants(recipe, place / "data").items():
        assert saved[name][0].tobytes() == expected.tobytes()
    assert (
        np.isin(saved["emb_graph"][0], np.float32([0, -1e12])).all() and (saved["emb_graph"][0].diagonal() == 0).all()
    )


def test_interrupted_run_ends_in_the_same_bytes(trained, place):
    asked = command("run_stage", *MSRN, *STEPS, "--runs", "interrupted")
    shutil.copytree(trained.run / "stage1", place / "interrupted" / "msrn-shapes" / "stage1")
    shutil.copy(trained.run / "run.json", place / "interrupted" / "msrn-shapes")
    stage = place / "interrupted" / "msrn-shapes" / "stage2"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(""), "cwd": place}
    begun = subprocess.Popen(asked, **options)
    end = time.monotonic() + 120
    while not list(stage.glob("iter_*.json")) and begun.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=120)
    assert begun.returncode == 130 or "done" in said, said
    again = subprocess.run(asked, **options, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert (stage / "weights.caffemodel").read_bytes() == trained.weights.read_bytes()


def test_label_branch_is_one_constant_at_prediction(trained):
    plain, folded = DeployNet(trained.weights), DeployNet(trained.weights, folded=True)
    images = np.random.default_rng(0).normal(0, 60, (2, 3, 224, 224)).astype(np.float32)
    found, expected = folded.forward(images)["score"], plain.forward(images)["score"]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert plain.scores == folded.scores == ("score",)
    there = {name for name in folded.net.params if name.startswith("emb_")}
    assert there == {"emb_rows", "emb_assignment"}  # the latter for pictures
    np.testing.assert_allclose(folded.net.params["emb_rows"][0].data, plain.net.blobs["emb_rows"].data, atol=1e-6)


def test_maps_are_the_weights_of_the_attention(trained):
    """The mean over the channels of what a label weighs each place with; and their group's."""
    net = DeployNet(trained.weights, folded=True)
    images = np.random.default_rng(1).normal(0, 60, (2, 3, 224, 224)).astype(np.float32)
    found = net.forward(images, ("look1", "group_look3", "score"))
    blobs = {name: net.net.blobs[name].data.astype(float) for name in ("tap_project1", "tap_project3", "emb_rows")}
    group = net.net.blobs["emb_assignment"].data.argmax(axis=1)
    for name, tap, label, row in (("look1", 1, 3, 3), ("group_look3", 3, 5, 16 + group[5])):
        features = blobs[f"tap_project{tap}"][1].reshape(64, -1)
        weights = np.exp(blobs["emb_rows"][row][:, None] * features)
        weights /= weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[name][1, label].reshape(-1), weights.mean(axis=0), atol=1e-6)
    assert found["look1"].shape == (2, 16, 14, 14) and found["group_look3"].shape == (2, 16, 3, 3)
    assert DeployNet(trained.run / "stage1" / "weights.caffemodel").maps == ()


def test_pictures(call, trained):
    printed = call("visualize", "labels", trained.run).stdout
    assert "group " in printed and "cross above ring" in printed
    assert cv2.imread(str(trained.run / "stage2" / "labels.png")).std() > 1
    call("visualize", "attention", trained.run, "--images", "1", "--maps", "look2", "group_look2")
    assert cv2.imread(str(trained.run / "stage2" / "attention_test.png")).std() > 1
    said = call("visualize", "labels", trained.run, "--stage", "1", code=2).stderr
    assert "has no label graph yet" in said


def test_predict_evaluate_compare_and_report(call, trained):
    call("predict", trained.run, "--stage", "1")
    call("predict", trained.run)
    printed = call("evaluate", trained.run).stdout
    assert "stage1 score_cls" in printed and "optimistic F1-C" in printed
    metrics = json.loads((trained.run / "metrics.json").read_text())["predictions"]
    assert [list(one["scores"]) for one in metrics] == [["score_cls"], ["score"]]
    assert "the paper has no figures" in call("compare", trained.run).stdout
    call("report", trained.run)
    page = (trained.run / "report.html").read_text("utf-8")
    assert "<h1>MSRN: msrn-shapes</h1>" in page and "PPMI of the labels" in page
    assert "error: " in call("predict", trained.run, "--cache-features", "fp32", code=2).stderr


def test_pytorch_and_back(call, trained, place):
    printed = call("to_torch", trained.run, "--authors", "-o", "torch/msrn.pth").stdout
    assert "blobs within it" in printed and "zero, for they take no part: resnet_101.conv_buffer0.weight" in printed
    (file,) = (place / "torch").glob("msrn-????????.safetensors")
    call("from_torch", file, "-o", "back.caffemodel")
    before, after = read_weights(trained.weights), read_weights(place / "back.caffemodel")
    assert before.keys() == after.keys()
    for name, blobs in before.items():
        assert [blob.tobytes() for blob in blobs] == [blob.tobytes() for blob in after[name]], name
    assert "of MSRN's authors" in call("from_torch", next((place / "torch").glob("msrn-authors*")), code=2).stderr


def test_vectors_of_words(call, trained, place):
    """`--label-vectors`: the run begins with the words' vectors; another file is another run."""
    words = sorted({word for name in class_names("shapes") for word in name.split()})
    rows = np.random.default_rng(0).normal(0, 0.4, (len(words), 300)).astype(np.float32)
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, rows, strict=True)]
    (place / "words.txt").write_text("\n".join(lines))
    plan = call("run_stage", *MSRN, *STEPS, "--run", "words", "--label-vectors", "words.txt", "--dry-run").stderr
    assert "PPMI" not in plan
    said = call("run_stage", *MSRN, *STEPS, "--label-vectors", "words.txt", "--dry-run", code=2).stderr
    assert "was done with other settings" in said and "label_vectors" in said


def test_known_data_set_is_trained_end_to_end_with_shipped_vectors(call, place):
    """The published recipes leave stage 1 out; the pair of a data set without a reader is made as one's own."""
    names, random = class_names("apparel"), np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        rows = [f"file,{','.join(names)}"]
        for number in range(count):
            name = f"{split}{number}.png"
            (place / "apparel").mkdir(exist_ok=True)
            cv2.imwrite(str(place / "apparel" / name), random.integers(0, 256, (40, 40, 3), np.uint8))
            rows.append(f"{name},{','.join(map(str, random.integers(0, 2, len(names))))}")
        (place / "apparel" / f"{split}.csv").write_text("\n".join(rows))
    call("make_lmdb", "folder", "--root", "apparel", "--out", "apparel_pair")
    asked = ("--system", "msrn", "--dataset", "apparel", "--data", "apparel_pair", "--from-scratch")
    said = call("run_stage", *asked, "--trunk", "resnet14", "--iterations", "1", "--batch-size", "2").stderr
    assert "stage 1" not in said and "PPMI" not in said and "stage 2 (msrn)" in said
    run = place / "runs" / "msrn-apparel"
    assert not (run / "stage1").exists()
    saved = read_weights(run / "stage2" / "weights.caffemodel")
    np.testing.assert_array_equal(saved["emb_vectors"][0], shipped_vectors("apparel", names))
    assert saved["emb_gats_W"][0].shape[0] == 2  # groups
    call("predict", run)
    assert "ResNet" not in call("compare", run).stdout
    lines = call("run_stage", "--system", "msrn", "--run", "msrn-apparel", "--status").stdout.splitlines()
    assert len(lines) == 2 and lines[1].startswith("stage 2 msrn")
    said = call("run_stage", *asked, "--trunk", "resnet14", "--base-lr", "0.1", "--dry-run", "--run", "fast").stderr
    assert "rate 0.1 of the label branch is above 0.01" in said


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (("3", *MSRN), 2, "MSRN has no stage 3"),
        (("1", "--system", "msrn", "--dataset", "coco", "--data", "data", "--from-scratch"), 2, "has no stage 1"),
        ((*MSRN, "--fusion", "other"), 2, "invalid choice"),
        ((*MSRN, "--run", "new", "--label-vectors", "nowhere.txt"), 3, "nowhere.txt"),
        ((*MSRN, "--trunk", "resnet101_preact"), 2, "resnet101_preact"),
        (("--system", "msrn", "--dataset", "coco", "--data", "data", "--from-scratch"), 2, "labels"),
    ],
)
def test_what_is_refused(call, trained, asked, code, said):
    assert said in call("run_stage", *asked, "--dry-run", code=code).stderr
