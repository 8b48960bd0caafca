"""What other tools make of the deploy net and of the ONNX file, on 20 real photos: our scores.

PYSRN_OTHER_TOOLS names a Python with OpenCV 4 (later ones read no Caffe net), onnxruntime and openvino:
`python3 -m venv V && V/bin/pip install opencv-python-headless==4.12.0.88 onnxruntime openvino`.
"""

import os
import re
import subprocess
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from pysrn.convert.torch_weights import load_model
from pysrn.nets import messages
from pysrn.nets.layers import add_layer
from pysrn.nets.prototxt import read_message, write_message
from pysrn.predict.deploy import DeployNet
from pysrn.predict.photos import read_photos
from pysrn.systems.deploy_files import write_deploy
from pysrn.systems.system import Architecture
from tests.calibrated_weights import write_calibrated
from tests.srn import INPUT, RECIPES, SCORES, replace

pytestmark = pytest.mark.slow
OTHERS = "PYSRN_OTHER_TOOLS"
PHOTOS, TOLERANCE = 20, 1e-5  # of the greatest value of a score
NETS = {
    "shapes": RECIPES["shapes"],
    "shapes released": replace(RECIPES["shapes"], variant="released"),
    "ResNet-50": replace(RECIPES["voc2007"], trunk="resnet50"),
    "ResNet-50 released": replace(RECIPES["voc2007"], trunk="resnet50", variant="released"),
}


@pytest.fixture(scope="module")
def views(shared_data):
    """So many photos as the nets eat them."""
    files = sorted((shared_data / "coco_images").rglob("*.jpg"))[:PHOTOS]
    found = np.stack([photo.view for photo in read_photos(files, INPUT)])
    assert len(found) == PHOTOS
    return found


@pytest.fixture(scope="module", params=NETS)
def net(request, views, tmp_path_factory):
    """A folder with weights, deploy net and views; and our scores."""
    recipe = NETS[request.param]
    folder = tmp_path_factory.mktemp("net")
    weights = write_calibrated(folder / "weights.caffemodel", Architecture.of(recipe), views[:4])
    write_deploy(recipe, 4, weights)
    np.save(folder / "views.npy", views)
    net = DeployNet(weights)
    ours = {name: np.concatenate([net.forward(view[None])[name] for view in views]) for name in SCORES}
    with torch.inference_mode():
        exact = load_model(weights).double()(torch.from_numpy(views).double())
    exact = {name: getattr(exact, name).numpy() for name in SCORES}
    print("ours from the net in float64", words(apart(exact, ours)))
    return folder, ours, exact


def apart(expected, found):
    """The greatest difference by score, as a part of its greatest value."""
    return {name: float(np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()) for name in found}


def words(differences):
    return ", ".join(f"{name} {value:.1e}" for name, value in differences.items())


def same(tools, ours, exact):
    """Print how far the scores of each tool are from ours, and from the same net in float64; then judge the former.

    A tool that is itself further than the tolerance from float64 is no measure. Ours must be near float64 there.
    """
    own, far = apart(exact, ours), {}
    for tool, found in tools.items():
        from_ours, from_exact = apart(ours, found), apart(exact, found)
        print(f"{tool} from ours {words(from_ours)}; from the net in float64 {words(from_exact)}")
        measures = {name: own[name] if from_exact[name] >= TOLERANCE else value for name, value in from_ours.items()}
        if max(measures.values()) >= TOLERANCE:
            far[tool] = words(from_ours)
    assert not far, f"{far}; ours from the net in float64: {words(own)}"


def test_opencv_onnxruntime_openvino(net):
    if not (python := os.environ.get(OTHERS)):
        pytest.skip(f"{OTHERS} names no Python with OpenCV 4.12, onnxruntime and openvino")
    from pysrn.convert import onnx_export

    folder, ours, exact = net
    onnx_export._write(
        load_model(folder / "weights.caffemodel"), folder / "net.onnx", np.load(folder / "views.npy")[:2]
    )
    script = Path(__file__).with_name("other_tools.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, str(script), str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout.strip())
    tools = {}
    for tool in ("opencv-caffe", "opencv-onnx", "onnxruntime", "openvino"):
        with np.load(folder / f"{tool}.npz") as found:
            tools[tool] = {name: found[name] for name in SCORES}
    same(tools, ours, exact)


def test_stock_caffe(net, tmp_path):
    """`caffe test` prints the scores that nothing reads; `caffe time` takes the file as it is."""
    folder, ours, exact = net
    with lmdb.open(str(tmp_path / "views"), map_size=1 << 26) as environment, environment.begin(write=True) as records:
        for number, view in enumerate(np.load(folder / "views.npy")):
            record = messages.Datum(channels=3, height=view.shape[1], width=view.shape[2], float_data=view.ravel())
            records.put(f"{number:08d}".encode(), record.SerializeToString())
    deploy = read_message(folder / "deploy.prototxt", messages.NetParameter)
    fed = messages.NetParameter(name=deploy.name)
    add_layer(
        fed, "data", "Data", [], data_param={"source": str(tmp_path / "views"), "batch_size": 1, "backend": "LMDB"}
    )
    fed.layer.extend(deploy.layer[1:])
    write_message(fed, tmp_path / "fed.prototxt")

    def caffe(command, model, iterations):
        words = ["caffe", command, "-model", str(model), "-iterations", str(iterations)]
        words += ["-weights", str(folder / "weights.caffemodel")]
        environment = os.environ | {"CAFFE_ENGINE": "stock", "GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stderr

    said = caffe("test", tmp_path / "fed.prototxt", PHOTOS)
    found = {}
    for name in ("score", "score_att"):
        values = [float(value) for value in re.findall(rf"Batch \d+, {name} = (\S+)", said)]
        found[name] = np.reshape(values, ours[name].shape)
    same({"caffe test": found}, ours, exact)
    assert "Average Forward pass" in caffe("time", folder / "deploy.prototxt", 1)
