"""Stages 2 and 3 with their fixed part beside the net that learns: the gradients of the whole net, the same start."""

import shutil
from functools import partial

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from pysrn.nets.fixed import input_and_output, split
from pysrn.nets.prototxt import read_message
from pysrn.predict.deploy import DeployNet
from pysrn.systems.trunks.resnet import TRUNKS
from pysrn.train.fixed import fixed_part
from tests.srn import CROP_SIZE, RECIPES, stages
from tests.train.conftest import SHORT, assert_same_weights, call_run_stage
from tests.train.first_gradients import first_gradients, largest_difference
from tests.train.test_watchfulness import rows

# The softmax over the positions takes no notice of a constant: the true gradient of this bias is 0.
WITHOUT_EFFECT = "att_conv3[1]"


@pytest.fixture(scope="module", params=["paper", "released"])
def both(request, small_data, tmp_path_factory):
    """Stages 2 and 3 of one iteration each, in parts and as the whole net, each from the weights of the former."""
    runs = {form: tmp_path_factory.mktemp(form) / "runs" for form in ("parts", "whole")}
    call = partial(call_run_stage, runs=runs["parts"], data=small_data)
    done = call("1", "--variant", request.param, "--iterations", "4,1,1,1", *SHORT, "--batch-size", "4")
    for stage in ("2", "3"):
        assert done.returncode == 0, done.stderr
        other = tmp_path_factory.mktemp("other")
        shutil.copytree(runs["parts"], other / "runs")
        done = call(stage, "--whole-net", runs=other / "runs")
        assert done.returncode == 0, done.stderr
        shutil.copytree(other / f"runs/shapes/stage{stage}", runs["whole"] / f"shapes/stage{stage}")
        done = call(stage)
    shutil.copy(runs["parts"] / "shapes/run.json", runs["whole"] / "shapes")
    shutil.copytree(runs["parts"] / "shapes/stage1", runs["whole"] / "shapes/stage1")
    return {form: folder / "shapes" for form, folder in runs.items()}


@pytest.mark.parametrize("stage", [2, 3])
def test_gradients_and_loss_are_those_of_the_whole_net(both, stage):
    gradients = {form: first_gradients(run / f"stage{stage}") for form, run in both.items()}
    nothing = [found.pop(WITHOUT_EFFECT) for found in gradients.values() if WITHOUT_EFFECT in found]
    assert all(np.linalg.norm(found) < 1e-5 * np.linalg.norm(gradients["parts"]["att_conv3[0]"]) for found in nothing)
    # A rectifier whose input is all but 0 may decide otherwise: the whole net shows 6e-3 in its gradients with another
    # BLAS kernel. Without such a one the blobs differ by about 4e-6.
    assert largest_difference(gradients["parts"], gradients["whole"]) < 5e-3
    parts, whole = (np.concatenate(list(found.values())) for found in gradients.values())
    assert np.linalg.norm(parts - whole) < 2e-4 * np.linalg.norm(whole)
    losses = [float(rows(run / f"stage{stage}/log.csv")[0]["loss"]) for run in both.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("stage", [2, 3])
def test_caffe_propagates_nothing_back_into_what_is_fixed(both, stage):
    log = (both["parts"] / f"stage{stage}/train.log").read_text()
    assert "fixed_part does not need backward computation" in log
    last = {2: "att_conv1", 3: "sr_conv2"}[stage]
    assert f"{last} needs backward computation" in log
    log = (both["whole"] / f"stage{stage}/train.log").read_text()
    assert "res4a_branch2c does not need backward computation" in log


def test_a_split_net_holds_only_what_learns(both):
    for stage, learns in ((2, ("att_", "conf_")), (3, ("sr_",))):
        folder = both["parts"] / f"stage{stage}"
        net = read_message(folder / "net.prototxt", caffe_pb2.NetParameter)
        assert all(name.startswith(learns) for name in stages.parameter_layers(net))
        whole = read_message(folder / "whole.prototxt", caffe_pb2.NetParameter)
        same = read_message(both["whole"] / f"stage{stage}/net.prototxt", caffe_pb2.NetParameter)
        assert whole.SerializeToString() == same.SerializeToString()


def test_every_snapshot_is_a_whole_net(both):
    for stage, scores in ((2, ("score_cls", "score_att")), (3, ("score_cls", "score_att", "score_sr", "score"))):
        folder = both["parts"] / f"stage{stage}"
        assert DeployNet(folder / "iter_000001.caffemodel").scores == scores
        assert_same_weights(folder / "iter_000001.caffemodel", folder / "weights.caffemodel")


def test_a_begun_stage_goes_on_in_the_form_that_it_has(both, small_data, tmp_path):
    for form, option, words in (("parts", ["--whole-net"], "without --whole-net"), ("whole", [], "with --whole-net")):
        shutil.copytree(both[form], tmp_path / form / "shapes")
        (tmp_path / form / "shapes/stage2/manifest.json").unlink()
        refused = call_run_stage("2", *option, runs=tmp_path / form, data=small_data)
        assert refused.returncode == 2 and f"was begun {words}" in refused.stderr and "Traceback" not in refused.stderr


def test_stages_that_learn_everything_have_no_fixed_part():
    recipe = RECIPES["coco"]
    for stage in (1, 4):
        with pytest.raises(ValueError, match="no fixed part"):
            split(
                stages.stage_net(recipe, stage, stages.DataSource("", workers=0)),
                TRUNKS[recipe.trunk].features,
                CROP_SIZE,
            )


def test_parts_meet_at_the_features_and_at_the_weighted_maps():
    recipe = RECIPES["coco"]
    whole = {stage: stages.stage_net(recipe, stage, stages.DataSource("", workers=0)) for stage in (2, 3)}
    parts = {stage: split(net, TRUNKS[recipe.trunk].features, CROP_SIZE) for stage, net in whole.items()}
    assert [input_and_output(net) for net in parts[2].fixed] == [("data", "res4b22")]
    assert [input_and_output(net) for net in parts[3].fixed] == [("data", "res4b22"), ("res4b22", "sr_map")]
    for stage, found in parts.items():
        layers = [layer.name for net in found.fixed for layer in net.layer[1:]]
        layers += [layer.name for layer in found.learning.layer]
        assert layers == [layer.name for layer in whole[stage].layer[1:]]


def test_a_fixed_net_that_changes_is_noticed(both):
    folder = both["parts"] / "stage2"
    net = fixed_part.FixedNet.shared(folder / "trunk.prototxt", str(both["parts"] / "stage1/weights.caffemodel"))
    fixed_part.check_unchanged()
    net.net.params["conv1"][0].data[0, 0, 0, 0] += 1e-6
    with pytest.raises(fixed_part.SrnError, match="have changed while they were fixed"):
        fixed_part.check_unchanged()
