"""Parameter counts: against the fact sheet's arithmetic, against Caffe's blobs, and on the command line."""

import caffe
import numpy as np
import pytest

from pysrn.nets import prototxt
from pysrn.systems import parameters
from pysrn.systems.srn.heads import VARIANTS
from tests.srn import RECIPES, SYSTEM, replace, stages
from tools import make_prototxt

# Weights that SRN adds, in millions, worked out by hand from the paper and the released layers; 80, 81, 14 labels
BY_HAND = {
    ("paper", "coco"): 3.87, ("paper", "nus_wide"): 3.88, ("paper", "wider_attribute"): 3.60,
    ("released", "coco"): 6.59, ("released", "nus_wide"): 6.59, ("released", "wider_attribute"): 6.35,
}  # fmt: skip


def extra(recipe):
    parts = parameters.count_parts(stages.recipe_deploy_net(recipe), SYSTEM)
    return sum((parts[part] for part in SYSTEM.parts if part.extra), parameters.Count())


@pytest.mark.parametrize(("variant", "dataset"), BY_HAND)
def test_extra_weights_are_those_worked_out_by_hand(variant, dataset):
    count = extra(replace(RECIPES[dataset], variant=variant))
    assert count.weights / 1e6 == pytest.approx(BY_HAND[variant, dataset], abs=0.005)


def test_released_with_bn_makes_6_60_million():
    count = extra(replace(RECIPES["coco"], variant="released"))
    assert (count.weights + count.others) / 1e6 == pytest.approx(6.60, abs=0.005)


def test_released_in_single_weights():
    parts = parameters.count_parts(stages.recipe_deploy_net(replace(RECIPES["coco"], variant="released")), SYSTEM)
    parts = {part.title: count for part, count in parts.items()}
    weights = {part: count.weights for part, count in parts.items()}
    assert weights["residual blocks"] == 2 * (1024 * 256 + 9 * 256 * 256 + 256 * 1024)
    assert weights["attention"] == 1024 * 512 + 9 * 512 * 512 + 512 * 80
    assert weights["confidence"] == 1024 * 512 + 512 * 80
    assert weights["regulariser"] == 80 * 512 + 512 * 512 + 2048 * 196 + 2048 * 80
    assert parts["residual blocks"].others == 2 * (3 * 1024 + 4 * 256)  # BN before, between and behind
    assert parts["attention"].others == 4 * 512 + 80  # no bias where BN follows


@pytest.mark.parametrize("variant", VARIANTS)
def test_counts_are_those_of_caffes_blobs(tmp_path, variant):
    net = stages.recipe_deploy_net(replace(RECIPES["shapes"], variant=variant))
    prototxt.write_message(net, tmp_path / "net.prototxt")
    in_caffe = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).params
    kinds = {layer.name: layer.type for layer in net.layer}
    counts = parameters.count_layers(net)
    assert set(counts) == {name for name in in_caffe if kinds[name] != "BatchNorm"}
    for name, count in counts.items():
        sizes = [int(np.prod(blob.data.shape)) for blob in in_caffe[name]]
        expected = (0, sum(sizes)) if kinds[name] == "Scale" else (sizes[0], sum(sizes[1:]))
        assert (count.weights, count.others) == expected, name


def test_table_on_the_command_line(capsys):
    assert make_prototxt.main(["--count", "coco", "wider_attribute"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("| paper, C=80 | paper, C=14 | released, C=80 | released, C=14 |")
    assert "| **SRN's extra weights** | 3.875 | 3.604 | 6.586 | 6.350 |" in lines
