"""A whole training step in Caffe against the released net written once more: loss, and the gradient of every weight."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pysrn.convert import torch_weights
from pysrn.nets.folding import fill
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import add_layer
from pysrn.recipes import DatasetSpec, StageSpec
from pysrn.systems import stage_nets
from pysrn.systems.msrn import released
from pysrn.systems.msrn.heads import HeadSpec
from pysrn.systems.msrn.label_branch import NO_EDGE
from pysrn.systems.msrn.recipes import MEAN
from pysrn.systems.msrn.system import SYSTEM
from pysrn.systems.trunks.imagenet import IMAGENET
from tests.systems.msrn.msgdn import Msgdn

CLASSES, GROUPS, SIZE, IMAGES, LABEL, HIDDEN = 7, 3, 128, 3, 24, 40
TRUNK_RATE = 0.1


def stage_2(fusion):
    """The net of stage 2, with inputs in place of its data layer."""
    recipe = SYSTEM.recipe("shapes")
    heads = HeadSpec(embedding_width=LABEL, fusion_width=HIDDEN, pool_ratio=0.5, fusion=fusion)
    dataset = DatasetSpec("own", 10, 10, "own", tuple(f"label {i}" for i in range(CLASSES)))
    stages = (recipe.stages[0], StageSpec(base_lr=1, iterations=1))  # stored BN statistics
    recipe = type(recipe)(**{**vars(recipe), "heads": heads, "dataset": dataset, "stages": stages,
                             "trunk": "resnet14_v15"})  # fmt: skip
    net = stage_nets.stage_net(recipe, 2, stage_nets.DataSource("nowhere"))
    layers = list(net.layer)[1:]
    del net.layer[:]
    for name, shape in (("data", [IMAGES, 3, SIZE, SIZE]), ("label", [IMAGES, CLASSES])):
        add_layer(net, name, "Input", [], input_param={"shape": [{"dim": shape}]})
    net.layer.extend(layers)
    return net


@pytest.mark.parametrize("fusion", ["flatten", "per_class"])
def test_step_is_that_of_the_released_net(fusion):
    torch.manual_seed(4)
    theirs = Msgdn(CLASSES, GROUPS, label=LABEL, hidden=HIDDEN).eval()
    random = np.random.default_rng(1)
    graph = (random.random((CLASSES, CLASSES)) < 0.3) | np.eye(CLASSES, dtype=bool)
    vectors = random.normal(0, 0.39, (CLASSES, 300)).astype(np.float32)
    constants = {"emb_vectors": [vectors], "emb_graph": [np.where(graph, 0, NO_EDGE).astype(np.float32)]}
    values, _ = released.to_ours(theirs.state_dict(), "file", constants, fusion)
    message = stage_2(fusion)
    net = make_net(message, train=True)
    fill(net, {name: blobs for name, (_, blobs) in torch_weights.caffe_layers(values).items()})
    images = random.normal(0, 60, (IMAGES, 3, SIZE, SIZE)).astype(np.float32)
    labels = (random.random((IMAGES, CLASSES)) < 0.4).astype(np.float32)
    net.blobs["data"].data[...], net.blobs["label"].data[...] = images, labels
    net.forward()
    net.backward()

    theirs = theirs.double()
    mean, deviation = (torch.tensor(part, dtype=torch.float64).reshape(3, 1, 1) for part in IMAGENET)
    colour = torch.tensor(MEAN, dtype=torch.float64).reshape(3, 1, 1)
    seen = ((torch.tensor(images).double() + colour).flip(1) / 255 - mean) / deviation
    border = ((colour.flip(0) / 255 - mean) / deviation)[None]
    score = theirs(seen, border, torch.tensor(vectors).double(), torch.tensor(graph), fusion)
    loss = functional.multilabel_soft_margin_loss(score, torch.tensor(labels).double())
    group_loss = theirs.group_loss(torch.tensor(vectors).double(), torch.tensor(graph))
    (loss + group_loss).backward()
    np.testing.assert_allclose(net.blobs["score"].data, score.detach(), atol=2e-5 * score.abs().max().item())
    np.testing.assert_allclose(net.blobs["loss_score"].data, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(net.blobs["emb_group_loss"].data, group_loss.item(), rtol=1e-5)

    gradients = {name: value.grad for name, value in theirs.named_parameters() if value.grad is not None}
    checked = 0
    for name, ours in our_gradients(net, fusion).items():
        expected = gradients.pop(name).numpy().reshape(ours.shape)
        np.testing.assert_allclose(ours, expected, atol=2e-4 * np.abs(expected).max(), err_msg=name)
        checked += 1
    assert checked > 30 and set(gradients) == {"resnet_101.conv1.weight"}  # which takes in the input's scale


def our_gradients(net, fusion):
    """Gradients by the released names."""

    def diff(layer, number=0):
        return net.params[layer][number].diff

    found = {"resnet_101.bn1.weight": diff("scale_conv1"), "resnet_101.bn1.bias": diff("scale_conv1", 1)}
    for stage in range(1, 5):
        block, to = f"resnet_101.layer{stage}.0", f"{stage + 1}a_branch"
        for i in range(3):
            part = "2" + "abc"[i]
            found[f"{block}.conv{i + 1}.weight"] = diff(f"res{to}{part}")
            found |= {
                f"{block}.bn{i + 1}.weight": diff(f"scale{to}{part}"),
                f"{block}.bn{i + 1}.bias": diff(f"scale{to}{part}", 1),
            }
        found[f"{block}.downsample.0.weight"] = diff(f"res{to}1")
        found |= {
            f"{block}.downsample.1.weight": diff(f"scale{to}1"),
            f"{block}.downsample.1.bias": diff(f"scale{to}1", 1),
        }
    for theirs, ours in (released.LAYERS | (released.FLATTEN if fusion == "flatten" else {})).items():
        found |= {f"{theirs}.weight": diff(ours), f"{theirs}.bias": diff(ours, 1)}
    for theirs, ours in released.GATS.items():
        found[f"{theirs}.W"] = diff(f"{ours}_W").T
        found[f"{theirs}.a"] = np.concatenate([diff(f"{ours}_a1"), diff(f"{ours}_a2")], 1).T
    if fusion == "per_class":
        found |= {"W": diff("fuse_class"), "B": diff("fuse_class", 1)}
    return found


def test_rates_and_decays_are_those_of_the_released_optimizer():
    net = stage_2("flatten")
    rates = {}
    for layer in net.layer:
        for param in layer.param:
            if layer.type == "BatchNorm" or layer.type == "Parameter":
                assert param.lr_mult == 0
                continue
            assert param.decay_mult == 1
            rates.setdefault(round(param.lr_mult, 6), set()).add(layer.name.split("_")[0][:3])
    assert rates == {TRUNK_RATE: {"con", "sca", "res", "tap"}, 1: {"emb", "tap", "fus"}}
    buffers = [param.lr_mult for layer in net.layer if layer.name.startswith("tap_buffer") for param in layer.param]
    np.testing.assert_allclose(buffers, TRUNK_RATE)
