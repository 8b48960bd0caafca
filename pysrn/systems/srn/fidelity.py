"""How a run of SRN differs from the paper, for its report: rows of what this run has and what the paper says."""

from __future__ import annotations

from pysrn.recipes import DATASETS, Recipe
from pysrn.systems.published import judged
from pysrn.systems.trunks.resnet import TRUNKS

PAPER_DATASETS = ("coco", "nus_wide", "wider_attribute")  # Sec. 4


def against_the_paper(recipe: Recipe, weights: str | None) -> list[tuple[str, str, str, str]]:
    """Rows (what, this run, the paper, verdict). Sources of the paper's values are those of recipes.py.

    `weights`: the file of ImageNet weights, None: from scratch.
    """
    dataset, heads = recipe.dataset, recipe.heads
    # Official repo issue 14 says "pre-activation"; where the first BN is, the code that it refers to.
    paper_trunks = ("resnet101_preact", "resnet101_preact_fb")
    released, stochastic = heads.variant == "released", "ImageNet, with stochastic depth"
    crops = ", ".join(str(int(recipe.input.stored_size * ratio)) for ratio in recipe.augmentation.scale_ratios)
    widths = sorted({heads.attention_width, heads.regulariser_width})
    iterations = ", ".join(str(recipe.iterations(stage)) for stage in range(1, len(recipe.stages) + 1))
    held_out = recipe.validation_fraction
    watched = f"{100 * held_out:g} % of the training images" if held_out else "nothing"
    rows = [
        judged("data set", dataset.title, "MS-COCO 2014, NUS-WIDE, WIDER-Attribute", dataset.name in PAPER_DATASETS),
        judged("trunk", TRUNKS[recipe.trunk].title, TRUNKS[paper_trunks[0]].title, recipe.trunk in paper_trunks),
        judged("first weights", weights or "none: from scratch", stochastic, None if weights else False),
        judged("heads", "of the authors' released nets" if released else "of the text", "of the text", not released),
        judged("width of the heads", ", ".join(map(str, widths)), "512"),
        judged("losses of stage 4", "y_cls + y_sr + y_att" if released else "y_hat + y_att", "y_hat + y_att"),
        judged("first learning rates", _each(recipe, "base_lr"), "0.001"),
        judged("schedule", _each(recipe, "schedule"), ""),
        judged("iterations, at most", iterations, ""),
        judged("batch", f"{recipe.batch_size} x {recipe.iter_size}", ""),
        judged("momentum, weight decay", f"{recipe.momentum:g}, {recipe.weight_decay:g}", ""),
        judged("watched while training", watched, "a part of the test images"),
        judged("crops, pixels of 256", crops, "256, 224, 192, 168, 128"),
        judged("view in testing", "the stored 256 x 256 image, resized", "the original file, resized"),
    ]
    if dataset.name in PAPER_DATASETS:
        published = DATASETS[dataset.name].train_images
        rows.insert(1, judged("training images", f"{dataset.train_images:,}", f"{published:,}"))
    return rows


def _each(recipe: Recipe, name: str) -> str:
    """A field of the four stages: one value if it is the same for all."""
    values = [f"{value:g}" if isinstance(value := getattr(plan, name), float) else str(value) for plan in recipe.stages]
    return values[0] if len(set(values)) == 1 else ", ".join(values)
