"""The pre-activation trunks against "identity mappings" written out block by block, with real statistics."""

import caffe
import numpy as np
import pytest
import torch
from caffe.proto import caffe_pb2
from torch.nn import functional

from pysrn.nets import prototxt
from pysrn.nets.layers import FIXED, add_layer
from pysrn.systems.trunks import resnet
from pysrn.systems.trunks.resnet import TRUNKS, TrunkSpec
from tests.srn import RECIPES, replace

SMALL = TrunkSpec("small", (1, 3, 2, 2), 8, True, "", preact=True, stride_in_3x3=True, pool1_pad=1)


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
    """v2 as He et al. write it: each block begins with BN and ReLU; X and the top are sums behind BN and ReLU."""
    tensors = {name: [torch.from_numpy(blob.data.copy()) for blob in blobs] for name, blobs in net.params.items()}

    def bn_relu(x, name):
        mean, variance, factor = tensors[f"bn{name}"]
        return functional.relu(
            functional.batch_norm(x, mean / factor, variance / factor, *tensors[f"scale{name}"], eps=1e-5)
        )

    def conv(x, name, stride=1, padding=0):
        return functional.conv2d(x, tensors[name][0], *tensors[name][1:], stride=stride, padding=padding)

    x = conv(torch.from_numpy(x), "conv1", 2, 3)
    x = functional.max_pool2d(x, 3, 2, padding=1) if spec.pool1_pad else functional.max_pool2d(x, 3, 2, ceil_mode=True)
    before, features = "_pool1", None
    for stage in resnet.STAGES:
        for position, block in enumerate(resnet.block_names(spec, stage)):
            stride = 2 if position == 0 and stage > 2 else 1
            first, second = (1, stride) if spec.stride_in_3x3 else (stride, 1)
            y = bn_relu(x, before)
            shortcut = conv(y, f"{block}_branch1", stride) if position == 0 else x
            y = bn_relu(conv(y, f"{block}_branch2a", first), f"{block[3:]}_branch2a")
            y = bn_relu(conv(y, f"{block}_branch2b", second, 1), f"{block[3:]}_branch2b")
            x, before = shortcut + conv(y, f"{block}_branch2c"), block[3:]
        if stage == resnet.FEATURE_STAGE:
            features = bn_relu(x, before)
    return features.numpy(), bn_relu(x, before).numpy()


@pytest.mark.parametrize(
    "spec",
    [SMALL, replace(SMALL, stride_in_3x3=False), replace(SMALL, pool1_pad=0), TRUNKS["resnet14_preact"]],
    ids=["as PyTorch", "stride in 1x1", "Caffe's pooling", "embedded"],
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
    with pytest.raises(ValueError, match="no variant published"):
        replace(RECIPES["coco"], variant="published")
