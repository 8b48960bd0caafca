"""Caffe and PyTorch give the same scores and maps; every layer is accounted for."""

import numpy as np
import pytest
import torch

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.console import SrnError
from pysrn.convert import torch_export, torch_files, torch_weights
from pysrn.convert.layer_check import Difference
from pysrn.nets.caffemodel import read_layers, read_weights, write_weights
from pysrn.predict.deploy import DeployNet
from pysrn.systems.srn.heads import VARIANTS, HeadSpec
from pysrn.systems.trunks.resnet import TRUNKS
from tests.srn import MAPS, SCORES, Architecture, check_images, replace

SMALL = Architecture("resnet14", 12, HeadSpec(64, 64))
RELEASED = Architecture("resnet14_preact", 12, HeadSpec(48, 32, 2, variant="released", confidence_width=40))
APART = replace(RELEASED, heads=replace(RELEASED.heads, confidence_sees_blocks=False))
MIXED = replace(RELEASED, trunk="resnet14")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A caffemodel of the small trunk with realistic random weights."""
    path = tmp_path_factory.mktemp("small") / "weights.caffemodel"
    return write_realistic(path, SMALL, check_images(2))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("trunk", list(TRUNKS))
def test_every_layer_of_caffe_has_its_place_in_pytorch(trunk, variant):
    from pysrn.nets.layers import parameter_layers
    from pysrn.predict.deploy import deploy_message

    architecture = Architecture(trunk, 5, HeadSpec(variant=variant))
    shapes = torch_weights.caffe_shapes(torch_weights.empty_model(architecture))
    assert sorted(shapes) == sorted(parameter_layers(deploy_message(architecture)))


def test_small_net_agrees_with_caffe(small_model):
    model, images = torch_weights.load_model(small_model), check_images(3, seed=1)
    net = DeployNet(small_model)
    outputs = net.forward(images, (*SCORES, *MAPS))
    assert all(0.3 < outputs[score].std() < 10 for score in SCORES)  # else agreement would say little
    assert outputs["att_map"].max() > 0.05
    differences = torch_export.verify(net, model, images)
    steps = {"data", "pool5", "att_flatten", "att_softmax", "att_weighted", "conf_gate"}
    assert {name for name in net.net.blobs if "_split_" not in name} - set(differences) == steps
    assert tuple(differences)[-7:] == (*SCORES, *MAPS)
    assert max(found.absolute for found in differences.values()) < 1e-4, differences


@pytest.mark.parametrize("architecture", [RELEASED, APART, MIXED], ids=["released", "apart", "other trunk"])
def test_released_nets_agree_with_caffe(tmp_path, architecture):
    images = check_images(2, seed=3)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, images)
    net, model = DeployNet(path), torch_weights.load_model(path)
    assert net.architecture == architecture
    images = check_images(3, seed=1)
    outputs = net.forward(images, (*SCORES, *MAPS))
    assert all(0.3 < outputs[score].std() < 10 for score in SCORES) and outputs["att_map"].max() > 0.05
    differences = torch_export.verify(net, model, images)
    assert max(found.absolute for found in differences.values()) < 1e-4, differences
    with torch.no_grad():  # every BN of the heads counts
        for name in (
            "att_conv1_bn",
            "conf_conv1_bn",
            "sr_conv4_bn",
            *(n for n, _ in model.named_children() if "input" in n),
        ):
            part = getattr(model, name)
            part.running_mean += 0.5
            spoilt = torch_export.verify(net, model, images)
            part.running_mean -= 0.5
            assert max(found.absolute for found in spoilt.values()) > 1e-3, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_net_of_50_layers_agrees_with_caffe(tmp_path, variant):
    """At full width; also the trunk whose conv1 has a bias."""
    trunk = "resnet50" if variant == "paper" else "resnet50_preact"
    architecture = Architecture(trunk, 14, HeadSpec(variant=variant))
    images = check_images(1, seed=2)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, images)
    differences = torch_export.verify(DeployNet(path), torch_weights.load_model(path), images)
    assert max(found.absolute for found in differences.values()) < 1e-4, differences


def test_a_wrong_weight_is_seen(small_model):
    """The comparison can fail: batch statistics taken without their scale factor."""
    model, images = torch_weights.load_model(small_model), check_images(1)
    with torch.no_grad():
        model.trunk.res4.res4a.bn_branch2b.running_var *= 999.98
    differences = torch_export.verify(DeployNet(small_model), model, images)
    assert max(found.absolute for found in differences.values()) > 1e-2
    assert not differences["score"].ok
    assert next(name for name, found in differences.items() if not found.ok) == "res4a_branch2b"  # where it begins
    report = torch_export.Verification("Caffe", "a picture", differences, (*SCORES, *MAPS))
    assert not report.ok and "res4a_branch2b" in report.report() and "res3a_branch2b " not in report.report()


@pytest.mark.parametrize("trunk", ["resnet14", "resnet14_v15", "resnet14_preact", "resnet14_preact_fb", "resnet50"])
def test_there_and_back_changes_no_bit(trunk, tmp_path):
    """Random statistics with Caffe's factors, also of a layer that saw no batch; through a file of either format."""
    architecture = Architecture(trunk, 7, HeadSpec(32, 32, variant="released" if "preact" in trunk else "paper"))
    model, random = torch_weights.empty_model(architecture), np.random.default_rng(0)
    shapes = torch_weights.caffe_shapes(model)
    layers = {}
    for number, (name, blobs) in enumerate(shapes.items()):
        values = [random.lognormal(0, 3, shape).astype(np.float32) for shape in blobs]
        if len(blobs) == 3:
            values[2] = np.array([0.0 if number == 1 else [999.98, 10.0, 1.0, 9.99][number % 4]], np.float32)
        kind = {3: "BatchNorm"}.get(len(blobs)) or ("Scale" if name.startswith("scale") or "_scale" in name else "?")
        layers[name] = (kind, values)
    write_weights(tmp_path / "before", "net", layers)
    torch_files.write_state_dict(torch_weights.load_model(tmp_path / "before").state_dict(), ".pth", tmp_path / "a.pth")
    back = torch_weights.caffe_layers(torch_files.read_state_dict(tmp_path / "a.pth"))
    assert list(back) == list(shapes)
    for name, (kind, blobs) in layers.items():
        assert [blob.tobytes() for blob in back[name][1]] == [blob.tobytes() for blob in blobs], name
        assert [blob.shape for blob in back[name][1]] == [blob.shape for blob in blobs], name
        assert back[name][0] == kind or (kind == "?" and back[name][0] in ("Convolution", "InnerProduct"))


