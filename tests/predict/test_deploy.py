"""Which net a caffemodel is recognised as, what it is cut to, and what is refused."""

import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import without, write_realistic
from pysrn.console import MissingError, SrnError, UsageError
from pysrn.nets.caffemodel import read_layers, read_weights, write_weights
from pysrn.predict.deploy import DeployNet, deploy_message
from pysrn.predict.trained import architecture_of, find_weights
from pysrn.systems.srn.heads import HeadSpec
from tests.srn import MAPS, SCORES, Architecture, check_images

RELEASED = Architecture("resnet14_preact", 16, HeadSpec(32, 16, 2, variant="released", confidence_width=24))


def test_whole_net(shapes_model):
    net = DeployNet(shapes_model, batch_size=2)
    assert net.scores == SCORES and net.maps == MAPS
    assert (net.architecture.trunk, net.architecture.classes) == ("resnet14", 16)
    assert net.architecture.heads == HeadSpec(32, 32)


def test_weights_of_earlier_stages_give_the_scores_that_they_can(shapes_model, tmp_path):
    images = np.random.default_rng(0).normal(0, 50, (2, 3, 224, 224)).astype(np.float32)
    whole = DeployNet(shapes_model).forward(images)
    main = DeployNet(without(shapes_model, tmp_path / "main", "att_", "conf_", "sr_"))
    assert main.scores == ("score_cls",) and main.maps == ()
    np.testing.assert_array_equal(main.forward(images)["score_cls"], whole["score_cls"])
    attention = DeployNet(without(shapes_model, tmp_path / "attention", "sr_"))
    assert attention.scores == ("score_cls", "score_att")
    assert attention.maps == ("att_map", "conf_map")
    np.testing.assert_array_equal(attention.forward(images)["score_att"], whole["score_att"])


@pytest.fixture(scope="module")
def released_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "weights.caffemodel"
    return write_realistic(path, RELEASED, check_images(2))


def test_released_weights_are_recognised_from_any_stage(released_model, tmp_path):
    images = np.random.default_rng(0).normal(0, 50, (2, 3, 224, 224)).astype(np.float32)
    net = DeployNet(released_model)
    assert net.architecture == RELEASED and net.scores == SCORES and net.maps == MAPS
    whole = net.forward(images)
    main = DeployNet(without(released_model, tmp_path / "main", "att_", "conf_", "sr_"))
    assert main.scores == ("score_cls",) and main.architecture.heads.variant == "released"
    np.testing.assert_array_equal(main.forward(images)["score_cls"], whole["score_cls"])
    attention = DeployNet(without(released_model, tmp_path / "attention", "sr_"))
    assert attention.scores == ("score_cls", "score_att") and attention.architecture.heads.confidence_width == 24
    np.testing.assert_array_equal(attention.forward(images)["score_att"], whole["score_att"])


def test_released_weights_with_a_part_missing_are_refused(released_model, tmp_path):
    for gone in ("sr_conv3_bn", "att_conf_res2_branch2b_scale", "bn4a"):
        cut = without(released_model, tmp_path / "cut", gone)
        with pytest.raises(SrnError, match="unknown to the net|are missing"):
            DeployNet(cut)


def test_batch_of_another_size_gives_the_same_scores(shapes_model):
    images = np.random.default_rng(1).normal(0, 50, (3, 3, 224, 224)).astype(np.float32)
    net = DeployNet(shapes_model, batch_size=3)
    together = net.forward(images)["score"]
    np.testing.assert_allclose(net.forward(images[1:2])["score"], together[1:2], atol=1e-5)


@pytest.mark.parametrize(
    "trunk",
    [f"resnet{depth}{ending}" for depth in (50, 101, 152) for ending in ("", "_v15", "_preact", "_preact_fb")],
)
def test_trunks_are_told_apart_by_their_layers(trunk):
    wanted = Architecture(trunk, 9, HeadSpec())
    layers = {layer.name: len(layer.param) for layer in deploy_message(wanted).layer if layer.param}
    weights = {name: [np.zeros((64, 1))] * count for name, count in layers.items()}
    weights |= {name: [np.zeros((9, 1))] for name in ("cls_fc", "att_conv3", "conf_conv1", "sr_fc")}
    assert architecture_of(weights, "test").trunk == trunk


def test_legacy_shape_of_the_classifier(shapes_model, tmp_path):
    layers = read_layers(shapes_model)
    kind, (weight, bias) = layers["cls_fc"]
    layers["cls_fc"] = (kind, [weight[None, None], bias[None, None, None]])
    write_weights(tmp_path / "legacy", "legacy", layers)
    images = np.ones((1, 3, 224, 224), np.float32)
    np.testing.assert_array_equal(
        DeployNet(tmp_path / "legacy").forward(images)["score"],
        DeployNet(shapes_model).forward(images)["score"],
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda layers: layers.pop("sr_conv3"), "unknown to the net: sr_conv2, sr_conv4, sr_fc"),
        (
            lambda layers: layers["cls_fc"][1].__setitem__(0, np.ones((15, 512))),
            "contradicts itself: .* 15 and 16 labels",
        ),
        (
            lambda layers: layers["res4a_branch2b"][1].__setitem__(0, np.ones((3, 3))),
            "layer res4a_branch2b has blobs 3x3",
        ),
        (lambda layers: layers["conv1"][1].__setitem__(0, np.ones((17, 3, 7, 7))), "holds another net"),
        (
            lambda layers: layers["sr_conv4"][1].__setitem__(0, np.ones((3, 1, 14, 14))),
            "its heads have no channels",
        ),
        (lambda layers: layers["cls_fc"][1].__setitem__(0, np.ones((0, 512))), "a part has no labels"),
        (lambda layers: layers.pop("res3a_branch2b"), "can compute no score: 1 layers are missing"),
        (
            lambda layers: [layers.pop(name) for name in list(layers) if name.startswith("res3a")],
            "holds another net",
        ),
    ],
)
def test_weights_of_another_net_are_refused(shapes_model, tmp_path, change, reason):
    layers = read_layers(shapes_model)
    change(layers)
    write_weights(tmp_path / "odd", "odd", layers)
    with pytest.raises(SrnError, match=reason):
        DeployNet(tmp_path / "odd")


def test_real_foreign_weights_are_refused(shared_data):
    pretrained = shared_data / "pretrained"
    with pytest.raises(SrnError, match="holds another net"):
        DeployNet(pretrained / "squeezenet_v1.1" / "squeezenet_v1.1-from-ndf.caffemodel")
    with pytest.raises(SrnError, match="no SRN layers, only the trunk resnet50"):
        DeployNet(pretrained / "resnet50_msra" / "ResNet-50-model.caffemodel")


def test_find_weights(shapes_model, tmp_path):
    for stage in (1, 2):
        folder = tmp_path / f"stage{stage}"
        folder.mkdir()
        (folder / "weights.caffemodel").write_bytes(b"")
    assert find_weights(shapes_model) == shapes_model
    assert find_weights(tmp_path, 2) == find_weights(tmp_path / "stage2") == tmp_path / "stage2" / "weights.caffemodel"
    with pytest.raises(MissingError, match="finished stages: 1, 2"):
        find_weights(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        find_weights(shapes_model, 1)
    assert read_weights(shapes_model)
