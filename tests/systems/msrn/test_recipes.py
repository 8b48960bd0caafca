"""MSRN's recipes, crops and published tables."""

import numpy as np
import pytest

from pysrn.data.feed.augment import CornerCrop
from pysrn.nets.losses import image_losses, loss_tops
from pysrn.systems.msrn.paper import SOURCES, TRUST
from pysrn.systems.msrn.system import SYSTEM
from pysrn.systems.published import NOT_FOUND
from pysrn.systems.stage_nets import DataSource, stage_net


def test_published_recipes_have_one_stage_and_the_others_two():
    numbers = {name: recipe.stage_numbers for name, recipe in SYSTEM.recipes.items()}
    assert numbers == {"coco": [2], "nus_wide": [2], "voc2007": [2], "apparel": [2], "folder": [1, 2], "shapes": [1, 2]}
    groups = {name: SYSTEM.recipes[name].heads.groups(count) for name, count in
              (("coco", 80), ("nus_wide", 81), ("voc2007", 20), ("apparel", 11), ("folder", 3))}  # fmt: skip
    assert groups == {"coco": 4, "nus_wide": 4, "voc2007": 4, "apparel": 2, "folder": 1}
    coco = SYSTEM.recipes["coco"]
    assert (coco.input.size, coco.input.stored_size, SYSTEM.recipes["shapes"].input.size) == (448, 448, 224)
    assert coco.stages[1].drops[0] * coco.stages[1].epochs == 30


def test_crops_are_those_of_the_released_transform():
    """Sizes and offsets written out as its loops have them, for a square image."""
    recipe = SYSTEM.recipes["coco"]
    crop = CornerCrop(448, 448, recipe.augmentation.scale_ratios, 2, True, recipe.input.places)
    sides = [448, 403, 358, 313, 268]
    assert set(crop.sizes) == {(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 2}
    views = [crop.draw(0, epoch, index) for epoch in range(40) for index in range(100)]
    places = {(v.top, v.left) for v in views if (v.height, v.width) == (268, 268)}
    step = (448 - 268) // 4
    corners = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
    assert places == {(y * step, x * step) for x, y in corners}


def test_published_figures_have_sources_and_are_of_plain_ap():
    for dataset, table in SYSTEM.published.tables.items():
        assert not table.interpolated and table.columns == ("mAP",)
        for name, row in table.rows.items():
            figure = row["mAP"]
            if figure.value is None:
                assert figure.trust == NOT_FOUND and not figure.sources, (dataset, name)
            else:
                assert set(figure.sources) <= set(SOURCES) and figure.trust in TRUST
    figures = {name: table.rows["MSRN"]["mAP"].value for name, table in SYSTEM.published.tables.items()}
    assert figures == {"coco": 83.4, "nus_wide": 61.5, "voc2007": 96.0, "apparel": None}


def test_loss_of_an_image_is_the_mean_over_its_labels():
    net = stage_net(SYSTEM.recipes["shapes"], 2, DataSource("nowhere"))
    assert loss_tops(net) == ["loss_score", "emb_group_loss"]
    (layer,) = [layer for layer in net.layer if layer.name == "loss_score"]
    random = np.random.default_rng(0)
    score, label = random.normal(0, 3, (4, 16)), random.integers(0, 2, (4, 16))
    blobs = {"score": type("", (), {"data": score}), "label": type("", (), {"data": label})}
    p = 1 / (1 + np.exp(-score))
    expected = -(label * np.log(p) + (1 - label) * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(image_losses(layer, blobs), expected, rtol=1e-12)


@pytest.mark.parametrize("ratio", [0.001, 0.2, 0.99])
def test_groups_are_at_least_one_and_at_most_the_labels(ratio):
    from pysrn.systems.msrn.heads import HeadSpec

    assert all(1 <= HeadSpec(pool_ratio=ratio).groups(classes) <= classes for classes in range(1, 90))
