"""CNN-RNN on VGG-16 itself: from a caffemodel in the old format of the public release, and from torchvision's weights.

The release could not be had: the file here has its layers, format and shapes, and random numbers.
"""

import subprocess

import cv2
import numpy as np
import pytest
import torch
from caffe.proto import caffe_pb2
from google.protobuf.internal.encoder import _VarintBytes
from torch.nn import functional

from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.caffemodel import read_layers, read_weights
from pysrn.predict.predictions import load_predictions
from pysrn.predict.splits import whole_views
from pysrn.recipes import class_names
from pysrn.systems.registry import system_named
from pysrn.systems.trunks import vgg
from tests.convert.test_vgg_from_torch import random_net
from tests.systems.conftest import command, environment

pytestmark = pytest.mark.slow
V1 = caffe_pb2.V1LayerParameter
FILE = "VGG_ILSVRC_16_layers.caffemodel"
SHORT = ("--iterations", "2", "--batch-size", "3", "--cache-features", "fp32")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the pair `pair`: 6 and 3 images with the labels of VOC 2007."""
    folder, random = tmp_path_factory.mktemp("vgg"), np.random.default_rng(0)
    names = class_names("voc2007")
    (folder / "images").mkdir()
    for split, count in (("train", 6), ("test", 3)):
        rows = [f"file,{','.join(names)}"]
        for number in range(count):
            cv2.imwrite(str(folder / f"images/{split}{number}.png"), random.integers(0, 256, (60, 60, 3), np.uint8))
            rows.append(f"{split}{number}.png,{','.join(map(str, random.integers(0, 2, len(names))))}")
        (folder / "images" / f"{split}.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def call(place):
    """Calls a tool; asserts its exit code and that it never ends in a traceback."""

    def calling(name, *arguments, code=0):
        options = {"capture_output": True, "text": True, "check": False}
        done = subprocess.run(command(name, *arguments), cwd=place, env=environment(""), **options)
        assert done.returncode == code and "Traceback" not in done.stderr, (done.stdout, done.stderr)
        return done

    calling("make_lmdb", "folder", "--root", "images", "--out", "pair")
    return calling


def train(call, run, weights, *arguments):
    asked = ("--system", "cnn_rnn", "--dataset", "voc2007", "--data", "pair", "--run", run, "--weights", weights)
    return call("run_stage", *asked, *SHORT, *arguments).stderr


def weights_of(run):
    return f"runs/{run}/stage2/weights.caffemodel"


def blob(values, shape):
    """A BlobProto of the old form: num x channels x height x width."""
    sides = dict(zip(("num", "channels", "height", "width"), (*[1] * (4 - len(shape)), *shape), strict=True))
    numbers = values.astype("<f4").tobytes()
    return caffe_pb2.BlobProto(**sides).SerializeToString() + b"\x2a" + _VarintBytes(len(numbers)) + numbers


def field(tag, content):
    return tag + _VarintBytes(len(content)) + content


def write_release(path, random):
    """A file as VGG_ILSVRC_16_layers.caffemodel: V1 layers, old shapes; returns layer -> its blobs' numbers."""
    found = {}
    with open(path, "wb") as file:
        file.write(caffe_pb2.NetParameter(name="VGG_ILSVRC_16_layers", input=["data"]).SerializeToString())
        for name, shape in vgg_layers().items():
            scale = np.sqrt(2 / np.prod(shape[1:]))
            weight = random.standard_normal(shape, np.float32) * np.float32(scale)
            bias = random.standard_normal(shape[0], np.float32) * np.float32(0.1)
            found[name] = weight, bias
            kind = V1.CONVOLUTION if len(shape) == 4 else V1.INNER_PRODUCT
            layer = V1(name=name, type=kind, blobs_lr=[1, 2], weight_decay=[1, 0]).SerializeToString()
            layer += field(b"\x32", blob(weight, shape)) + field(b"\x32", blob(bias, (shape[0],)))
            file.write(field(b"\x12", layer))
            follower = V1(name=name.replace("conv", "relu").replace("fc", "relu"), type=V1.RELU)
            file.write(field(b"\x12", follower.SerializeToString()))
    return found


def vgg_layers():
    """Layer of the release -> shape of its weight."""
    shapes, inputs = {}, 3
    for block, channels in vgg.CHANNELS.items():
        for number, count in enumerate(channels, 1):
            shapes[f"conv{block}_{number}"] = (count, inputs, 3, 3)
            inputs = count
    return shapes | {"fc6": (4096, 25088), "fc7": (4096, 4096), "fc8": (1000, 4096)}


