"""The heads written out in NumPy from the paper's equations agree with Caffe's layers and with PyTorch."""

import numpy as np
import pytest
import torch

from pysrn.convert import torch_export, torch_weights
from pysrn.evaluate.deploy import DeployNet
from pysrn.evaluate.trained import Architecture
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.resnet import feature_name
from pysrn.recipes import TRUNKS, HeadSpec
from tests.realistic_weights import write_realistic


def convolve(x, weight, bias):
    """Stride 1, size kept: x is D x H x W, weight is E x D x k x k."""
    size, (height, width) = weight.shape[-1], x.shape[1:]
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    total = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for i in range(size):
        for j in range(size):
            total += np.tensordot(weight[:, :, i, j], padded[:, i : i + height, j : j + width], axes=1)
    return total


def numpy_srn(x, top, w):
    """Features X (D x 14 x 14) and the trunk's top (E x 7 x 7) of one image -> every score and map of SRN."""
    relu = lambda values: np.maximum(values, 0)  # noqa: E731
    score_cls = w["cls_fc"][0] @ top.mean(axis=(1, 2)) + w["cls_fc"][1]
    z = convolve(relu(convolve(relu(convolve(x, *w["att_conv1"])), *w["att_conv2"])), *w["att_conv3"])
    a = np.exp(z - z.max(axis=(1, 2), keepdims=True))
    a /= a.sum(axis=(1, 2), keepdims=True)  # over the 196 positions of each label
    s = convolve(x, *w["conf_conv1"])
    score_att = (s * a).sum(axis=(1, 2))
    u = a / (1 + np.exp(-s))  # Eq. 8
    hidden = relu(convolve(relu(convolve(u, *w["sr_conv2"])), *w["sr_conv3"]))
    kernels, bias = w["sr_conv4"]  # channel g of `hidden` feeds kernels 4g ... 4g + 3 and no others
    per_channel = len(kernels) // len(hidden)
    responses = [np.sum(kernels[k, 0] * hidden[k // per_channel]) + bias[k] for k in range(len(kernels))]
    score_sr = w["sr_fc"][0] @ relu(np.array(responses)) + w["sr_fc"][1]
    return {
        "score_cls": score_cls, "score_att": score_att, "score_sr": score_sr,
        "score": 0.5 * score_cls + 0.5 * score_sr, "att_map": a, "conf_map": s, "sr_map": u,
    }  # fmt: skip


@pytest.mark.parametrize("architecture", [
    Architecture("resnet14", 12, HeadSpec(64, 64)),
    Architecture("resnet14", 5, HeadSpec(48, 32, 2)),
])  # fmt: skip
def test_heads(tmp_path, architecture):
    images = torch_export.check_images(2, seed=4)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, images)
    weights = {name: [blob.astype(float) for blob in blobs] for name, blobs in read_weights(path).items()}
    net = DeployNet(path)
    features = feature_name(TRUNKS[architecture.trunk])
    names = (*net.scores, *net.maps)
    outputs = net.forward(images, (*names, features, "res5a"))
    with torch.inference_mode():
        from_torch = torch_weights.load_model(path)(torch.from_numpy(images))._asdict()
    for i in range(len(images)):
        expected = numpy_srn(outputs[features][i].astype(float), outputs["res5a"][i].astype(float), weights)
        assert set(expected) == set(names)
        for name in names:
            np.testing.assert_allclose(outputs[name][i], expected[name], rtol=0, atol=1e-4, err_msg=f"Caffe {name}")
            np.testing.assert_allclose(from_torch[name][i], expected[name], rtol=0, atol=1e-4, err_msg=f"torch {name}")
    assert np.std(outputs["score_sr"]) > 0.5  # else agreement would say little
