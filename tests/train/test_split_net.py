"""Stages 2 and 3 with their fixed part beside the net that learns: the gradients of the whole net, the same start."""

import json
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
from tests.train.first_gradients import LoadedStage, first_gradients, largest_difference
from tests.train.test_watchfulness import rows

# Blobs whose true gradient is 0: another of the layer's, and the part of its size that rounding may leave.
# The softmax over the positions takes no notice of a constant. Released: the batch normalisation behind conv4, of whose
# kernels each sees one channel, takes away what that channel was multiplied by, where it has no bias: at the start.
WITHOUT_EFFECT = {"paper": {"att_conv3[1]": ("att_conv3[0]", 1e-5)}}
WITHOUT_EFFECT["released"] = {**WITHOUT_EFFECT["paper"], "sr_conv3_scale[0]": ("sr_conv3[0]", 1e-4)}


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
    """Of the same features to 1e-5; of a trunk that is folded and one that is not, as near as a decision lets them.

    A rectifier of the heads whose input is all but 0 decides by the rounding of its features. One decision shows 7e-3
    in a blob of few values: the whole net differs by that from itself when its weights are rounded once more.
    """
    variant = json.loads((both["parts"] / "run.json").read_text())["recipe"]["heads"]["variant"]
    folders = {form: run / f"stage{stage}" for form, run in both.items()}
    trained = {form: first_gradients(folder) for form, folder in folders.items()}
    assert largest_difference(*effective(variant, trained["parts"], trained["whole"])) < 2e-2
    loaded = {form: LoadedStage(folder) for form, folder in folders.items()}
    parts, whole = loaded["parts"].net, loaded["whole"].net
    parts.forward(), whole.forward()
    handed_over = loaded["parts"].message.layer[1].top[0]  # behind the data
    own, fixed = whole.blobs[handed_over].data, parts.blobs[handed_over].data
    assert np.linalg.norm(own - fixed) < 1e-5 * np.linalg.norm(own)
    own[...] = fixed
    loaded["whole"].forward_after(handed_over)
    of_same = {form: one.gradients() for form, one in loaded.items()}
    assert largest_difference(*effective(variant, of_same["parts"], of_same["whole"])) < 1e-5
    assert largest_difference(*effective(variant, trained["parts"], of_same["parts"])) < 2e-2
    losses = [float(rows(folder / "log.csv")[0]["loss"]) for folder in folders.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def effective(variant, *gradients):
    """All but those of WITHOUT_EFFECT, which must be next to nothing."""
    for found in gradients:
        for name, (other, share) in WITHOUT_EFFECT[variant].items():
            if name in found:
                assert np.linalg.norm(found.pop(name)) < share * np.linalg.norm(found[other])
    return gradients


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
    weight = net.net.params["conv1"][0].data[0, 0, 0, :1]
    before = weight.copy()
    weight += 1e-6
    with pytest.raises(fixed_part.SrnError, match="have changed while they were fixed"):
        fixed_part.check_unchanged()
    weight[:] = before  # Caffe keeps the nets of earlier tests
