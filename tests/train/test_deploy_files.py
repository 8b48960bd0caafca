"""`deploy.prototxt` and `labels.txt` beside a stage's weights: enough for stock Caffe, and equal to our prediction."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.console import SrnError
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import parameter_layers
from pysrn.nets.prototxt import read_message
from pysrn.predict.deploy import DeployNet
from pysrn.recipes import OWN, class_names
from pysrn.systems.deploy_files import write_deploy
from pysrn.systems.srn.heads import HeadSpec
from tests.srn import RECIPES, SCORES, Architecture, check_images
from tools import make_prototxt

HAS = {1: SCORES[:1], 2: SCORES[:2], 3: SCORES, 4: SCORES}


def in_stock_caffe(command: str, folder: Path, *flags: str) -> str:
    """What the tool `caffe` says of a stage's folder."""
    words = ["caffe", command, "-model", str(folder / "deploy.prototxt"), "-iterations", "1", *flags]
    environment = os.environ | {"CAFFE_ENGINE": "stock", "GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def test_every_stage_has_them_and_its_weights_alone_fill_the_net(finished):
    run = finished[0] / "shapes"
    for number, scores in HAS.items():
        stage = run / f"stage{number}"
        net = read_message(stage / "deploy.prototxt", messages.NetParameter)
        assert set(parameter_layers(net)) == set(read_weights(stage / "weights.caffemodel"))
        assert (stage / "labels.txt").read_text().splitlines() == list(class_names("shapes"))
        head = (stage / "deploy.prototxt").read_text().partition("name:")[0]
        assert all(line.startswith("#") for line in head.splitlines())
        assert "1 x 3 x 224 x 224, BGR from 0 to 255 minus the mean (104, 117, 123)" in head
        ours = DeployNet(stage / "weights.caffemodel")
        assert ours.scores == scores and all(name in head for name in scores)
        theirs = make_net(net, weights=stage / "weights.caffemodel")
        for image in check_images(2)[:, None]:
            theirs.blobs["data"].data[...] = image
            theirs.forward()
            for name, expected in ours.forward(image).items():
                found = theirs.blobs[name].data
                assert found.shape == expected.shape
                np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_stock_caffe_takes_them(finished):
    for number in (1, 2, 4):
        stage = finished[0] / "shapes" / f"stage{number}"
        said = in_stock_caffe("test", stage, "-weights", str(stage / "weights.caffemodel"))
        assert "Ignoring source layer" not in said
        printed = dict(re.findall(r"Batch 0, (\w+) = (\S+)", said))  # the last label's score, of an empty image
        assert printed and set(printed) <= set(HAS[number]) and np.isfinite([*map(float, printed.values())]).all()
    assert "Average Forward pass" in in_stock_caffe("time", finished[0] / "shapes" / "stage4")


def test_they_are_written_again_as_they_were(finished, tmp_path, capsys):
    run = Path(shutil.copytree(finished[0] / "shapes", tmp_path / "run"))
    paths = [run / f"stage{number}" / name for number in HAS for name in ("deploy.prototxt", "labels.txt")]
    before = {path: path.read_bytes() for path in paths}
    for path in paths:  # a run of the version before
        path.unlink()
    assert make_prototxt.main(["--run", str(run), "--stage", "2"]) == 0
    assert capsys.readouterr().out.split() == [str(path) for path in paths[2:4]]
    assert [path for path in paths if path.is_file()] == paths[2:4]
    assert make_prototxt.main(["--run", str(run)]) == 0
    assert {path: path.read_bytes() for path in paths} == before
    assert not list(run.rglob("*.part"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--run", "nowhere"], 3, "no run in nowhere"),
        (["--run", "RUN", "--stage", "7"], 2, "has no stage 7"),
        (["--run", "RUN", "--stage", "3"], 3, "finished stages: 1, 2"),
        (["--run", "RUN", "coco"], 2, "takes no data set"),
        (["--stage", "3"], 2, "goes with --run"),
        (["--stock", "folder"], 2, "--stock --run runs/NAME"),
        (["coco", "folder"], 2, "which a run knows: --run runs/NAME"),
        (["--run", "RUN", "--out", "other"], 2, "beside the weights"),
    ],
)
def test_what_cannot_be_is_said(finished, tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    ignored = shutil.ignore_patterns("stage3", "stage4")
    run = shutil.copytree(finished[0] / "shapes", tmp_path / "run", ignore=ignored)
    words = [str(run) if word == "RUN" else word for word in words]
    try:
        assert make_prototxt.main(words) == code
    except SystemExit as error:  # argparse's own
        assert error.code == code
    assert said in capsys.readouterr().err


OWN_LABELS = ("Katze", "Hund mit Leine", "z" * 80, "caf\udce9", "two\nlines")  # one that is no UTF-8


@pytest.mark.parametrize("trunk", ["resnet14_v15", "resnet14_preact"])
def test_own_labels_another_trunk_and_other_heads(tmp_path, trunk):
    variant = "released" if trunk.endswith("preact") else "paper"
    heads = HeadSpec(24, 8, 3, variant=variant, confidence_width=40, confidence_sees_blocks=False)
    recipe = replace(RECIPES["folder"], trunk=trunk, heads=heads, dataset=replace(OWN, labels=OWN_LABELS))
    images = check_images(2)
    weights = write_realistic(tmp_path / "weights.caffemodel", Architecture(trunk, 5, heads), images)
    deploy, labels = write_deploy(recipe, 4, weights)
    net = make_net(read_message(deploy, messages.NetParameter), weights=weights)
    net.blobs["data"].data[...] = images[:1]
    net.forward()
    for name, expected in DeployNet(weights).forward(images[:1]).items():
        np.testing.assert_allclose(net.blobs[name].data, expected, atol=1e-6 * np.abs(expected).max())
    assert labels.read_bytes().splitlines() == [
        b"Katze", b"Hund mit Leine", b"z" * 80, b"caf\xe9", b"two lines",
    ]  # fmt: skip
    with pytest.raises(SrnError, match="has 5 labels, its run has 4"):
        write_deploy(replace(recipe, dataset=replace(OWN, labels=OWN_LABELS[:4])), 4, weights)
