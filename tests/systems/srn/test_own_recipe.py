"""SRN's recipe of a user's own images: its numbers, what the scores begin with, and that no other recipe has it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.caffemodel import read_weights
from pysrn.recipes import BEST, LAST
from pysrn.systems.srn.recipes import fit
from pysrn.train.flags import Asked
from tests.srn import RECIPES
from tests.train.conftest import call_run_stage

OWN = RECIPES["folder"]
OUTPUTS = {1: "cls_fc", 2: "conf_conv1", 3: "sr_fc"}  # whose bias is what a score begins with


def of(images, recipe=OWN):
    return replace(recipe, dataset=replace(recipe.dataset, train_images=images))


def test_heads_get_their_updates_however_few_images_there_are():
    assert [of(380).iterations(stage) for stage in (1, 2, 3, 4)] == [129, 65, 107, 43]
    assert [of(40).iterations(stage) for stage in (1, 2, 3, 4)] == [100, 60, 100, 40]
    assert of(40, Asked(stages={"epochs": [1.0]}).applied_to(OWN)).iterations(3) == 3


def test_own_images_are_validated_once_an_epoch():
    assert of(380).validation_images == 38
    assert {of(380).validate_every(stage) for stage in (1, 2, 3, 4)} == {math.ceil(342 / 16)}
    assert {of(8).validate_every(stage) for stage in (1, 2, 3, 4)} == {1}


def test_only_own_images_end_with_the_best_weights_and_begin_at_the_share_of_labels():
    for name, recipe in RECIPES.items():
        own = name == "folder"
        assert {plan.ends_with for plan in recipe.stages} == {BEST if own else LAST}, name
        assert recipe.heads.starts_at == ("prior" if own else "zero") and recipe.heads.first_logit == 0.0


def test_scores_begin_at_the_share_of_labels_that_are_trained_with(shapes_folder):
    pair = PairReader(shapes_folder, "train")
    recipe = replace(of(len(pair)), validation_fraction=0.5)
    share = np.mean([pair.labels(index) > 0 for index in range(recipe.training_records[1])])
    found = fit(recipe, pair).heads.first_logit
    assert 1 / (1 + math.exp(-found)) == pytest.approx(share, abs=1e-3)
    assert share != pytest.approx(np.mean(pair.all_labels() > 0), abs=1e-3)  # so the case shows something
    assert fit(RECIPES["shapes"], pair) == RECIPES["shapes"]


@pytest.mark.parametrize("labels", [-np.ones((10, 4)), np.ones((10, 4))])
def test_no_label_and_all_labels_make_no_infinite_logit(labels):
    class Pair:
        def all_labels(self):
            return labels

    found = fit(replace(of(10), validation_fraction=0.0), Pair()).heads.first_logit
    assert found == pytest.approx(math.copysign(math.log(40), labels[0, 0]), abs=1e-3)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_caffe_draws_the_scores_bias_so(shapes_folder, tmp_path, variant):
    """Own images by default; a rate so low that the first biases can still be read."""
    words = ["3", "--dataset", "folder", "--run", "own", "--trunk", "resnet14", "--from-scratch", "--variant", variant]
    words += [
        "--iterations",
        "1",
        "--batch-size",
        "2",
        "--validation-fraction",
        "0.25",
        "--base-lr",
        "1e-9",
        "--new-layer-lr",
        "1",
    ]
    done = call_run_stage(*words, runs=tmp_path, data=shapes_folder)
    assert done.returncode == 0, done.stderr
    heads = json.loads((tmp_path / "own/run.json").read_text())["recipe"]["heads"]
    assert heads["starts_at"] == "prior" and heads["first_logit"] < -0.3
    for stage, layer in OUTPUTS.items():
        layer = "conf_conv2" if (stage, variant) == (2, "released") else layer
        weights = read_weights(tmp_path / f"own/stage{stage}/weights.caffemodel")
        np.testing.assert_allclose(weights[layer][1], heads["first_logit"], atol=1e-5)
    hidden = [name for name in ("att_conv3", "sr_conv4") if len(weights[name]) > 1]
    assert all(np.abs(weights[name][1]).max() < 1e-5 for name in hidden)
