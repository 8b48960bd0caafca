"""A system outside the package goes through all tools, and its figures are those of references without the package."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from pysrn.data.feed.prefetch import Feeder
from pysrn.data.feed.settings import FeedSettings
from pysrn.nets.caffemodel import read_weights, write_weights
from pysrn.nets.messages import NetParameter, SolverParameter
from pysrn.recipes import class_names
from tests.systems import reference
from tests.systems.conftest import ITERATIONS, environment
from tests.systems.toy import BATCH, INPUT, RATE, RMS_DECAY, SYSTEM, WEIGHT_DECAY

CLASSES = class_names("shapes")
FEW = ("--iterations", "3", "--drops", "0.9")


def columns(path):
    """A CSV file: name -> numbers."""
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_plan_training_and_status(trained):
    assert trained.plan.stderr.strip() == f"stage 1 (only): run, {ITERATIONS} iterations"
    assert trained.training.stdout.strip() == "runs/toy-shapes/stage1/weights.caffemodel"
    first, stage = trained.status.stdout.splitlines()
    assert first == "runs/toy-shapes: Toy, shapes, sieve6, data data"
    assert stage.startswith("stage 1 only") and f"done       {ITERATIONS}/{ITERATIONS}" in stage
    log = columns(trained.stage / "log.csv")
    assert len(log["loss"]) == ITERATIONS
    assert np.mean(log["loss"][-50:]) < np.mean(log["loss"][:50]) - 0.3
    assert log["lr"][ITERATIONS // 2 - 1] == RATE and log["lr"][ITERATIONS // 2] == pytest.approx(RATE / 10)


def test_interrupted_run_ends_in_the_same_bytes(trained, resumed):
    assert 0 < resumed.reached < ITERATIONS
    assert f"snapshot of iteration {resumed.reached}" in resumed.said
    assert resumed.weights.read_bytes() == trained.weights.read_bytes()


def test_three_steps_are_those_of_rmsprop_on_a_softmax_loss(call, data, place):
    random = np.random.default_rng(5)
    shapes = {"sieve": [(6, 3, 5, 5), (6,)], "tell_fc": [(len(CLASSES), 6), (len(CLASSES),)]}
    start = {name: [random.normal(0, 0.1, shape) for shape in both] for name, both in shapes.items()}
    kinds = {"sieve": "Convolution", "tell_fc": "InnerProduct"}
    write_weights(place / "start.caffemodel", "start", {name: (kinds[name], start[name]) for name in start})
    call("run_stage", "--system", "toy", "--data", "data", "--runs", "steps", "--weights", "start.caffemodel", *FEW)

    recipe = SYSTEM.recipes["shapes"]
    feed = FeedSettings.of(INPUT, recipe.augmentation, folder=str(data), split="train", batch_size=BATCH, workers=0)
    feeder = Feeder(replace(feed, seed=recipe.seed))
    weights = {name: [torch.tensor(blob.astype(np.float32).astype(float)) for blob in start[name]] for name in start}
    history = {name: [torch.zeros_like(blob) for blob in weights[name]] for name in weights}
    losses = []
    for _ in range(3):
        views, labels = feeder.next_batch()
        for parts in weights.values():
            for blob in parts:
                blob.requires_grad_()
        logits = reference.scores(weights, views)
        loss = torch.nn.functional.cross_entropy(logits, torch.as_tensor(reference.targets(labels > 0)))
        np.testing.assert_allclose(loss.item(), reference.losses(logits.detach(), labels > 0).mean(), rtol=1e-9)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, [blob for parts in weights.values() for blob in parts])
        step = iter(gradients)
        for name, parts in weights.items():
            for i, (rate, decay) in enumerate(((1, WEIGHT_DECAY), (2, 0))):  # of weights and of biases
                gradient = next(step) + decay * parts[i].detach()
                history[name][i] = RMS_DECAY * history[name][i] + (1 - RMS_DECAY) * gradient**2
                change = rate * RATE * gradient / (history[name][i].sqrt() + 1e-8)
                parts[i] = parts[i].detach() - change
    ours = reference.blobs(place / "steps" / "toy-shapes" / "stage1" / "weights.caffemodel")
    for name, parts in weights.items():
        for mine, theirs, before in zip(parts, ours[name], start[name], strict=True):
            assert np.abs(theirs - before).max() > RATE
            np.testing.assert_allclose(theirs, mine.numpy(), atol=2e-5)
    np.testing.assert_allclose(
        columns(place / "steps" / "toy-shapes" / "stage1" / "log.csv")["loss"], losses, atol=2e-6
    )


def test_validation_loss_and_plateaus(call, data, place):
    asked = ("--schedule", "plateau", "--validation-fraction", "0.25", "--validate-every", "3", "--patience", "1")
    numbers = ("--iterations", "90", "--base-lr", "0.3", "--snapshot-every", "3", "--keep", "30")
    call("run_stage", "--system", "toy", "--data", "data", "--runs", "plateau", *asked, *numbers)
    stage = place / "plateau" / "toy-shapes" / "stage1"
    found = columns(stage / "validation.csv")
    _, views, labels = reference.records(data, "train")
    views, labels = views[-10:], labels[-10:]
    rates, rate, best, ended = [], 0.3, np.inf, False
    for iteration, loss in zip(found["iteration"], found["loss"], strict=True):
        weights = reference.blobs(stage / f"iter_{int(iteration):06d}.caffemodel")
        expected = reference.losses(reference.scores(weights, views), labels).mean()
        assert loss == pytest.approx(expected, abs=1e-5)
        assert not ended
        rates.append(rate)
        ended = loss >= best and rate == 1e-5
        best, rate = (loss, rate) if loss < best else (best, max(rate / 10, 1e-5))
    assert ended and found["iteration"] == list(range(3, 3 * len(rates) + 1, 3)) and len(set(rates)) == 6
    assert found["lr"] == pytest.approx(rates)
    manifest = json.loads((stage / "manifest.json").read_text())
    lowest = int(np.argmin(found["loss"]))
    assert manifest["best_validation"]["iteration"] == found["iteration"][lowest]
    status = call("run_stage", "--system", "toy", "--runs", "plateau", "--status").stdout
    assert f"best validation loss {found['loss'][lowest]:.4f}" in status


def test_predictions_are_those_of_the_reference(predicted, trained, data):
    keys, views, labels = reference.records(data, "test")
    with np.load(predicted) as found:
        assert found["keys"].tolist() == keys and found["classes"].tolist() == list(CLASSES)
        assert ((found["labels"] == 1) == labels).all()
        expected = reference.scores(reference.blobs(trained.weights), views).numpy()
        assert np.ptp(expected) > 1
        np.testing.assert_allclose(found["verdict"], expected, atol=2e-5)


def test_lone_caffemodel_is_recognised(call, predicted, trained, data, place):
    shutil.copy(trained.weights, place / "lone.caffemodel")
    call("predict", "lone.caffemodel", "--data", "data", "-o", "lone.npz")
    with np.load(place / "lone.npz") as lone, np.load(predicted) as found:
        assert lone["verdict"].tobytes() == found["verdict"].tobytes()


def test_photo(call, trained, data, place):
    image = np.random.default_rng(3).integers(0, 256, (INPUT.stored_size, INPUT.stored_size, 3), np.uint8)
    image[:40] //= 3
    cv2.imwrite(str(place / "photo.png"), image)
    shown = call("predict", "photo.png", "--top", "4").stdout.splitlines()
    logits = reference.scores(reference.blobs(trained.weights), reference.view(image)[None]).numpy()[0]
    best = np.argsort(-logits)[:4]
    assert shown == ["photo.png", *(f"  {1 / (1 + np.exp(-logits[i])):6.1%}  {CLASSES[i]}" for i in best)]


def test_evaluate_and_compare(call, predicted, trained):
    call("evaluate")
    with np.load(predicted) as found:
        logits, labels = found["verdict"], found["labels"] == 1
    figures = json.loads((trained.run / "metrics.json").read_text())["predictions"][0]["scores"]
    assert list(figures) == ["verdict"]
    known = [i for i in range(len(CLASSES)) if labels[:, i].any()]
    expected = np.mean([reference.average_precision(logits[:, i], labels[:, i]) for i in known])
    assert figures["verdict"]["mAP_non_interpolated"] == pytest.approx(expected)
    hits, said, there = ((logits > 0) & labels).sum(), (logits > 0).sum(), labels.sum()
    assert figures["verdict"]["threshold"]["F1-O"] == pytest.approx(2 * hits / (said + there))

    printed = call("compare").stdout
    assert "the paper has no figures for this data set" in printed
    compared = json.loads((trained.run / "compare.json").read_text())
    (one,) = compared["comparisons"]
    assert (one["method"], one["score"], compared["paper_has_figures"]) == ("Toy", "verdict", False)
    ours = {row["metric"]: row["ours"] for row in one["rows"]}
    assert ours["mAP"] == pytest.approx(100 * figures["verdict"]["mAP"])
    assert ours["F1-O"] == pytest.approx(100 * 2 * hits / (said + there))


def test_report_names_the_toy_alone(call, predicted, trained):
    call("report")
    page = (trained.run / "report.html").read_text("utf-8")
    assert "<h1>Toy: toy-shapes</h1>" in page and "a sieve of 6 channels" in page
    assert "Toy has no attention maps" in page and "what the sieve makes of an image" in page
    words = re.sub(r"data:[a-z/;]+base64,[A-Za-z0-9+/=]+", "", page)
    assert len(words) < len(page) and not re.findall(r"(?i)\bsrn\b", words)


def test_pictures(call, trained, place):
    call("visualize", "curves")
    assert cv2.imread(str(trained.run / "loss_curves.png")).std() > 1
    for asked in (["visualize", "attention"], ["visualize", "neurons"], ["predict", "photo.png", "--attention"]):
        cv2.imwrite(str(place / "photo.png"), np.zeros((9, 9, 3), np.uint8))
        assert "error: Toy has no " in call(*asked, code=2).stderr


LOADING = """
import sys, numpy as np, torch
from pysrn.convert.torch_model import ToyNet
from pysrn.convert.torch_files import load_pretrained
net = load_pretrained(sys.argv[1])
assert type(net) is ToyNet and not net.training
inputs = np.load(sys.argv[2])
with torch.inference_mode():
    plain, behind = net(torch.tensor(inputs["views"])), net.with_preprocessing()(torch.tensor(inputs["rgb"]))
