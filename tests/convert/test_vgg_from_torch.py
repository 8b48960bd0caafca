"""tools/from_torch.py with torchvision's VGG-16, whose state dict is built by its names."""

import numpy as np
import pytest
import torch

from pysrn.convert import torch_import
from pysrn.convert.layer_check import difference
from pysrn.nets.caffemodel import read_weights
from pysrn.systems.registry import system_named
from pysrn.systems.trunks import imagenet_vgg, torch_vgg, vgg
from pysrn.systems.trunks.imagenet import IMAGENET, shift_bgr, their_input
from tests.srn import check_images
from tools.from_torch import main

INPUT = system_named("cnn_rnn").input
# torchvision/models/vgg.py, configuration D: numbers of the convolutions in `features`
NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


@pytest.fixture
def narrow(monkeypatch):
    """VGG-16 an eighth as wide, fully connected layers of 32."""
    for block, channels in list(vgg.CHANNELS.items()):
        monkeypatch.setitem(vgg.CHANNELS, block, tuple(count // 8 for count in channels))
    monkeypatch.setattr(vgg, "WIDTH", 32)
    monkeypatch.setattr(torch_vgg, "WIDTH", 32)
    monkeypatch.setattr(torch_vgg, "FEATURES", 64 * 7 * 7)


def random_net(classes=10):
    """The net as torchvision builds it, with random weights of order 1 in each layer's output."""
    torch.manual_seed(0)
    layers, inputs = [], 3
    for channels in vgg.CHANNELS.values():
        for count in channels:
            layers += [torch.nn.Conv2d(inputs, count, 3, padding=1), torch.nn.ReLU()]
            inputs = count
        layers.append(torch.nn.MaxPool2d(2, 2))
    width = vgg.WIDTH
    full = [torch.nn.Linear(inputs * 49, width), torch.nn.ReLU(), torch.nn.Dropout()]
    full += [torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(width, classes)]
    net = torch.nn.ModuleDict({"features": torch.nn.Sequential(*layers), "classifier": torch.nn.Sequential(*full)})
    for parameter in net.parameters():
        std = 0.1 if parameter.ndim == 1 else (2 / parameter[0].numel()) ** 0.5
        torch.nn.init.normal_(parameter, std=std)
    return net.eval()


def assert_converted(path, capsys):
    """Convert a random net, and compare with torch.nn's own layers; only the border may differ."""
    net = random_net()
    assert [int(name.split(".")[1]) for name in net.state_dict() if name.startswith("features")][::2] == [*NUMBERS]
    torch.save(net.state_dict(), path)
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 blobs within it" in printed and "OUT OF" not in printed
    assert "train with it: tools/run_stage.py --system cnn_rnn --trunk vgg16 --weights" in printed
    written = path.with_suffix(".caffemodel")
    weights = read_weights(written)
    assert list(weights) == [name for name, _ in torch_vgg.Vgg16().named_children()]
    images = check_images(2, seed=8)
    found = torch_import.trunk_in_caffe(imagenet_vgg.VggTrunk(), written, images, imagenet_vgg)
    read = their_input(images, INPUT, *IMAGENET)
    with torch.inference_mode():
        original = net["features"](read)
        originals = original, net["classifier"][:5](original.flatten(1))
    border = shift_bgr(INPUT, *IMAGENET)[::-1]
    exact = imagenet_vgg.their_forward(net.state_dict(), imagenet_vgg.FAMILY, read, border)
    plain = imagenet_vgg.their_forward(net.state_dict(), imagenet_vgg.FAMILY, read)
    for ours, same, reference, theirs in zip(found, exact, plain, originals, strict=True):
        assert difference(theirs.numpy(), reference.numpy()).relative < 1e-5
        assert difference(same.numpy(), ours).relative < 1e-5 and np.std(ours) > 0.01
        assert 1e-6 < difference(theirs.numpy(), ours).relative < 0.03
    middle = np.s_[..., 3, 3]  # sees pixels 6 to 217 of 224, so no border
    assert difference(original.numpy()[middle], found[0][middle]).relative < 1e-5


def test_a_narrow_vgg_goes_into_caffe(narrow, tmp_path, capsys):
    assert_converted(tmp_path / "vgg16.pth", capsys)


@pytest.mark.slow
def test_vgg_16_itself_goes_into_caffe(tmp_path, capsys):
    assert_converted(tmp_path / "vgg16.pth", capsys)
    shapes = {name: blobs[0].shape for name, blobs in read_weights(tmp_path / "vgg16.caffemodel").items()}
    assert shapes["conv5_3"] == (512, 512, 3, 3) and shapes["fc6"] == (4096, 25088) and len(shapes) == 15


def test_without_caffe_the_file_is_read_back(narrow, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch_import.torch_export, "has_caffe", lambda: False)
    torch.save(random_net().state_dict(), tmp_path / "vgg16.pth")
    assert main([str(tmp_path / "vgg16.pth")]) == 0
    printed = capsys.readouterr().out
    assert "The file read back" in printed and "2 of 2 blobs within it" in printed


def test_a_wrong_fold_is_exit_4_and_nothing_is_written(narrow, tmp_path, monkeypatch, capsys):
    torch.save(random_net().state_dict(), tmp_path / "vgg16.pth")
    right = imagenet_vgg.fold_input
    monkeypatch.setattr(imagenet_vgg, "fold_input", lambda trunk, ours, mean, std: right(trunk, ours, mean, mean))
    assert main([str(tmp_path / "vgg16.pth")]) == 4
    assert len(list(tmp_path.iterdir())) == 1 and "OUT OF TOLERANCE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values.pop("classifier.3.bias"), "classifier.3.bias is missing"),
        (lambda values: values.update({"features.1.running_mean": torch.ones(8)}), "first is features.1.running_mean"),
        (lambda values: values.update({"features.0.weight": torch.ones(8, 3, 11, 11)}), "has (8, 3, 11, 11)"),
        (lambda values: values.pop("features.14.weight"), "features.14.weight is missing, VGG-16 wants"),
        (lambda values: [values.pop(name) for name in list(values) if "classifier" in name], "is of another net"),
        (lambda values: values["features.28.bias"].fill_(float("nan")), "features.28.bias holds NaN"),
    ],
)
def test_what_is_no_vgg_16_is_one_line(narrow, change, reason, tmp_path, capsys):
    values = random_net().state_dict()
    change(values)
    torch.save(values, tmp_path / "net.pth")
    assert main([str(tmp_path / "net.pth")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