def test_statistics_trained_in_pytorch_are_what_goes_back(small_model):
    model = torch_weights.load_model(small_model)
    part = model.trunk.res4.res4a.bn_branch2b
    with torch.no_grad():
        part.running_mean[3] += 0.25
    mean, variance, factor = torch_weights.caffe_layers(model.state_dict())["bn4a_branch2b"][1]
    assert factor == 1
    np.testing.assert_array_equal(mean, part.running_mean.numpy())
    np.testing.assert_array_equal(variance, part.running_var.numpy())


def test_a_state_dict_without_caffes_sums_loads():
    model = torch_weights.empty_model(SMALL)
    values = {name: value for name, value in model.state_dict().items() if not name.endswith("caffe_sums")}
    assert len(values) < len(model.state_dict())
    torch_weights.empty_model(SMALL).load_state_dict(values)
    assert torch_weights.caffe_layers(values)["bn_conv1"][1][2] == 1


def test_batch_statistics_are_divided_by_the_scale_factor(small_model):
    weights, model = read_weights(small_model), torch_weights.load_model(small_model)
    mean, variance, factor = weights["bn4a_branch2a"]
    part = model.trunk.res4.res4a.bn_branch2a
    np.testing.assert_allclose(part.running_mean.numpy(), mean / factor, rtol=1e-6)
    np.testing.assert_allclose(part.running_var.numpy(), variance / factor, rtol=1e-6)
    np.testing.assert_array_equal(part.weight.detach().numpy(), weights["scale4a_branch2a"][0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda layers: layers.pop("sr_conv3"), "1 layers of the net are not in it: sr_conv3"),
        (lambda layers: layers.update(odd=("Scale", [np.ones(3)])), "unknown to the net: odd"),
        (
            lambda layers: layers["sr_conv3"][1].pop(),
            "layer sr_conv3 has blobs 64x64x1x1, the net wants 64x64x1x1 . 64",
        ),
    ],
)
def test_accounting_is_strict(small_model, tmp_path, change, reason):
    layers = read_layers(small_model)
    change(layers)
    write_weights(tmp_path / "changed.caffemodel", "changed", layers)
    with pytest.raises(SrnError, match=reason):
        torch_weights.load_model(tmp_path / "changed.caffemodel")


def test_the_tolerance_grows_with_great_values_only():
    assert Difference(0.9e-4, 0.01).ok and not Difference(1.1e-4, 0.01).ok
    assert Difference(0.9e-2, 100).ok and not Difference(1.1e-2, 100).ok
    assert not Difference(float("nan"), 1.0).ok


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("trunk.conv1", "conv1"),
        ("trunk.res4.res4b1.branch2a", "res4b1_branch2a"),
        ("cls_fc", "cls_fc"),
    ],
)
def test_layer_names(path, expected):
    assert torch_weights.layer_name(path) == expected


def test_batch_norm_names():
    assert torch_weights.batch_norm_names("trunk.bn_conv1") == ("bn_conv1", "scale_conv1")
    assert torch_weights.batch_norm_names("trunk.bn_pool1") == ("bn_pool1", "scale_pool1")
    expected = ("bn4b1_branch2a", "scale4b1_branch2a")
    assert torch_weights.batch_norm_names("trunk.res4.res4b1.bn_branch2a") == expected
    assert torch_weights.batch_norm_names("trunk.res4.res4b1.bn") == ("bn4b1", "scale4b1")
    expected = ("att_conf_res1_branch2b_bn", "att_conf_res1_branch2b_scale")
    assert torch_weights.batch_norm_names("att_conf_res1.bn_branch2b") == expected
    assert torch_weights.batch_norm_names("sr_conv2_bn") == ("sr_conv2_bn", "sr_conv2_scale")
