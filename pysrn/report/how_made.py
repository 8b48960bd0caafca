"""The last part of the report: with what the run was made, and how that differs from the paper."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

from pysrn.data.pair.manifest import read_manifest
from pysrn.recipes import DATASETS, IMAGE_SIZE, RECIPES, STAGE_NAMES, TRUNKS, Recipe
from pysrn.report.data import Gathered
from pysrn.report.markup import Html, code, element, folded, paragraph, table
from pysrn.train.settings import Settings

PAPER_DATASETS = ("coco", "nus_wide", "wider_attribute")  # Sec. 4
AS_PUBLISHED, DIFFERS, UNKNOWN = "as published", "differs", "not published"
HASH_SHOWN = 16  # hexadecimal digits of a SHA-256


def manifest(found: Gathered) -> list[Html]:
    """Settings against the paper's, stages, data, weights, versions, and run.json as it is."""
    recipe = found.settings.recipe
    changed = list(_changed_fields(recipe))
    return [
        paragraph(
            f"Variant {recipe.variant}, seed {recipe.seed}, data {found.settings.data}. "
            "Where the paper's value is not published, the run's is an assumption."
        ),
        _comparison(found.settings),
        element("h3", "Changed from the recipe of the data set"),
        table(["setting", "recipe", "this run"], changed, text=3) if changed else paragraph("Nothing."),
        element("h3", "Stages"),
        _stages(found),
        element("h3", "Data"),
        _data(found),
        element("h3", "Versions"),
        _versions(found),
        folded("run.json", element("pre", json.dumps(found.settings.to_json(), indent=1), class_="scroll")),
    ]


def against_the_paper(settings: Settings) -> list[tuple[str, str, str, str]]:
    """Rows (what, this run, the paper, verdict). Sources of the paper's values are those of recipes.py."""
    recipe = settings.recipe
    dataset, heads, paper_trunk = recipe.dataset, recipe.heads, "resnet101_preact"
    released = recipe.variant == "released"
    crops = ", ".join(str(int(IMAGE_SIZE * ratio)) for ratio in recipe.augmentation.scale_ratios)
    widths = sorted({heads.attention_width, heads.regulariser_width})
    iterations = ", ".join(str(recipe.iterations(stage)) for stage in STAGE_NAMES)
    rows = [
        _row("data set", dataset.title, "MS-COCO 2014, NUS-WIDE, WIDER-Attribute", dataset.name in PAPER_DATASETS),
        _row("trunk", TRUNKS[recipe.trunk].title, TRUNKS[paper_trunk].title, recipe.trunk == paper_trunk),
        _row(
            "first weights",
            settings.weights or "none: from scratch",
            "ImageNet, with stochastic depth",
            None if settings.weights else False,
        ),
        _row("heads", "of the authors' released nets" if released else "of the text", "of the text", not released),
        _row("width of the heads", ", ".join(map(str, widths)), "512"),
        _row("losses of stage 4", "y_cls + y_sr + y_att" if released else "y_hat + y_att", "y_hat + y_att"),
        _row("first learning rates", _each(recipe, "base_lr"), "0.001"),
        _row("schedule", _each(recipe, "schedule"), ""),
        _row("iterations, at most", iterations, ""),
        _row("batch", f"{recipe.batch_size} x {recipe.iter_size}", ""),
        _row("momentum, weight decay", f"{recipe.momentum:g}, {recipe.weight_decay:g}", ""),
        _row("watched while training", _watched(recipe), "a part of the test images"),
        _row("crops, pixels of 256", crops, "256, 224, 192, 168, 128"),
        _row("view in testing", "the stored 256 x 256 image, resized", "the original file, resized"),
    ]
    if dataset.name in PAPER_DATASETS:
        published = DATASETS[dataset.name].train_images
        rows.insert(1, _row("training images", f"{dataset.train_images:,}", f"{published:,}"))
    return rows


def _comparison(settings: Settings) -> Html:
    rows = []
    for what, ours, paper, verdict in against_the_paper(settings):
        badge = element("span", verdict, class_="badge differs" if verdict == DIFFERS else "badge")
        rows.append([what, ours, element("span", paper, " ", badge)])
    return table(["", "this run", "the paper"], rows, text=3)


def _row(what: str, ours: str, paper: str, same: bool | None = False) -> tuple[str, str, str, str]:
    """Equal words are the same in any case; `same` None: nobody can tell."""
    if not paper or same is None:
        return what, ours, paper, UNKNOWN
    return what, ours, paper, AS_PUBLISHED if same or ours == paper else DIFFERS


def _watched(recipe: Recipe) -> str:
    if recipe.validation_fraction:
        return f"{100 * recipe.validation_fraction:g} % of the training images"
    return "nothing"


def _each(recipe: Recipe, name: str) -> str:
    """A field of the four stages: one value if it is the same for all."""
    values = [f"{value:g}" if isinstance(value := getattr(plan, name), float) else str(value) for plan in recipe.stages]
    return values[0] if len(set(values)) == 1 else ", ".join(values)


def _changed_fields(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Fields (name, value of the data set's recipe, of this run) that differ, other than data set and seed."""
    original = replace(RECIPES[recipe.dataset.name], variant=recipe.variant)
    ours, theirs = (dict(_flat(asdict(each))) for each in (recipe, original))
    for name, value in ours.items():
        if value != theirs.get(name) and name != "seed" and not name.startswith("dataset"):
            yield name, str(theirs.get(name, "")), str(value)


def _flat(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif name == "stages":
            for number, stage in enumerate(value, 1):
                yield from _flat(stage, f"stage {number}: ")
        else:
            yield f"{prefix}{name}", value


def _stages(found: Gathered) -> Html:
    rows = []
    for number, name in STAGE_NAMES.items():
        made = found.finished.get(number)
        if made is None:
            rows.append([f"{number} {name}", "not finished", "", "", "", ""])
            continue
        best = made.get("best_validation")
        rows.append(
            [
                f"{number} {name}",
                made["iterations"],
                f"{made['seconds']:.0f}",
                "-" if best is None else _best(best),
                len(made.get("fixed", ())),
                _hash(found.hashes[number]),
            ]
        )
    header = ["stage", "iterations", "seconds", "best validation", "layers held fixed", "SHA-256 of the weights"]
    return table(header, rows)


def _best(best: object) -> str:
    """The manifest's best validation loss, whatever form it has."""
    return ", ".join(f"{name} {value}" for name, value in best.items()) if isinstance(best, dict) else str(best)


def _data(found: Gathered) -> Html:
    content = None if found.pair is None else read_manifest(found.pair.folder)
    if content is None:
        return paragraph("The LMDB pair is not there.")
    rows = []
    for split, entry in content["splits"].items():
        files = [element("div", file, " ", _hash(digest)) for file, digest in (entry.get("sources") or {}).items()]
        counts = [entry.get(name, "-") for name in ("count", "skipped", "encoding")]
        rows.append([split, *counts, element("span", *files)])
    return table(["split", "images", "left out", "stored as", "made from (SHA-256)"], rows)


def _versions(found: Gathered) -> Html:
    sources = {f"stage {number}": made.get("versions", {}) for number, made in found.finished.items()}
    if found.pair is not None:
        sources["LMDB pair"] = (read_manifest(found.pair.folder) or {}).get("versions", {})
    names = list(dict.fromkeys(name for versions in sources.values() for name in versions))
    rows = [[name, *(versions.get(name, "") for versions in sources.values())] for name in names]
    return table(["", *sources], rows) if rows else paragraph("No stage is finished.")


def _hash(digest: str) -> Html:
    return code(str(digest)[:HASH_SHOWN])
