"""CNN-RNN's recipes: what is frozen, and how long few images are trained on."""

from dataclasses import replace

import pytest

from pysrn.systems.cnn_rnn.system import SYSTEM
from pysrn.train.flags import Asked

OWN = SYSTEM.recipes["folder"]


def test_photographs_are_learned_on_a_frozen_trunk():
    numbers = {name: recipe.stage_numbers for name, recipe in SYSTEM.recipes.items()}
    assert numbers == {"coco": [2], "nus_wide": [2], "voc2007": [2], "folder": [2], "shapes": [1, 2]}


@pytest.mark.parametrize(("images", "asked", "iterations"), [
    (380, {}, 3000),
    (32_000, {}, 30_000),  # 15 epochs in batches of 16
    (380, {"epochs": [2.0]}, 48),
    (380, {"iterations": [7]}, 7),
])  # fmt: skip
def test_few_images_are_seen_often_unless_a_length_is_asked_for(images, asked, iterations):
    recipe = Asked(stages=asked).applied_to(OWN)
    dataset = replace(recipe.dataset, train_images=images)
    assert replace(recipe, dataset=dataset).iterations(2) == iterations
