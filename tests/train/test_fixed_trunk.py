"""--fixed-trunk: all stages learn on the features of the first weights, from one cache."""

import numpy as np
import pytest

from pysrn.nets.caffemodel import read_weights
from pysrn.systems.trunks.resnet import TRUNKS
from tests.srn import RECIPES, replace, stages
from tests.train.conftest import SHORT, assert_same_weights, call_run_stage
from tests.train.first_gradients import first_gradients, largest_difference
from tests.train.test_split_net import effective

STAGES = (1, 2, 3, 4)
FIRST = ("4", "--fixed-trunk", "--iterations", "1", "--views", "2", *SHORT)
KINDS = ("res", "bn", "scale")
WHOLE = "straight/stage1/weights.caffemodel"
FORMS = {"cached": ("--cache-features", "fp32"), "computed": (), "whole": ("--whole-net",)}


@pytest.fixture(scope="module")
def first_weights(finished):
    return finished[0] / "shapes/stage1/weights.caffemodel"


@pytest.fixture(scope="module")
def runs(first_weights, small_data, tmp_path_factory):
    """All stages of one iteration each, by how they come to the features."""
    found = {}
    for form, words in FORMS.items():
        folder = tmp_path_factory.mktemp(form)
        done = call_run_stage(*FIRST, *words, "--weights", first_weights, runs=folder, data=small_data)
        assert done.returncode == 0, done.stderr
        found[form] = folder / "shapes"
    return found


def in_the_trunk(name):
    """Of conv1 to res4, by the layers' names."""
    return name.startswith(("conv1", "bn_conv1", "scale_conv1", *(f"{kind}{n}" for kind in KINDS for n in "234")))


def test_the_trunk_keeps_its_first_weights_and_what_is_behind_it_learns(runs, first_weights):
    before = read_weights(first_weights)
    for stage in STAGES:
        after = read_weights(runs["cached"] / f"stage{stage}/weights.caffemodel")
        same = {name for name in before if all(map(np.array_equal, before[name], after[name]))}
        trunk = {name for name in before if in_the_trunk(name)}
        assert trunk <= same and len(trunk) > 30
        behind = {name for name in before if name.startswith(("res5", "scale5", "cls_"))}
        assert len(behind) == 9 and not behind & same if stage in (1, 4) else behind <= same
        before = after


def test_features_of_one_cache_and_computed_ones_train_the_same(runs):
    for stage in STAGES:
        assert_same_weights(*(runs[form] / f"stage{stage}/weights.caffemodel" for form in ("cached", "computed")))
    assert len(list((runs["cached"] / "features").glob("*/manifest.json"))) == 1


@pytest.mark.parametrize("stage", [1, 4])
def test_the_gradients_are_those_of_the_whole_net(runs, stage):
    """As near as a rectifier's decision lets them (test_split_net.py)."""
    parts, whole = (first_gradients(runs[form] / f"stage{stage}") for form in ("computed", "whole"))
    assert largest_difference(*effective("paper", parts, whole)) < 2e-2


def test_a_stage_goes_on_from_a_snapshot_that_is_whole(first_weights, small_data, tmp_path):
    words = ("1", "--fixed-trunk", "--iterations", "4", *SHORT, "--weights", first_weights)
    for form in ("straight", "begun"):
        done = call_run_stage(*words, "--run", form, runs=tmp_path, data=small_data)
        assert done.returncode == 0, done.stderr
    folder = tmp_path / "begun/stage1"
    for path in (*folder.glob("iter_000004.*"), folder / "weights.caffemodel", folder / "manifest.json"):
        path.unlink()
    assert list(read_weights(folder / "iter_000002.caffemodel")) == list(read_weights(tmp_path / WHOLE))
    done = call_run_stage(*words, "--run", "begun", runs=tmp_path, data=small_data)
    assert done.returncode == 0 and "going on from the snapshot of iteration 2" in done.stderr, done.stderr
    assert_same_weights(folder / "weights.caffemodel", tmp_path / WHOLE)


@pytest.mark.parametrize("trunk", ["resnet101", "resnet101_preact"])
def test_fixed_is_what_lies_before_the_features(trunk):
    variant = "released" if "preact" in trunk else "paper"
    recipe = replace(RECIPES["coco"], variant=variant, trunk=trunk, fixed_trunk=True)
    usual = replace(recipe, fixed_trunk=False)
    features = TRUNKS[trunk].features.blob
    for stage in STAGES:
        net = stages.stage_net(recipe, stage, stages.DataSource("", workers=0))
        end = 1 + max(i for i, layer in enumerate(net.layer) if features in layer.top)
        weighted = [layer.name for layer in net.layer[:end] if layer.param]
        assert set(weighted) <= stages.fixed_layers(net) and len(weighted) > 200
        same = stages.stage_net(usual, stage, stages.DataSource("", workers=0))
        assert [str(layer) for layer in net.layer[end:]] == [str(layer) for layer in same.layer[end:]]
        assert (str(net) == str(same)) == (stage in (2, 3))


def test_what_cannot_be_fixed_is_refused(first_weights, small_data, tmp_path):
    weights = ("--weights", str(first_weights))
    for words, said in (
        ((), "a trunk that nobody has trained"),
        (("--system", "msrn", *weights), "reads more of its trunk"),
    ):
        done = call_run_stage("--fixed-trunk", *words, "--run", "refused", runs=tmp_path, data=small_data)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*/stage*"))
