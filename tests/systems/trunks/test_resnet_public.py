"""The trunks against the public ResNet-50/101/152 deploy prototxts, layer by layer, and against real weights."""

import re

import caffe
import cv2
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import Learning, add_layer
from pysrn.nets.surgery import load_strict
from pysrn.systems.trunks import resnet
from pysrn.systems.trunks.resnet import TRUNKS

FILES = {"resnet50": "ResNet-50", "resnet101": "ResNet-101", "resnet152": "ResNet-152"}
LEFT_OUT = ("pool5", "fc1000", "prob")  # the ImageNet head: pool5 is f_cls's in our nets


def our_trunk(name: str, up_to: int = 5) -> caffe_pb2.NetParameter:
    net = caffe_pb2.NetParameter(name=name)
    add_layer(net, "data", "Input", [], input_param={"shape": [{"dim": [1, 3, 224, 224]}]})
    resnet.add_trunk(net, TRUNKS[name], Learning(), "data", up_to)
    return net


def public_net(shared_data, name: str) -> tuple[caffe_pb2.NetParameter, str]:
    path = shared_data / "pretrained" / "deep-residual-networks_prototxt" / f"{FILES[name]}-deploy.prototxt"
    return text_format.Parse(path.read_text(), caffe_pb2.NetParameter()), str(path)


def essence(layer: caffe_pb2.LayerParameter) -> dict:
    """What decides a layer's function, defaults written out."""
    found = {"name": layer.name, "type": layer.type, "bottoms": list(layer.bottom), "tops": list(layer.top)}
    if layer.type == "Convolution":
        p = layer.convolution_param
        found |= {
            "out": p.num_output,
            "kernel": list(p.kernel_size),
            "pad": list(p.pad) or [0],
            "stride": list(p.stride) or [1],
            "bias": p.bias_term,
            "group": p.group,
            "dilation": list(p.dilation),
        }
    elif layer.type == "BatchNorm":
        found |= {"eps": layer.batch_norm_param.eps, "stored": layer.batch_norm_param.use_global_stats}
    elif layer.type == "Scale":
        found |= {"bias": layer.scale_param.bias_term, "axis": layer.scale_param.axis}
    elif layer.type == "Pooling":
        p = layer.pooling_param
        found |= {"kernel": p.kernel_size, "stride": p.stride, "pool": p.pool, "pad": p.pad, "round": p.round_mode}
    elif layer.type == "Eltwise":
        found |= {"operation": layer.eltwise_param.operation}
    return found


@pytest.mark.parametrize("name", FILES)
def test_layers_are_those_of_the_public_release(shared_data, name):
    public, _ = public_net(shared_data, name)
    theirs = [essence(layer) for layer in public.layer if layer.name not in LEFT_OUT]
    ours = [essence(layer) for layer in our_trunk(name).layer[1:]]
    assert len(ours) == len(theirs)
    for mine, their in zip(ours, theirs, strict=True):
        assert mine == their


@pytest.mark.parametrize("name", FILES)
def test_blob_and_weight_shapes_are_those_of_the_public_release(shared_data, tmp_path, name):
    path = tmp_path / "ours.prototxt"
    path.write_text(text_format.MessageToString(our_trunk(name)))
    _, public_path = public_net(shared_data, name)
    ours, theirs = caffe.Net(str(path), caffe.TEST), caffe.Net(public_path, caffe.TEST)
    for blob in ours.blobs:
        assert ours.blobs[blob].data.shape == theirs.blobs[blob].data.shape, blob
    shapes = {layer: [b.data.shape for b in blobs] for layer, blobs in theirs.params.items() if layer != "fc1000"}
    assert shapes == {layer: [b.data.shape for b in blobs] for layer, blobs in ours.params.items()}
    assert ours.blobs[resnet.feature_name(TRUNKS[name])].data.shape[2:] == (14, 14)


def test_feature_layers_are_the_last_of_res4():
    names = {name: resnet.feature_name(spec) for name, spec in TRUNKS.items() if not spec.stride_in_3x3}
    released = {"resnet101": "res4b22", "resnet50": "res4f", "resnet152": "res4b35", "resnet14": "res4a"}
    assert names == released | {"resnet107": "res4b22", "resnet20": "res4a"}
    for family in (resnet.PREACT, resnet.PREACT_FB):
        found = {spec.release: resnet.feature_name(spec) for spec in TRUNKS.values() if spec.family == family}
        assert found == {name: f"{feature}_relu" for name, feature in names.items()}


def test_real_resnet50_weights_load_and_give_the_public_nets_features(shared_data, tmp_path):
    weights = str(shared_data / "pretrained" / "resnet50_msra" / "ResNet-50-model.caffemodel")
    path = tmp_path / "ours.prototxt"
    path.write_text(text_format.MessageToString(our_trunk("resnet50")))
    ours = caffe.Net(str(path), caffe.TEST)
    report = load_strict(ours, weights, may_leave=["fc1000"])
    assert report.unused == ("fc1000",) and report.initialised == ()
    theirs = caffe.Net(public_net(shared_data, "resnet50")[1], weights, caffe.TEST)
    image = cv2.resize(cv2.imread(str(next((shared_data / "coco_images" / "coco128").rglob("*.jpg")))), (224, 224))
    for net in (ours, theirs):
        net.blobs["data"].data[...] = image.transpose(2, 0, 1) - np.float32([103.939, 116.779, 123.68])[:, None, None]
        net.forward()
    assert theirs.blobs["res5c"].data.std() > 0.1
    np.testing.assert_array_equal(ours.blobs["res5c"].data, theirs.blobs["res5c"].data)
    np.testing.assert_array_equal(ours.blobs["res4f"].data, theirs.blobs["res4f"].data)
    # The classifier of the release still works through our Caffe: its best guess is confident on a real photo.
    assert 0.05 < theirs.blobs["prob"].data.max() <= 1


def test_names_of_the_small_trunk_follow_the_family():
    pattern = re.compile(
        r"(data|pool1|(bn_|scale_)?conv1(_relu)?|(res|bn|scale)[2-5]a(_branch(1|2[abc]))?(_relu|_branch2[ab]_relu)?)"
    )
    assert all(pattern.fullmatch(layer.name) for layer in our_trunk("resnet14").layer)
    assert len(read_only_convolutions(our_trunk("resnet14"))) == 1 + 4 * 3 + 4  # conv1, 3 a block, 4 projections


def read_only_convolutions(net):
    return [layer.name for layer in net.layer if layer.type == "Convolution"]


def test_weight_file_and_net_agree_on_every_layer_type(shared_data):
    path = shared_data / "pretrained" / "resnet50_msra" / "ResNet-50-model.caffemodel"
    stored = set(read_weights(path)) - {"fc1000"}
    ours = {layer.name for layer in our_trunk("resnet50").layer if layer.param}
    assert stored == ours