def assert_features_of(place, release):
    """The kept features of the test images are fc7 of the same numbers in PyTorch."""
    (cache,) = (place / "runs/released/features").glob("test_whole_fp32_*")
    pair = PairReader(place / "pair", "test")
    top = torch.from_numpy(whole_views(pair, range(len(pair)), system_named("cnn_rnn").input))
    for name, (weight, bias) in release.items():
        weight, bias = torch.from_numpy(weight), torch.from_numpy(bias)
        if name.startswith("conv"):
            top = functional.conv2d(top, weight, bias, padding=1).relu()
            if vgg.CHANNELS[int(name[4])][int(name[6]) :] == ():
                top = functional.max_pool2d(top, 2)
        elif name != "fc8":
            top = functional.linear(top.flatten(1), weight, bias).relu()
    found = np.fromfile(cache / "features.bin", np.float32).reshape(len(pair), 4096)
    np.testing.assert_allclose(found, top.numpy(), atol=1e-4 * float(top.max()))
    assert top.std(0).max() > 0.01


@pytest.fixture(scope="module")
def release(place):
    return write_release(place / FILE, np.random.default_rng(1))


def test_the_release_trains_predicts_and_goes_to_pytorch(call, place, release):
    assert {kind for kind, _ in read_layers(place / FILE).values()} == {"CONVOLUTION", "INNER_PRODUCT"}
    said = train(call, "released", FILE)
    assert "stage 1" not in said and "stage 2 (recurrent): run" in said
    lines = [line.split(None, 2) for line in said.splitlines()]
    fates = {words[0]: words[1:] for words in lines if words and words[0] in ("unused", "carried", "dropped")}
    assert fates == {"dropped": ["1", "fc8"]}
    assert "initialised    4  rnn_embed, rnn_lstm, rnn_project_image, rnn_project_state" in said
    (cache,) = (place / "runs/released/features").glob("train_fp32_*")
    features = np.fromfile(cache / "features.bin", np.float32).reshape(6, 4096)
    assert (features >= 0).all() and (features.std(0) > 0).mean() > 0.5
    ended = read_weights(place / weights_of("released"))
    assert set(ended) == {*release} - {"fc8"} | {"rnn_embed", "rnn_lstm", "rnn_project_image", "rnn_project_state"}
    for name in {*release} - {"fc8"}:
        for mine, theirs in zip(ended[name], release[name], strict=True):
            assert mine.ravel().tobytes() == theirs.ravel().tobytes(), name
    call("predict", "runs/released", "--cache-features", "fp32")
    assert_features_of(place, release)
    scores = load_predictions(place / "runs/released/stage2/predictions_test.npz").scores
    assert list(scores) == ["score_first", "score_greedy", "score_visits", "score"]
    assert len(np.unique(scores["score_first"], axis=0)) == 3  # the images are seen
    assert "exact sets" in call("evaluate", "runs/released").stdout
    assert "OUT OF TOLERANCE" not in call("to_torch", "runs/released", "-o", "torch/net.pth").stdout


def test_torchvision_s_weights_train_as_well(call, place):
    """A state dict by its names goes through from_torch into both stages."""
    torch.save(random_net(1000).state_dict(), place / "vgg16-397923af.pth")
    assert "2 of 2 blobs within it" in call("from_torch", "vgg16-397923af.pth", "-o", "theirs.caffemodel").stdout
    assert set(read_weights(place / "theirs.caffemodel")) == {*vgg_layers()} - {"fc8"}
    said = train(call, "theirs", "theirs.caffemodel")
    assert "dropped" not in said and "unused" not in said and "initialised    4  rnn_embed, rnn_lstm" in said
    start, ended = (read_weights(place / name) for name in ("theirs.caffemodel", weights_of("theirs")))
    assert all(ended[name][0].tobytes() == blobs[0].tobytes() for name, blobs in start.items())
    call("predict", "runs/theirs", "images/test0.png")


def test_stage_1_fine_tunes_the_release(call, place, release):
    """Where it is not left out, stage 1 learns all of VGG-16 with dropout; stage 2 reads what it made."""
    asked = ("--system", "cnn_rnn", "--dataset", "folder", "--data", "pair", "--run", "own", "--left-out", "none")
    short = ("--iterations", "1,2", "--batch-size", "3")
    said = call("run_stage", *asked, *short, "--weights", FILE).stderr
    assert "dropped        1  fc8" in said and "initialised    1  cls_fc" in said and "dropped        1  cls_fc" in said
    first, ended = (read_weights(place / f"runs/own/stage{number}/weights.caffemodel") for number in (1, 2))
    assert (first["conv1_1"][0].ravel() != release["conv1_1"][0].ravel()).any()
    assert all(ended[name][0].tobytes() == first[name][0].tobytes() for name in {*release} - {"fc8"})
