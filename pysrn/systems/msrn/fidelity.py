"""How a run of MSRN differs from the released code, for its report: rows of what this run has and what that does."""

from __future__ import annotations

from pysrn.recipes import Recipe
from pysrn.systems.msrn.labels.vectors import SHIPPED
from pysrn.systems.published import AS_PUBLISHED, DIFFERS, UNKNOWN, judged

RELEASED_RATE, RELEASED_TRUNK = 0.1, "resnet101_v15"


def against_the_paper(recipe: Recipe, weights: str | None) -> list[tuple[str, str, str, str]]:
    """Rows (what, this run, the released code, verdict). `weights`: of ImageNet, None: from scratch."""
    heads, plan = recipe.heads, recipe.stages[-1]
    words = heads.label_vectors or ("shipped GloVe" if recipe.dataset.name in SHIPPED else "PPMI of the labels")
    stages = ", ".join(recipe.system.stage(number).name for number in recipe.stage_numbers)
    crops = ", ".join(f"{ratio:g}" for ratio in recipe.augmentation.scale_ratios)
    return [
        judged("trunk", recipe.trunk, RELEASED_TRUNK),
        ("first weights", weights or "none: from scratch", "torchvision's ImageNet", UNKNOWN if weights else DIFFERS),
        judged("stages", stages, "msrn"),
        judged("input", f"{recipe.input.size}", "448"),
        ("label vectors", words, "GloVe 6B", DIFFERS if words.startswith("PPMI") else AS_PUBLISHED),
        ("label graph", "of the training labels", "published counts", DIFFERS),
        judged("fusion", heads.fusion, "flatten"),
        judged("width of embeddings", f"{heads.embedding_width}", "512"),
        judged("first learning rate", f"{plan.base_lr * plan.new_layer_lr:g}", f"{RELEASED_RATE:g}"),
        judged("batch", f"{recipe.batch_size} x {recipe.iter_size}", "16 x 1"),
        judged("momentum, weight decay", f"{recipe.momentum:g}, {recipe.weight_decay:g}", "0.9, 0.0001"),
        judged("iterations, at most", f"{recipe.iterations(recipe.stage_numbers[-1])}", ""),
        judged("crops, parts of the image", crops, "1, 0.9, 0.8, 0.7, 0.6"),
        ("where crops are taken", "the stored, warped image", "the original image", DIFFERS),
        ("kept weights", "the last ones", "the best on the test images", DIFFERS),
    ]
