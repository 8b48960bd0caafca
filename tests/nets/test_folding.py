"""Batch normalisation folded into the weights: the same outputs from the same images, fewer layers, both variants."""

import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import without, write_realistic
from pysrn.console import SrnError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.caffemodel import read_layers, read_weights, write_weights
from pysrn.nets.folding import factor_and_shift, fold
from pysrn.predict.deploy import DeployNet, deploy_message
from pysrn.predict.splits import whole_views
from pysrn.systems.srn.heads import HeadSpec
from tests.srn import INPUT, Architecture, check_images

RELEASED = Architecture("resnet14_preact", 16, HeadSpec(32, 16, 2, variant="released", confidence_width=24))


@pytest.fixture(scope="module")
def released_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "weights.caffemodel"
    return write_realistic(path, RELEASED, check_images(2))


def test_by_hand():
    # mean (1, 2), variance (4, 9) under a divisor of 10; gamma (2, 3), beta (5, 6)
    statistics = [np.array([10.0, 20]), np.array([40.0, 90]), np.array([10.0])]
    factor, shift = factor_and_shift(statistics, [np.array([2.0, 3]), np.array([5.0, 6])], eps=0)
    assert factor.tolist() == [1, 1] and shift.tolist() == [4, 4]
    factor, shift = factor_and_shift([*statistics[:2], np.zeros(1)], [np.ones(2), np.ones(2)], eps=0.25)
    assert factor.tolist() == [2, 2] and shift.tolist() == [1, 1]  # as Caffe: no batch seen, nothing subtracted


@pytest.mark.parametrize("model", ["shapes_model", "released_model"])
def test_outputs_are_those_of_the_whole_net(model, request, shapes_folder):
    path = request.getfixturevalue(model)
    whole, folded = DeployNet(path, 4), DeployNet(path, 4, folded=True)
    images = whole_views(PairReader(shapes_folder, "test"), range(4), INPUT)
    outputs = [*whole.scores, *whole.maps, whole.features]
    expected, found = whole.forward(images, outputs), folded.forward(images, outputs)
    for name in outputs:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4, rtol=1e-5, err_msg=name)
        assert np.ptp(expected[name]) > 0.01
    assert folded.scores == whole.scores and folded.maps == whole.maps


@pytest.mark.parametrize("model", ["shapes_model", "released_model"])
def test_no_batch_norm_is_left(model, request):
    path = request.getfixturevalue(model)
    whole, folded = DeployNet(path), DeployNet(path, folded=True)
    kinds = [layer.type for layer in folded.net.layers]
    assert "BatchNorm" not in kinds
    norms = [layer.type for layer in whole.net.layers].count("BatchNorm")
    kept = kinds.count("Scale")  # only where a sum, a pooled map or X is normalised: pre-activation
    names = [name for name in folded.net.params if name.startswith(("bn", "scale")) or name.endswith("_scale")]
    assert len(whole.net.layers) - len(folded.net.layers) == 2 * norms - kept and kept == len(names)
    if model == "shapes_model":
        assert not kept
    else:  # before and behind every block, of the trunk and of the two residual blocks
        assert sorted(name for name in names if not name.startswith("scale")) == [
            "att_conf_input_scale", "att_conf_res1_scale", "att_conf_res2_scale",
        ]  # fmt: skip
        assert "scale_pool1" in names and "scale4a_branch2a" not in names


def test_the_net_stays_as_it_is_and_the_weights_are_used_up(shapes_model):
    weights = read_weights(shapes_model)
    message = deploy_message(Architecture("resnet14", 16, HeadSpec(32, 32)))
    before, kernel = message.SerializeToString(), weights["conv1"][0].copy()
    _, folded = fold(message, weights)
    assert message.SerializeToString() == before
    assert not np.array_equal(folded["conv1"][0], kernel) and "bn_conv1" not in folded and not weights
    with pytest.raises(KeyError):
        fold(message, weights)


def test_wrong_weights_are_refused_before_they_are_folded(released_model, tmp_path):
    with pytest.raises(SrnError, match="unknown to the net|are missing"):
        DeployNet(without(released_model, tmp_path / "cut", "bn4a_branch2b"), folded=True)
    layers = read_layers(released_model)
    layers["scale4a_branch2a"][1].pop()
    write_weights(tmp_path / "odd", "odd", layers)
    with pytest.raises(SrnError, match="layer scale4a_branch2a has blobs"):
        DeployNet(tmp_path / "odd", folded=True)
