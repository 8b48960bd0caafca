"""tools/from_torch.py: ImageNet nets and our own, both sides run; what does not fit is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.convert import torch_import, torch_weights
from pysrn.convert.layer_check import difference
from pysrn.nets.caffemodel import read_weights
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.trunks import imagenet
from pysrn.systems.trunks.resnet import TRUNKS
from tests.srn import INPUT, Architecture, check_images, replace
from tools.from_torch import main

TORCHVISION, TIMM = imagenet.FAMILIES


@pytest.fixture(scope="session")
def references():
    """The modules torchvision.models and timm. Their nets need none of torchvision's compiled operators."""
    library = None
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:  # a build for another torch; that the operators exist is enough
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    timm = pytest.importorskip("timm")
    from torchvision import models

    yield models, timm
    del library


def random_weights(spec, family, seed=0):
    """A state dict in the family's names, of the trunk `spec`; scales such that values stay of order 1."""
    random, values = torch.Generator().manual_seed(seed), {}
    from pysrn.systems.trunks.torch_resnet import Trunk

    modules = dict(Trunk(spec).named_modules())
    for ours, theirs in imagenet._names(spec, family):
        if isinstance(module := modules.get(ours), torch.nn.Conv2d):
            shape = module.weight.shape
            values[f"{theirs}.weight"] = torch.randn(shape, generator=random) * (2 / shape[1:].numel()) ** 0.5
        elif isinstance(module, torch.nn.BatchNorm2d):
            count = module.num_features
            last = ours.endswith(("branch2c", "branch1"))
            values[f"{theirs}.weight"] = torch.rand(count, generator=random) * (0.5 if last else 1) + 0.2
            for part in ("bias", "running_mean"):
                values[f"{theirs}.{part}"] = torch.randn(count, generator=random) * 0.1
            values[f"{theirs}.running_var"] = torch.rand(count, generator=random) + 0.5
            values[f"{theirs}.num_batches_tracked"] = torch.tensor(7)
    classifier = (10, spec.width * 32) + (1, 1) * family.preact
    values[("head.fc" if family.preact else "fc") + ".weight"] = torch.randn(classifier, generator=random)
    values[("head.fc" if family.preact else "fc") + ".bias"] = torch.randn(10, generator=random)
    return values


@pytest.mark.parametrize("family", [TORCHVISION, TIMM], ids=["torchvision", "timm"])
def test_an_imagenet_net_goes_into_caffe(family, tmp_path, monkeypatch, capsys):
    """Several blocks a stage, numbered as in the nets of 101 layers."""
    trunk = replace(TRUNKS["resnet101_preact" if family.preact else "resnet101_v15"], blocks=(1, 3, 2, 2), width=8)
    monkeypatch.setitem(TRUNKS, trunk.name, trunk)
    values = random_weights(trunk, family)
    path = tmp_path / "imagenet.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in values.items()}}, path)
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 blobs within it" in printed and "tools/run_stage.py 1 --" in printed
    assert ("--variant released" in printed) == family.preact
    assert sorted(file.name for file in tmp_path.iterdir()) == ["imagenet.caffemodel", "imagenet.pth"]
    weights, images = read_weights(path.with_suffix(".caffemodel")), check_images(2, seed=8)
    assert len(weights["conv1"]) == 1 + trunk.conv1_bias
    found = torch_import.trunk_in_caffe(trunk, path.with_suffix(".caffemodel"), images)
    theirs = imagenet.their_input(images, INPUT, *family.normalisation)
    exact = imagenet.their_forward(values, family, theirs, imagenet.shift_bgr(INPUT, *family.normalisation)[::-1])
    plain = imagenet.their_forward(values, family, theirs)
    for ours, same, original in zip(found, exact, plain, strict=True):
        assert difference(same.numpy(), ours).relative < 1e-5
        assert np.std(ours) > 0.01
        border = difference(original.numpy(), ours).relative
        assert 1e-5 < border < (0.2 if family.preact else 0.02)  # our mean colour beyond the border, in place of theirs


def test_the_reference_is_what_torchvision_and_timm_compute(references):
    models, timm = references
    images = check_images(1, seed=3)
    for family, net in (
        (TORCHVISION, models.resnet50()),
        (TIMM, timm.create_model("resnetv2_50")),
    ):
        torch.manual_seed(0)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        theirs = imagenet.their_input(images, INPUT, *family.normalisation)
        with torch.inference_mode():
            net(theirs.expand(2, -1, -1, -1))  # gives BN statistics
            net.eval()
            if family is TORCHVISION:
                x = net.maxpool(net.relu(net.bn1(net.conv1(theirs))))
                expected = net.layer4(net.layer3(net.layer2(net.layer1(x))))
            else:
                expected = net.forward_features(theirs)
            values = net.state_dict()
            assert imagenet.family_of(values) is family
            _, top = imagenet.their_forward(values, family, theirs)
        assert difference(expected.numpy(), top.numpy()).relative < 1e-6
        assert (
            tuple(map(float, (net.default_cfg["mean"] if family is TIMM else imagenet.IMAGENET[0])))
            == (family.normalisation[0])
        )
        spec = imagenet.trunk_of(values, family, "test")
        assert spec.name == "resnet50" + ("_preact" if family is TIMM else "_v15")
        imagenet.trunk_with(values, family, "test")