assert plain._fields == ("verdict",)
np.savez(sys.argv[3], plain=plain.verdict, behind=behind.verdict, names=net.class_names)
"""


def test_pytorch_and_back(call, predicted, trained, data, place):
    call("to_torch", "-o", "torch/toy.pth")
    (file,) = (place / "torch").glob("toy-*.safetensors")
    card = json.loads(file.with_suffix(".json").read_text())
    assert (card["system"], card["trunk"], card["outputs"]["scores"], card["outputs"]["maps"]) == (
        "toy", "sieve6", ["verdict"], [],
    )  # fmt: skip
    assert (card["input_size"], card["mean"], card["scale"]) == ([64, 64], list(INPUT.mean), INPUT.scale)
    assert call("to_torch", file, "--verify").stdout.count(" ok") == 1
    _, views, _ = reference.records(data, "test")
    rgb = (views / INPUT.scale + np.reshape(INPUT.mean, (3, 1, 1)))[:, ::-1] / 255
    np.savez(place / "inputs.npz", views=views.astype(np.float32), rgb=rgb.astype(np.float32))
    words = [sys.executable, "-c", LOADING, str(file), "inputs.npz", "outputs.npz"]
    done = subprocess.run(words, cwd=place, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(place / "outputs.npz") as loaded, np.load(predicted) as found:
        np.testing.assert_allclose(loaded["plain"], found["verdict"], atol=2e-5)
        np.testing.assert_allclose(loaded["behind"], found["verdict"], atol=2e-5)
        assert loaded["names"].tolist() == list(CLASSES)
    call("from_torch", file, "-o", "back.caffemodel")
    before, after = read_weights(trained.weights), read_weights(place / "back.caffemodel")
    assert before.keys() == after.keys() == {"sieve", "tell_fc"}
    for name, parts in before.items():
        assert [blob.tobytes() for blob in parts] == [blob.tobytes() for blob in after[name]]
        assert [blob.shape for blob in parts] == [blob.shape for blob in after[name]]


def test_generated_files(call, place):
    folder = place / "prototxt" / "toy" / "shapes"
    written = call("make_prototxt", "--system", "toy", "--out", "prototxt").stdout.split()
    assert written == [f"prototxt/toy/shapes/{name}.prototxt" for name in ("stage1_only", "stage1_solver", "deploy")]
    net = text_format.Parse((folder / "stage1_only.prototxt").read_text(), NetParameter())
    assert [layer.name for layer in net.layer] == [
        "data", "sieve", "sieve_relu", "sieve_mean", "tell_fc", "target", "loss_verdict",
    ]  # fmt: skip
    deploy = text_format.Parse((folder / "deploy.prototxt").read_text(), NetParameter())
    assert list(deploy.layer[0].input_param.shape[0].dim) == [1, 3, 64, 64] and deploy.layer[-1].top == ["verdict"]
    solver = text_format.Parse((folder / "stage1_solver.prototxt").read_text(), SolverParameter())
    assert (solver.type, solver.momentum) == ("RMSProp", 0) and solver.rms_decay == pytest.approx(RMS_DECAY)
    assert "up to date" in call("make_prototxt", "--system", "toy", "--out", "prototxt", "--check").stdout
    (folder / "deploy.prototxt").unlink()
    assert "deploy" in call("make_prototxt", "--system", "toy", "--out", "prototxt", "--check", code=4).stderr


def test_weights_of_the_parts_are_counted(call, data):
    table = call("make_prototxt", "--system", "toy", "--count").stdout
    assert "| trunk |" in table and "| teller |" in table


@pytest.mark.parametrize(
    "asked",
    [
        ("--system", "toy", "--trunk", "resnet101"),
        ("--system", "srn", "--trunk", "sieve6"),
        ("--system", "toy", "--attention-width", "3"),
        ("--system", "srn", "--run", "toy-shapes"),
        ("2", "--system", "toy"),
        ("--system", "toy", "--dataset", "coco"),
    ],
)
def test_what_the_toy_has_not_is_wrong_usage(call, trained, data, asked):
    assert "error: " in call("run_stage", *asked, "--data", "data", "--dry-run", code=2).stderr


@pytest.mark.parametrize(
    ("name", "systems"),
    [
        ("run_stage", "tests.systems.nowhere"),
        ("make_prototxt", "tests.systems.nowhere"),
        ("evaluate", "tests.systems.nowhere"),
        ("evaluate", "tests.systems"),  # a module, but no system in it
    ],
)
def test_module_without_a_system_is_wrong_usage(call, trained, name, systems):
    assert "PYSRN_SYSTEMS" in call(name, code=2, systems=systems).stderr


def test_run_of_a_system_that_is_not_there_is_wrong_usage(call, trained):
    assert "no system toy" in call("run_stage", "--run", "toy-shapes", "--status", code=2, systems="").stderr
