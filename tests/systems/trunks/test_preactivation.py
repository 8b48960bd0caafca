"""The pre-activation trunks against "identity mappings" written out block by block, with real statistics."""

import dataclasses

import caffe
import numpy as np
import pytest
import torch
from caffe.proto import caffe_pb2
from torch.nn import functional

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.console import UsageError
from pysrn.convert import torch_export, torch_files, torch_weights
from pysrn.nets import prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import FIXED, add_layer
from pysrn.predict.deploy import DeployNet
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.trunks import resnet
from pysrn.systems.trunks.resnet import TRUNKS, TrunkSpec
from pysrn.systems.trunks.torch_resnet import Trunk
from tests.srn import RECIPES, SYSTEM, Architecture, check_images, replace, stages
from tools.from_torch import main as from_torch

SMALL = TrunkSpec("small", (1, 3, 2, 2), 8, True, "", preact=True, stride_in_3x3=True, pool1_pad=1)
FB = replace(SMALL, blocks=(2, 3, 2, 2), norm_before_pool=True)  # as fb.resnet.torch has it


def trunk_net(spec, folder, up_to=5):
    """The trunk in Caffe, filled with random weights and statistics that are stored with a scale factor."""
    message = caffe_pb2.NetParameter(name=spec.name)
    add_layer(message, "data", "Input", [], input_param={"shape": [{"dim": [2, 3, 224, 224]}]})
    resnet.add_trunk(message, spec, FIXED, "data", up_to)
    prototxt.check_net(message)
    prototxt.write_message(message, folder / "net.prototxt")
    net, random = caffe.Net(str(folder / "net.prototxt"), caffe.TEST), np.random.default_rng(0)
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            if name.startswith("bn"):
                values = (random.normal(0, 0.1, blob.data.shape), random.uniform(0.5, 1.5, blob.data.shape), 1.0)
                blob.data[...] = 9.9 * values[i]
            elif name.startswith("scale"):
                blob.data[...] = random.normal(1 - i, 0.2, blob.data.shape)
            else:
                blob.data[...] = random.normal(0, np.sqrt(1 / np.prod(blob.data.shape[1:])), blob.data.shape)
    return net


def identity_mappings(x, net, spec):
    """v2 as He et al. write it: each block begins with BN and ReLU; X and the top are sums behind BN and ReLU.

    In fb.resnet.torch the very first BN and ReLU lie before the pooling, and both branches of the first block read what
    is pooled; the projections of res3, res4 and res5 read the block's activation in both.
    """
    tensors = {name: [torch.from_numpy(blob.data.copy()) for blob in blobs] for name, blobs in net.params.items()}

    def bn_relu(x, name):
        mean, variance, factor = tensors[f"bn{name}"]
        return functional.relu(
            functional.batch_norm(x, mean / factor, variance / factor, *tensors[f"scale{name}"], eps=1e-5)
        )

    def conv(x, name, stride=1, padding=0):
        return functional.conv2d(x, tensors[name][0], *tensors[name][1:], stride=stride, padding=padding)

    x = conv(torch.from_numpy(x), "conv1", 2, 3)
    if spec.norm_before_pool:
        x = bn_relu(x, "_conv1")
    x = functional.max_pool2d(x, 3, 2, padding=1) if spec.pool1_pad else functional.max_pool2d(x, 3, 2, ceil_mode=True)
    before, features = "_pool1", None
    for stage in resnet.STAGES:
        for position, block in enumerate(resnet.block_names(spec, stage)):
            stride = 2 if position == 0 and stage > 2 else 1
            first, second = (1, stride) if spec.stride_in_3x3 else (stride, 1)
            y = x if spec.norm_before_pool and before == "_pool1" else bn_relu(x, before)
            shortcut = conv(y, f"{block}_branch1", stride) if position == 0 else x
            y = bn_relu(conv(y, f"{block}_branch2a", first), f"{block[3:]}_branch2a")
            y = bn_relu(conv(y, f"{block}_branch2b", second, 1), f"{block[3:]}_branch2b")
            x, before = shortcut + conv(y, f"{block}_branch2c"), block[3:]
        if stage == resnet.FEATURE_STAGE:
            features = bn_relu(x, before)
    return features.numpy(), bn_relu(x, before).numpy()


