"""Nets that are changed in one place to test a claim: recognised from weights alone, PyTorch both ways, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.console import UsageError
from pysrn.convert import torch_export, torch_weights
from pysrn.nets.caffemodel import read_weights, write_weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import add_layer
from pysrn.nets.messages import NetParameter
from pysrn.predict.deploy import DeployNet
from pysrn.systems import stage_nets
from pysrn.systems.cnn_rnn.paths import order_of
from pysrn.systems.msrn import heads as msrn_heads
from pysrn.systems.msrn.labels.graph import other_edges
from pysrn.systems.parameters import count_layers
from pysrn.systems.registry import system_named
from pysrn.systems.srn import heads as srn_heads
from pysrn.systems.srn.ranked_places import order_of as order_of_places
from pysrn.systems.srn.torch_model import by_strength
from pysrn.systems.system import Architecture
from pysrn.train.flags import Asked, left_out
from tests.srn import RECIPES, check_images

SRN = srn_heads.HeadSpec(16, 16, 2)
MSRN = msrn_heads.HeadSpec(12, 10, 8, 6, 20, 0.5)
ABLATED = {
    **{f"srn {one}": ("srn", replace(SRN, regulariser_input=one)) for one in srn_heads.INPUTS},
    "srn dense": ("srn", replace(SRN, regulariser_grouped=False)),
    "srn dense, pooled": ("srn", replace(SRN, regulariser_grouped=False, regulariser_input="pooled")),
    **{
        f"srn released, {one}": ("srn", replace(SRN, variant="released", confidence_width=16, regulariser_input=one))
        for one in srn_heads.INPUTS[1:]
    },
    "msrn one tap": ("msrn", replace(MSRN, tapped_depths=1)),
    "msrn two taps, per class": (
        "msrn",
        msrn_heads.HeadSpec(12, 10, 8, 6, 2048, 0.5, fusion="per_class", tapped_depths=2),
    ),
    "msrn no groups": ("msrn", replace(MSRN, pool_ratio=0.2, group_rows=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", ABLATED)
def test_net_is_known_by_its_weights_and_is_the_same_in_pytorch(name, tmp_path):
    system, heads = ABLATED[name]
    trunk = "resnet14_preact" if "released" in name else "resnet14"
    architecture = Architecture(system_named(system), trunk, 5, heads)
    images = check_images(4)
    path = write_realistic(tmp_path / "w.caffemodel", architecture, images)
    net = DeployNet(path)
    assert net.architecture == architecture
    model = torch_weights.load_model(path)
    found = torch_export.verify(net, model, images)
    assert all(one.ok for one in found.values()), {key: one for key, one in found.items() if not one.ok}
    assert any(one.greatest > 0.1 for one in found.values())
    write_weights(tmp_path / "back.caffemodel", "back", torch_weights.caffe_layers(model.state_dict()))
    back, there = read_weights(tmp_path / "back.caffemodel"), read_weights(path)
    assert back.keys() == there.keys()
    assert all(a.tobytes() == b.tobytes() for key in there for a, b in zip(there[key], back[key], strict=True))
    if system == "srn":
        scripted = torch.jit.script(model)(torch.from_numpy(images[:2]))
        assert torch.allclose(scripted.score_sr, model(torch.from_numpy(images[:2])).score_sr, atol=1e-5)


@pytest.mark.parametrize("one", srn_heads.INPUTS)
def test_scores_of_the_regulariser_depend_on_places_as_the_input_says(one):
    """Maps with their places shuffled: f_sr on U sees it, on sums and on ranked places it does not."""
    torch.manual_seed(0)
    architecture = Architecture(system_named("srn"), "resnet14", 5, replace(SRN, regulariser_input=one))
    model = torch_weights.empty_model(architecture)
    maps = torch.rand(3, 5, 14, 14)
    shuffled = maps.flatten(2)[:, :, torch.randperm(196)].reshape(maps.shape)
    same = torch.allclose(model.regulariser(maps), model.regulariser(shuffled), atol=1e-5)
    assert same == (one in ("pooled", "ranked"))


def test_a_fixed_shuffle_is_no_ablation():
    """A kernel of conv4 that is shuffled alike gives the same scores: what can be learned is the same."""
    torch.manual_seed(0)
    model = torch_weights.empty_model(Architecture(system_named("srn"), "resnet14", 5, SRN))
    maps, order = torch.rand(3, 5, 14, 14), torch.randperm(196)
    expected = model.regulariser(maps)
    weight = model.sr_conv4.weight.data
    model.sr_conv4.weight.data = weight.flatten(2)[:, :, order].reshape(weight.shape)
    found = model.regulariser(maps.flatten(2)[:, :, order].reshape(maps.shape))
    assert torch.allclose(found, expected, atol=1e-6)


def test_ranked_places_and_their_gradient_are_pytorchs():
    maps = np.random.default_rng(0).random((2, 5, 14, 14), np.float32)
    net = NetParameter(name="ranked", force_backward=True)
    add_layer(net, "maps", "Input", [], input_param={"shape": [{"dim": list(maps.shape)}]})
    add_layer(net, "ranked", "Python", "maps", python_param=srn_heads.RANKING)
    made = make_net(net)
    made.blobs["maps"].data[...] = maps
    made.forward()
    theirs = torch.from_numpy(maps).requires_grad_()
    ranked = by_strength(theirs)
    assert np.array_equal(made.blobs["ranked"].data, ranked.detach().numpy())
    strength = made.blobs["ranked"].data.sum(1).reshape(2, -1)
    assert (np.diff(strength, axis=1) <= 1e-5).all() and not np.array_equal(made.blobs["ranked"].data, maps)
    grads = np.random.default_rng(1).random(maps.shape, np.float32)
    made.blobs["ranked"].diff[...] = grads
    made.backward()
    ranked.backward(torch.from_numpy(grads))
    assert np.array_equal(made.blobs["maps"].diff, theirs.grad.numpy())
    assert order_of_places(np.ones((1, 2, 2, 2))).ravel().tolist() == [0, 1, 2, 3]  # equal ones in their order


def test_dense_conv4_has_all_channels_in_each_kernel():
    grouped, dense = (
        count_layers(stage_nets.deploy_net(Architecture(system_named("srn"), "resnet101", 80, heads)))["sr_conv4"]
        for heads in (srn_heads.HeadSpec(), srn_heads.HeadSpec(regulariser_grouped=False))
    )
    assert (grouped.weights, dense.weights) == (2048 * 196, 2048 * 196 * 512)


def test_two_more_blocks_are_six_more_convolutions():
    for small, large in (("resnet101", "resnet107"), ("resnet14", "resnet20")):
        nets = [
            stage_nets.stage_net(replace(RECIPES["coco"], trunk=trunk), 1, stage_nets.DataSource(""))
            for trunk in (small, large)
        ]
        few, many = ({layer.name for layer in net.layer if layer.type == "Convolution"} for net in nets)
        assert few < many and len(many - few) == 6


def test_all_at_once_draws_what_the_stages_would_have_added():
    system = system_named("srn")
    recipe = Asked(stages={"left_out": left_out("1,2,3")}).applied_to(system.recipes["shapes"])
    assert recipe.stage_numbers == [4]
    net = stage_nets.stage_net(recipe, 4, stage_nets.DataSource(""))
    new = stage_nets.new_layers(net, recipe, system.stage(4))
    assert {"cls_fc", "att_conv1", "conf_conv1", "sr_conv2", "sr_fc"} <= new and "res4a_branch1" not in new
    staged = stage_nets.new_layers(net, system.recipes["shapes"], system.stage(4))
    assert staged == set()


@pytest.mark.parametrize(("words", "said"), [("2", "build on them"), ("1,3", "build on them"), ("4", "stage 4 makes")])
def test_stages_that_others_build_on_are_not_left_out(words, said):
    with pytest.raises(UsageError) as error:
        Asked(stages={"left_out": left_out(words)}).applied_to(RECIPES["shapes"])
    assert said in f"{error.value} {error.value.cure}"


@pytest.mark.parametrize(
    "change", [{"tapped_depths": 4}, {"tapped_depths": 0}, {"group_rows": False, "fusion": "per_class"}]
)
def test_numbers_that_contradict_are_refused(change):
    with pytest.raises(UsageError):
        msrn_heads.HeadSpec(**change)


def test_random_edges_are_as_many_as_the_labels_have():
    graph = np.identity(6, bool)
    graph[0, 1] = graph[2, 5] = graph[5, 2] = True
    for seed in range(5):
        found = other_edges(graph, seed)
        assert found.sum() == graph.sum() and found.diagonal().all()
        assert np.array_equal(found, other_edges(graph, seed))
    assert len({other_edges(graph, seed).tobytes() for seed in range(5)}) > 1
    assert np.array_equal(other_edges(graph, None), np.identity(6, bool))


def test_random_order_of_labels_is_the_seeds():
    orders = [order_of("random", "abcdef", np.arange(6), seed) for seed in range(4)]
    assert all(sorted(order) == list(range(6)) for order in orders) and len(set(orders)) > 1
    assert orders[2] == order_of("random", "abcdef", np.arange(6)[::-1], 2)
