"""State dicts of the released code to ours and back: the same scores, every tensor accounted for."""

import numpy as np
import pytest
import torch

from pysrn.console import SrnError
from pysrn.convert import torch_weights
from pysrn.systems.msrn import released
from pysrn.systems.msrn.label_branch import NO_EDGE
from pysrn.systems.msrn.recipes import MEAN
from pysrn.systems.msrn.system import SYSTEM
from pysrn.systems.registry import recognise
from pysrn.systems.trunks.imagenet import IMAGENET
from tests.systems.msrn.msgdn import Msgdn

CLASSES, GROUPS = 12, 2


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(2)
    return Msgdn(CLASSES, GROUPS, label=64).eval()


@pytest.fixture(scope="module")
def constants():
    random = np.random.default_rng(0)
    graph = (random.random((CLASSES, CLASSES)) < 0.2) | np.eye(CLASSES, dtype=bool)
    vectors = random.normal(0, 0.39, (CLASSES, 300)).astype(np.float32)
    return {"emb_vectors": [vectors], "emb_graph": [np.where(graph, 0, NO_EDGE).astype(np.float32)]}


def ours_of(values, constants, fusion=None):
    """Our net in float64 with what the converter makes of a state dict."""
    found, unused = released.to_ours(values, "file", constants, fusion)
    weights = {name: blobs for name, (_, blobs) in torch_weights.caffe_layers(found).items()}
    architecture = recognise(weights, "file", SYSTEM)
    model = SYSTEM.torch_class().of(architecture).eval()
    model.load_state_dict(found)
    return model, unused, architecture


def scores(theirs, images, constants, fusion):
    """What the released net says of our images: RGB from 0 to 1, minus the mean, by the deviation."""
    mean, deviation = (torch.tensor(part, dtype=torch.float64).reshape(3, 1, 1) for part in IMAGENET)
    colour = torch.tensor(MEAN, dtype=torch.float64).reshape(3, 1, 1).flip(0)
    border = (colour / 255 - mean) / deviation
    rgb = (images.double() + colour.flip(0)).flip(1) / 255
    vectors, graph = (torch.tensor(constants[name][0]).double() for name in ("emb_vectors", "emb_graph"))
    return theirs.double()((rgb - mean) / deviation, border[None], vectors, graph == 0, fusion)


@pytest.mark.parametrize("fusion", ["flatten", "per_class"])
def test_scores_are_those_of_the_released_net(theirs, constants, fusion):
    model, unused, architecture = ours_of(theirs.float().state_dict(), constants, fusion)
    assert (architecture.trunk, architecture.classes) == ("resnet14_v15", CLASSES)
    assert architecture.heads.fusion == fusion and architecture.heads.groups(CLASSES) == GROUPS
    plain = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"] if fusion == "per_class" else ["W", "B"]
    assert unused == ["resnet_101.conv_buffer0.weight", "resnet_101.conv_buffer0.bias", *plain]
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1)) * 60
    with torch.inference_mode():
        expected = scores(theirs, images, constants, fusion)
        found = model.double()(images.double()).score
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.abs().max())


@pytest.mark.parametrize("fusion", ["flatten", "per_class"])
def test_way_back_gives_every_tensor(theirs, constants, fusion):
    values = theirs.float().state_dict()
    model, unused, architecture = ours_of(values, constants, fusion)
    back, zero = released.from_ours(model.state_dict(), SYSTEM.trunks[architecture.trunk])
    assert back.keys() == values.keys() and set(zero) == set(unused)
    for name, value in values.items():
        assert back[name].shape == value.shape, name
        if name in zero:
            assert not back[name].any()
        elif name in ("resnet_101.conv1.weight", "resnet_101.bn1.running_mean"):  # the input goes in and out
            np.testing.assert_allclose(back[name], value, atol=2e-6 * value.abs().max())
        else:
            assert torch.equal(back[name], value), name
    Msgdn(CLASSES, GROUPS, label=64).load_state_dict(back)


@pytest.mark.parametrize("name", ["fc_label.bias", "label_embed.layers.1.a", "ProjectM.2.weight", "fc2.weight"])
def test_missing_and_unknown_tensors_are_named(theirs, constants, name):
    values = dict(theirs.float().state_dict())
    with pytest.raises(SrnError, match="1 tensors are unknown, the first is extra.weight"):
        released.to_ours(values | {"extra.weight": torch.zeros(1)}, "file", constants)
    del values[name]
    with pytest.raises(SrnError, match=f"{name} is missing"):
        released.to_ours(values, "file", constants)
