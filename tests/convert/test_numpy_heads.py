"""The heads written out in NumPy from the paper's equations agree with Caffe's layers and with PyTorch."""

import numpy as np
import pytest
import torch

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.convert import torch_weights
from pysrn.nets.caffemodel import read_weights
from pysrn.predict.deploy import DeployNet
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.trunks.resnet import TRUNKS, feature_name
from tests.srn import Architecture, check_images


def convolve(x, weight, bias):
    """Stride 1, size kept: x is D x H x W, weight is E x D x k x k."""
    size, (height, width) = weight.shape[-1], x.shape[1:]
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    total = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for i in range(size):
        for j in range(size):
            total += np.tensordot(weight[:, :, i, j], padded[:, i : i + height, j : j + width], axes=1)
    return total


def batch_norm(x, name, w):
    """Stored statistics, which Caffe keeps times a factor; then scale and shift. x is D x H x W."""
    (mean, variance, factor), (scale, shift) = w[f"{name}_bn"], w[f"{name}_scale"]
    column = (slice(None), None, None)
    x = (x - (mean / factor)[column]) / np.sqrt((variance / factor)[column] + 1e-5)
    return x * scale[column] + shift[column]


def rectify(x):
    return np.maximum(x, 0)


def hidden(x, name, w):
    """A hidden convolution: bias and ReLU, or in variant `released` BN and ReLU."""
    if f"{name}_bn" not in w:
        return rectify(convolve(x, *w[name]))
    return rectify(batch_norm(convolve(x, w[name][0], np.zeros(len(w[name][0]))), name, w))


def residual_blocks(x, prefix, w):
    """Two pre-activation blocks, then BN and ReLU; each block: BN, ReLU, 1x1, BN, ReLU, 3x3, BN, ReLU, 1x1, sum."""
    before = f"{prefix}input"
    for block in (f"{prefix}res1", f"{prefix}res2"):
        y = rectify(batch_norm(x, before, w))
        y = hidden(hidden(y, f"{block}_branch2a", w), f"{block}_branch2b", w)
        (last,) = w[f"{block}_branch2c"]
        x, before = x + convolve(y, last, np.zeros(len(last))), block
    return rectify(batch_norm(x, before, w))


def numpy_srn(x, top, w, sees_blocks):
    """Features X (D x 14 x 14) and the trunk's top (E x 7 x 7) of one image -> every score and map of SRN."""
    released = "att_conv1_bn" in w
    score_cls = w["cls_fc"][0] @ top.mean(axis=(1, 2)) + w["cls_fc"][1]
    blocks = residual_blocks(x, "att_conf_" if sees_blocks else "att_", w) if released else x
    z = convolve(hidden(hidden(blocks, "att_conv1", w), "att_conv2", w), *w["att_conv3"])
    a = np.exp(z - z.max(axis=(1, 2), keepdims=True))
    a /= a.sum(axis=(1, 2), keepdims=True)  # over the 196 positions of each label
    if released:
        s = convolve(hidden(blocks if sees_blocks else x, "conf_conv1", w), *w["conf_conv2"])
    else:
        s = convolve(x, *w["conf_conv1"])
    score_att = (s * a).sum(axis=(1, 2))
    u = a / (1 + np.exp(-s))  # Eq. 8
    y = hidden(hidden(u, "sr_conv2", w), "sr_conv3", w)
    kernels, *bias = w["sr_conv4"]  # channel g of `y` feeds kernels 4g ... 4g + 3 and no others
    per_channel = len(kernels) // len(y)
    responses = np.array([np.sum(kernels[k, 0] * y[k // per_channel]) for k in range(len(kernels))])[:, None, None]
    responses = batch_norm(responses, "sr_conv4", w) if released else responses + bias[0][:, None, None]
    score_sr = w["sr_fc"][0] @ rectify(responses).ravel() + w["sr_fc"][1]
    return {
        "score_cls": score_cls, "score_att": score_att, "score_sr": score_sr,
        "score": 0.5 * score_cls + 0.5 * score_sr, "att_map": a, "conf_map": s, "sr_map": u,
    }  # fmt: skip


@pytest.mark.parametrize("architecture", [
    Architecture("resnet14", 12, HeadSpec(64, 64)),
    Architecture("resnet14", 5, HeadSpec(48, 32, 2)),
    Architecture("resnet14_preact", 5, HeadSpec(48, 32, 2, variant="released", confidence_width=24)),
    Architecture(
        "resnet14_preact", 5, HeadSpec(48, 32, 2, variant="released", confidence_width=24, confidence_sees_blocks=False)
    ),
])  # fmt: skip
def test_heads(tmp_path, architecture):
    images = check_images(2, seed=4)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, images)
    weights = {name: [blob.astype(float) for blob in blobs] for name, blobs in read_weights(path).items()}
    net = DeployNet(path)
    features, sees = feature_name(TRUNKS[architecture.trunk]), architecture.heads.confidence_sees_blocks
    top = "res5a_relu" if TRUNKS[architecture.trunk].preact else "res5a"
    names = (*net.scores, *net.maps)
    outputs = net.forward(images, (*names, features, top))
    with torch.inference_mode():
        from_torch = torch_weights.load_model(path)(torch.from_numpy(images))._asdict()
    for i in range(len(images)):
        expected = numpy_srn(outputs[features][i].astype(float), outputs[top][i].astype(float), weights, sees)
        assert set(expected) == set(names)
        for name in names:
            np.testing.assert_allclose(outputs[name][i], expected[name], rtol=0, atol=1e-4, err_msg=f"Caffe {name}")
            np.testing.assert_allclose(from_torch[name][i], expected[name], rtol=0, atol=1e-4, err_msg=f"torch {name}")
    assert np.std(outputs["score_sr"]) > 0.5  # else agreement would say little
