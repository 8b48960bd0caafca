"""Pictures of labels and of what a path looks at, against PyTorch's own gradients and plain loops."""

import numpy as np
import pytest
import torch

from pysrn.console import UsageError
from pysrn.convert import torch_weights
from pysrn.data.build import build_dataset
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.caffemodel import write_weights
from pysrn.pictures.attention import grid
from pysrn.pictures.figures import save_figure
from pysrn.predict.deploy import DeployNet
from pysrn.systems.cnn_rnn import torch_model
from pysrn.systems.cnn_rnn.heads import CELLS, HeadSpec
from pysrn.systems.cnn_rnn.pictures.labels import cosines, embedding_of, nearest_lines, on_a_plane, picture
from pysrn.systems.cnn_rnn.pictures.looks import Looks, rows
from pysrn.systems.cnn_rnn.trunks import TRUNKS
from pysrn.systems.system import Architecture
from pysrn.systems.trunks import torch_vgg, vgg
from tests.systems.cnn_rnn.recurrent_part import SYSTEM
from tools.visualize import main

CLASSES = 16


@pytest.fixture
def narrow_vgg(monkeypatch):
    """VGG-16 an eighth as wide, fully connected layers of 32."""
    for block, channels in list(vgg.CHANNELS.items()):
        monkeypatch.setitem(vgg.CHANNELS, block, tuple(count // 8 for count in channels))
    for module in (vgg, torch_vgg):
        monkeypatch.setattr(module, "WIDTH", 32)
    monkeypatch.setattr(torch_vgg, "FEATURES", 64 * 7 * 7)
    features = type(TRUNKS["vgg16"].features)("fc7", (32,))
    monkeypatch.setitem(TRUNKS, "vgg16", torch_model.FeatureTrunk("vgg16", "VGG-16", False, features))


def random_weights(path, trunk="resnet14", cell="lstm"):
    """A caffemodel of random weights, and the PyTorch net that has them."""
    torch.manual_seed(1)
    model = torch_weights.empty_model(Architecture(SYSTEM, trunk, CLASSES, HeadSpec(8, 16, cell)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("rnn_project") or name == "rnn_embed.weight":
                parameter.normal_(std=0.8)
            elif parameter.ndim > 1:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
        # Or tanh is level, and nothing has a gradient.
        model.rnn_project_image.weight /= model.features(torch.randn(1, 3, 224, 224)).norm()
    write_weights(path, "random", torch_weights.caffe_layers(model.state_dict()))
    return model


def build_shapes(folder):
    """A small pair of `shapes`; its folder."""
    build_dataset("shapes", folder / "data", seed=3, counts={"train": 4, "test": 4}, workers=1)
    return folder / "data"


def gradients(model, image, path):
    """Feature map x gradient on it of the score of each word, by autograd through the whole path at once."""
    features = model.trunk.features(image) if isinstance(model.trunk, torch_vgg.Vgg16) else model.trunk(image)[1]
    features = features.detach().requires_grad_()
    top = model.trunk.full(features) if isinstance(model.trunk, torch_vgg.Vgg16) else features.mean((2, 3))
    words = [*path.labels, CLASSES]
    scores, _ = model.scores(top, torch.tensor([[CLASSES, *path.labels]]).T)
    for step, word in enumerate(words):
        (gradient,) = torch.autograd.grad(scores[step, 0, word], features, retain_graph=True)
        yield (features * gradient)[0].sum(0).clamp(min=0).detach().numpy()


@pytest.mark.parametrize(("trunk", "cell"), [*(("resnet14", cell) for cell in CELLS), ("vgg16", "lstm")])
def test_steps_look_where_pytorch_s_gradients_say(narrow_vgg, tmp_path, trunk, cell):
    model = random_weights(tmp_path / "net.caffemodel", trunk, cell)
    looks = Looks(DeployNet(tmp_path / "net.caffemodel", search={"shortest_path": 3}))
    image = np.random.default_rng(2).normal(0, 1, (2, 3, 224, 224)).astype(np.float32)
    for one in image[:, None]:
        path, maps = looks(one)
        assert len(maps) == len(path.labels) + 1 >= 4
        expected = list(gradients(model, torch.from_numpy(one), path))
        greatest = max(values.max() for values in expected)
        assert greatest > 1e-3
        for found, wanted in zip(maps, expected, strict=True):
            assert found.shape == (7, 7)
            np.testing.assert_allclose(found, wanted, atol=1e-4 * greatest)


def test_nearest_labels_and_the_plane():
    points = np.random.default_rng(0).normal(size=(6, 5)) * [3, 1, 1, 1, 5]
    alike = cosines(points)
    for i in range(6):
        for j in range(6):
            expected = points[i] @ points[j] / np.sqrt((points[i] ** 2).sum() * (points[j] ** 2).sum())
            assert alike[i, j] == pytest.approx(expected)
    places, shares = on_a_plane(points)
    values, axes = np.linalg.eigh(np.cov(points.T))
    assert shares == pytest.approx(values[::-1][:2] / values.sum())
    for number in range(2):
        axis = axes[:, -1 - number]
        expected = (points - points.mean(0)) @ (axis * np.sign(axis[np.abs(axis).argmax()]))
        np.testing.assert_allclose(places[:, number], expected, atol=1e-12)
    order = sorted((j for j in range(6) if j != 2), key=lambda j: -alike[2, j])[:3]
    wanted = ", ".join(f"{'abcdef'[j]} {alike[2, j]:.2f}" for j in order)
    assert nearest_lines(points, "abcdef")[2] == f"c: {wanted}"


def test_few_labels_and_rows_of_zeros():
    places, shares = on_a_plane(np.ones((1, 4)))
    assert places.tolist() == [[0, 0]] and shares.tolist() == [0, 0]
    assert nearest_lines(np.ones((1, 4)), ["only"]) == ["only"]
    assert cosines(np.array([[0.0, 0], [2, 0]])).tolist() == [[0, 0], [0, 1]]
    places, _ = on_a_plane(np.array([[1.0], [3.0]]))
    assert np.abs(places[:, 0]).tolist() == [1, 1] and not places[:, 1].any()


def test_pictures_by_the_tool(tmp_path, capsys):
    build_shapes(tmp_path)
    weights = tmp_path / "net.caffemodel"
    random_weights(weights)
    words = [str(weights), "--data", str(tmp_path / "data")]
    assert main(["labels", *words]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == CLASSES + 1 and printed[0].startswith("circle: ")
    assert printed[0].count(",") == 2 and (tmp_path / "labels.png").stat().st_size > 5000
    out = tmp_path / "steps.png"
    assert main(["steps", *words, "--images", "2", "0", "-o", str(out)]) == 0
    assert "2 images" in capsys.readouterr().out and out.stat().st_size > 5000
    assert main(["steps", *words, "--images", "9"]) == 2
    assert "no sample 9" in capsys.readouterr().err
    assert main(["steps", *words, "--count", "0"]) == 2


def test_labels_with_dollars_are_drawn_as_they_are(tmp_path):
    """Between two of them matplotlib reads a formula, and may fail."""
    weights = tmp_path / "net.caffemodel"
    random_weights(weights)
    net = DeployNet(weights, search={"shortest_path": 2})
    names = [rf"$\frac{number}$" for number in range(CLASSES)]
    pair = PairReader(build_shapes(tmp_path), "test")
    pair.classes = tuple(names)
    for number, figure in enumerate([picture(net, names)[0], grid(rows(net, pair, [0, 1]))]):
        save_figure(figure, tmp_path / f"{number}.png")


def test_what_has_no_such_pictures_is_told(tmp_path, capsys):
    weights = tmp_path / "main.caffemodel"
    model = random_weights(tmp_path / "net.caffemodel")
    layers = torch_weights.caffe_layers(model.state_dict())
    layers = {name: part for name, part in layers.items() if not name.startswith("rnn_")}
    layers["cls_fc"] = ("InnerProduct", [np.zeros((CLASSES, 256), np.float32), np.zeros(CLASSES, np.float32)])
    write_weights(weights, "main", layers)
    net = DeployNet(weights)
    for make in (embedding_of, Looks):
        with pytest.raises(UsageError, match="yet"):
            make(net)