@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        replace(SMALL, stride_in_3x3=False),
        replace(SMALL, pool1_pad=0),
        TRUNKS["resnet14_preact"],
        FB,
        TRUNKS["resnet14_preact_fb"],
    ],
    ids=["as PyTorch", "stride in 1x1", "Caffe's pooling", "embedded", "as fb.resnet.torch", "embedded, as that"],
)
def test_trunk_is_identity_mappings(tmp_path, spec):
    net = trunk_net(spec, tmp_path)
    images = np.random.default_rng(1).normal(0, 1, (2, 3, 224, 224)).astype(np.float32)
    net.blobs["data"].data[...] = images
    net.forward()
    features, top = identity_mappings(images, net, spec)
    last = resnet.block_names(spec, 5)[-1]
    assert features.shape == (2, 16 * spec.width, 14, 14) and top.shape == (2, 32 * spec.width, 7, 7)
    assert features.shape[1] == spec.feature_channels
    assert features.std() > 0.3 and top.std() > 0.3  # else agreement would say little
    np.testing.assert_allclose(net.blobs[resnet.feature_name(spec)].data, features, atol=1e-4)
    np.testing.assert_allclose(net.blobs[f"{last}_relu"].data, top, atol=1e-4)
    in_torch = Trunk(spec).eval()
    weights = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    in_torch.load_state_dict(torch_weights.state_dict(in_torch, weights, "test"))
    with torch.inference_mode():
        for found, expected in zip(in_torch(torch.from_numpy(images)), (features, top), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_two_families_have_weights_of_the_same_shapes(tmp_path):
    """Only the names of the first BN tell them apart; what they compute differs."""
    spec = replace(SMALL, blocks=FB.blocks)
    shapes = [
        {name: [b.data.shape for b in bs] for name, bs in trunk_net(s, tmp_path).params.items()} for s in (spec, FB)
    ]
    renamed = {name.replace("_pool1", "_conv1"): found for name, found in shapes[0].items()}
    assert renamed == shapes[1] and {"bn_conv1", "scale_conv1"} == set(shapes[1]) - set(shapes[0])


def test_places_of_stride_and_pooling_matter(tmp_path):
    """The two conventions give other numbers: weights of the one must not be run with the other."""
    images = np.random.default_rng(1).normal(0, 1, (2, 3, 224, 224)).astype(np.float32)
    found = []
    for spec in (SMALL, replace(SMALL, stride_in_3x3=False), replace(SMALL, pool1_pad=0)):
        net = trunk_net(spec, tmp_path)
        net.blobs["data"].data[...] = images
        net.forward()
        found.append(net.blobs[resnet.feature_name(spec)].data.copy())
    assert all(np.abs(other - found[0]).max() > 0.1 for other in found[1:])


def test_nothing_above_the_features_is_in_a_net_that_ends_there(tmp_path):
    spec = TRUNKS["resnet14_preact"]
    net = trunk_net(spec, tmp_path, up_to=resnet.FEATURE_STAGE)
    assert list(net.blobs)[-1] == resnet.feature_name(spec) == "res4a_relu"
    assert "bn4a" in net.params and not any("5a" in name for name in net.params)


def test_the_variant_decides_trunk_and_heads():
    for name, recipe in RECIPES.items():
        released = replace(recipe, variant="released")
        assert released.trunk == f"{recipe.trunk}_preact" and TRUNKS[released.trunk].preact, name
        assert released.heads == replace(recipe.heads, variant="released")
        assert replace(released, variant="paper") == recipe
        assert replace(released, trunk="resnet50").trunk == "resnet50_preact"
        fb = replace(released, trunk="resnet50_preact_fb")
        assert fb.trunk == "resnet50_preact_fb" and SYSTEM.variant_of(fb) == "released"
        assert SYSTEM.settle(fb) == fb and replace(fb, variant="paper").trunk == "resnet50"
    with pytest.raises(ValueError, match="no variant published"):
        replace(RECIPES["coco"], variant="published")


def test_a_trunk_of_one_variant_is_not_changed_in_silence():
    with pytest.raises(UsageError, match="resnet101_preact_fb is one of variant released") as caught:
        SYSTEM.settle(dataclasses.replace(RECIPES["coco"], trunk="resnet101_preact_fb"))  # as flags give it
    assert caught.value.cure == "--variant released"
    assert {name for name in SYSTEM.offered if "preact" in name} == {
        f"resnet{n}_preact_fb" for n in (14, 20, 50, 101, 107, 152)
    }


@pytest.mark.parametrize("depth", ["resnet14", "resnet101"])
def test_nets_of_all_stages_load_in_caffe(depth, shapes_folder):
    recipe = replace(RECIPES["shapes"], variant="released", trunk=f"{depth}_preact_fb", batch_size=1)
    whole = {}
    for stage in (4, 3, 2, 1):
        net = stages.stage_net(recipe, stage, stages.DataSource(str(shapes_folder)))
        prototxt.check_net(net)
        shapes = {name: [b.data.shape for b in blobs] for name, blobs in make_net(net, train=True).params.items()}
        assert {"bn_conv1", "scale_conv1", "bn2a"} <= set(shapes) and "bn_pool1" not in shapes
        whole = whole or shapes
        assert all(whole[name] == blobs for name, blobs in shapes.items())
    assert set(whole) == set(stages.parameter_layers(stages.recipe_deploy_net(recipe)))


def test_weights_go_to_pytorch_and_back(tmp_path):
    architecture = Architecture("resnet14_preact_fb", 7, HeadSpec(48, 32, 2, variant="released", confidence_width=40))
    images = check_images(2, seed=3)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, images)
    net, model = DeployNet(path), torch_weights.load_model(path)
    assert net.architecture == architecture and "bn_conv1" in net.net.params
    assert net.forward(images)["score"].std() > 0.3
    differences = torch_export.verify(net, model, images)
    assert max(found.absolute for found in differences.values()) < 1e-4, differences
    folded = DeployNet(path, folded=True).forward(images, net.scores)
    for name, expected in net.forward(images).items():
        np.testing.assert_allclose(folded[name], expected, atol=1e-4)
    torch_files.write_state_dict(model.state_dict(), ".safetensors", tmp_path / "ours.safetensors")
    assert from_torch([str(tmp_path / "ours.safetensors"), "-o", str(tmp_path / "back.caffemodel")]) == 0
    before, after = (read_weights(file) for file in (path, tmp_path / "back.caffemodel"))
    assert sorted(before) == sorted(after)
    for name, blobs in before.items():
        assert [blob.tobytes() for blob in blobs] == [blob.tobytes() for blob in after[name]], name
