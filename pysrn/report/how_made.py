"""The last part of the report: with what the run was made, and how that differs from the paper."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pysrn.data.pair.manifest import read_manifest
from pysrn.recipes import Recipe
from pysrn.report.data import Gathered
from pysrn.report.markup import Html, code, element, folded, paragraph, table
from pysrn.systems.published import DIFFERS
from pysrn.train.settings import recipe_values

HASH_SHOWN = 16  # hexadecimal digits of a SHA-256


def manifest(found: Gathered) -> list[Html]:
    """Settings against the paper's, stages, data, weights, versions, and run.json as it is."""
    recipe = found.settings.recipe
    changed, compared = list(_changed_fields(recipe)), []
    for what, ours, paper, verdict in recipe.system.against_paper(recipe, found.settings.weights):
        badge = element("span", verdict, class_="badge differs" if verdict == DIFFERS else "badge")
        compared.append([what, ours, element("span", paper, " ", badge)])
    first = ", ".join(filter(None, (recipe.system.words_of(recipe), f"seed {recipe.seed}")))
    text = f"{first[:1].upper()}{first[1:]}, data {found.settings.data}. "
    text += "Where the paper's value is not published, the run's is an assumption."
    return [
        paragraph(text),
        table(["", "this run", "the paper"], compared, text=3),
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


def _changed_fields(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Fields (name, value of the data set's recipe, of this run) that differ, other than data set and seed."""
    system = recipe.system
    original = system.recipe(recipe.dataset.name, system.variant_of(recipe))
    ours, theirs = (dict(_flat(recipe_values(each))) for each in (recipe, original))
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
    for number, name in found.stage_names.items():
        made = found.finished.get(number)
        if made is None:
            rows.append([f"{number} {name}", "not finished", "", "", "", ""])
            continue
        best = made.get("best_validation")
        if isinstance(best, dict):  # it had other forms
            best = ", ".join(f"{name} {value}" for name, value in best.items())
        numbers = [made["iterations"], f"{made['seconds']:.0f}", "-" if best is None else best]
        rows.append([f"{number} {name}", *numbers, len(made.get("fixed", ())), _hash(found.hashes[number])])
    header = ["stage", "iterations", "seconds", "best validation", "layers held fixed", "SHA-256 of the weights"]
    return table(header, rows)


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