@pytest.mark.parametrize("ending", ["", "_v15", "_preact"])
def test_our_own_weights_go_back(ending, tmp_path, capsys):
    heads = HeadSpec(32, 32, variant="released" if ending == "_preact" else "paper", confidence_width=32)
    path = write_realistic(
        tmp_path / "weights.caffemodel", Architecture(f"resnet14{ending}", 6, heads), check_images(2)
    )
    save_file(torch_weights.load_model(path).state_dict(), tmp_path / "srn.safetensors")
    assert main([str(tmp_path / "srn.safetensors"), "-o", str(tmp_path / "back.caffemodel")]) == 0
    assert "Caffe and PyTorch" in capsys.readouterr().out
    before, after = read_weights(path), read_weights(tmp_path / "back.caffemodel")
    assert before.keys() == after.keys()
    for name, blobs in before.items():
        assert [blob.tobytes() for blob in blobs] == [blob.tobytes() for blob in after[name]]


@pytest.fixture(scope="module")
def our_values(tmp_path_factory):
    path = tmp_path_factory.mktemp("ours") / "weights.caffemodel"
    write_realistic(path, Architecture("resnet14", 6, HeadSpec(16, 16)), check_images(2))
    return torch_weights.load_model(path).state_dict()


def test_weights_saved_in_half_precision(our_values, tmp_path, capsys):
    torch.save({name: value.bfloat16() for name, value in our_values.items()}, tmp_path / "half.pth")
    assert main([str(tmp_path / "half.pth")]) == 0
    weight = read_weights(tmp_path / "half.caffemodel")["cls_fc"][0]
    np.testing.assert_array_equal(weight, our_values["cls_fc.weight"].bfloat16().float().numpy())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("extra", torch.ones(3), "extra is no tensor of a net of ours"),
        ("extra.weight", torch.ones(3, 3), "unknown to the net: extra"),
        ("cls_fc.alpha", torch.ones(3), '"cls_fc.alpha"'),
        ("cls_fc.weight", torch.tensor(1.0), "layer cls_fc has blobs"),
        ("trunk.bn_conv1.running_var", torch.ones(5), "layer bn_conv1 has blobs"),
        ("trunk.bn_conv1.running_mean", torch.tensor(1.0), "bn_conv1.running_mean is no tensor of a net of ours"),
        ("sr_fc.bias", None, "layer sr_fc has blobs"),
        ("sr_fc.bias", torch.full((6,), float("nan")), "sr_fc.bias holds NaN"),
    ],
)
def test_a_state_dict_that_is_not_srns_is_one_line(our_values, name, value, reason, tmp_path, capsys):
    values = {key: kept for key, kept in (our_values | {name: value}).items() if kept is not None}
    torch.save(values, tmp_path / "srn.pth")
    assert main([str(tmp_path / "srn.pth")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["srn.pth"]


def test_a_wrong_fold_is_exit_4_and_the_old_file_stays(tmp_path, monkeypatch, capsys):
    torch.save(random_weights(TRUNKS["resnet14_v15"], TORCHVISION), tmp_path / "net.pth")
    (tmp_path / "net.caffemodel").write_bytes(b"good work")
    right = imagenet.fold_input
    monkeypatch.setattr(imagenet, "fold_input", lambda trunk, ours, mean, deviation: right(trunk, ours, mean, mean))
    assert main([str(tmp_path / "net.pth")]) == 4
    assert (tmp_path / "net.caffemodel").read_bytes() == b"good work"
    assert len(list(tmp_path.iterdir())) == 2 and "OUT OF TOLERANCE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (lambda values: values.pop("layer3.0.bn2.running_var"), 1, "layer3.0.bn2.running_var is missing"),
        (lambda values: values.update({"layer2.0.se.weight": torch.ones(3)}), 1, "the first is layer2.0.se.weight"),
        (
            lambda values: values.update({"layer2.0.conv2.weight": torch.ones(16, 1, 3, 3)}),
            1,
            "conv2.weight has (16, 1",
        ),
        (lambda values: values.pop("layer4.0.conv3.weight"), 1, "1+1+1+0 blocks"),
        (lambda values: values.pop("conv1.weight"), 1, "is of another net"),
        (lambda values: values.update({"epoch": 3}), 1, "holds no state dict"),
        (lambda values: values["layer1.0.bn1.bias"].fill_(float("inf")), 1, "layer1.0.bn1.bias holds NaN or infinity"),
    ],
)
def test_bad_input_is_one_line(change, code, reason, tmp_path, capsys):
    values = random_weights(TRUNKS["resnet14_v15"], TORCHVISION)
    change(values)
    torch.save(values, tmp_path / "net.pth")
    assert main([str(tmp_path / "net.pth")]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("words", [["--mean", "123.7,116.3,103.5"], ["--std", "0,1,1"], ["--mean", "a,b,c"]])
def test_means_of_another_range_are_wrong_usage(words, tmp_path, capsys):
    """With 0 to 255 the fold would be of another net, and the comparison, with the same numbers, would not tell."""
    torch.save(random_weights(TRUNKS["resnet14_v15"], TORCHVISION), tmp_path / "net.pth")
    try:
        code = main([str(tmp_path / "net.pth"), *words])
    except SystemExit as left:
        code = left.code
    assert code == 2 and [path.name for path in tmp_path.iterdir()] == ["net.pth"]
    assert "numbers from 0 to 1 are needed" in (said := capsys.readouterr().err) or "--std must be above 0" in said


@pytest.mark.parametrize(
    ("name", "code"), [("text.pth", 1), ("text.safetensors", 1), ("none.pth", 3), ("text.caffemodel", 2)]
)
def test_no_weights_at_all(name, code, tmp_path, capsys):
    (tmp_path / "text.pth").write_text("not a net\n")
    (tmp_path / "text.safetensors").write_text("not a net\n")
    (tmp_path / "text.caffemodel").write_text("not a net\n")
    assert main([str(tmp_path / name)]) == code
    assert name in capsys.readouterr().err
