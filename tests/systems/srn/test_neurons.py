"""conv4's neurons: the linear path against the net itself where no ReLU cuts, ranking by hand, and the tool."""

import cv2
import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import without, write_realistic
from pysrn.nets.caffemodel import read_layers, write_weights
from pysrn.predict.deploy import DeployNet
from pysrn.recipes import class_names
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.srn.neurons import Regulariser, regulariser_of
from tests.srn import Architecture, check_images
from tools.visualize import main

HEADS = {
    "paper": ("resnet14", HeadSpec(32, 16, 2)),
    "released": ("resnet14_preact", HeadSpec(32, 16, 2, variant="released", confidence_width=24)),
}


@pytest.mark.parametrize("variant", HEADS)
def test_linear_path_is_exact_where_nothing_is_negative(variant, tmp_path):
    trunk, heads = HEADS[variant]
    images = check_images(2)
    path = write_realistic(tmp_path / "w.caffemodel", Architecture(trunk, 16, heads), images)
    layers = read_layers(path)
    for name in ("sr_conv2", "sr_conv3"):  # positive weights, no shifts: the ReLUs let everything through
        layers[name][1][0] = abs(layers[name][1][0])
        if variant == "paper":
            layers[name][1][1][:] = 0
        else:
            layers[f"{name}_bn"][1][0][:] = 0
            layers[f"{name}_scale"][1][0][:] = abs(layers[f"{name}_scale"][1][0])
            layers[f"{name}_scale"][1][1][:] = 0
    write_weights(path, "positive", layers)
    net = DeployNet(path, folded=True, kept=["sr_conv4"])
    outputs = net.forward(images, ["sr_map", "sr_conv4", "score_sr"])
    found = regulariser_of(net)
    assert found.inputs.shape == (32, 16) and found.kernels.shape == (32, 14, 14) and found.votes.shape == (16, 32)
    bias = net.net.params["sr_conv4"][1].data
    for neuron in range(32):
        kernels = np.stack([found.kernel(neuron, label) for label in range(16)])
        answer = (outputs["sr_map"] * kernels).sum(axis=(1, 2, 3)) + bias[neuron]
        np.testing.assert_allclose(outputs["sr_conv4"][:, neuron, 0, 0], np.maximum(answer, 0), rtol=1e-3, atol=1e-4)
    assert (outputs["sr_conv4"] > 0).mean() > 0.1
    logits = outputs["sr_conv4"][:, :, 0, 0] @ found.votes.T + net.net.params["sr_fc"][1].data
    np.testing.assert_allclose(outputs["score_sr"], logits, rtol=1e-3, atol=1e-4)


def test_ranking_does_not_depend_on_which_layer_holds_the_size():
    inputs = np.array([[1.0, -3, 2], [0, 1, 0], [2, 0, 0]])
    kernels = np.stack([np.full((14, 14), size) for size in (1.0, 10, 1)])
    votes = np.array([[1.0, 2, -9], [0, 0, 0], [0, 0, 0]])
    found = Regulariser(inputs, kernels, votes)
    # vote x kernel x inputs: 1 * 1 * sqrt(14), 2 * 10 * 1, -9 * 1 * 2 (times 14)
    assert found.strongest_for(0, 3) == [1, 0, 2] and found.strongest_for(0, 1) == [1]
    assert found.strongest_inputs(0, 2) == [1, 2]
    same = Regulariser(inputs * [[1], [1000], [1]], kernels / np.array([1, 1000, 1])[:, None, None], votes)
    assert same.strongest_for(0, 3) == [1, 0, 2]
    assert found.kernel(0, 1)[5, 5] == -3


def test_tool(shapes_folder, shapes_model, tmp_path, capsys):
    out, data = tmp_path / "n.png", ["--data", str(shapes_folder)]
    assert main(["neurons", str(shapes_model), *data, "-o", str(out), "--neurons", "5", "0", "--inputs", "3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("neuron 5: speaks for ") and printed[1].startswith("neuron 0: ")
    small = cv2.imread(str(out))
    assert small.std() > 5
    assert main(["neurons", str(shapes_model), *data, "-o", str(out), "--label", "star", "--count", "4"]) == 0
    assert cv2.imread(str(out)).shape[0] == 2 * small.shape[0]
    best = regulariser_of(DeployNet(shapes_model, folded=True)).strongest_for(class_names("shapes").index("star"), 4)
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1].rstrip(":")) for line in lines[:4]] == best


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["{model}"], 2, "its labels have no names"),
        (["{model}", "--data", "{data}", "--neurons", "128"], 2, "no neuron 128: conv4 has 128"),
        (["{model}", "--data", "{data}", "--label", "unicorn"], 2, "no label unicorn"),
        (["{model}", "--data", "{data}", "--inputs", "0"], 2, "at least 1"),
        (["{main}", "--data", "{data}"], 2, "has no regulariser"),
    ],
)
def test_bad_input_is_one_line(shapes_folder, shapes_model, tmp_path, capsys, words, code, reason):
    places = {"model": shapes_model, "data": shapes_folder, "main": without(shapes_model, tmp_path / "main", "sr_")}
    assert main(["neurons", *(word.format(**places) for word in words)]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0], errors
    assert not list(shapes_model.parent.glob("*.png"))
