"""What counts as the same stage: settings, data and starting weights, not the names of folders."""

import json
import shutil
from dataclasses import replace

from pysrn.recipes import RECIPES
from pysrn.train.pipeline import settings_digest
from pysrn.train.settings import Settings


def test_digest_follows_recipe_and_data_but_not_the_folder(small_data, tmp_path):
    recipe = RECIPES["shapes"]
    digest = settings_digest(Settings(recipe, str(small_data), None), 1)
    moved = tmp_path / "moved"
    shutil.copytree(small_data, moved)
    assert settings_digest(Settings(recipe, str(moved), None), 1) == digest
    assert settings_digest(Settings(replace(recipe, seed=1), str(moved), None), 1) != digest
    manifest = json.loads((moved / "manifest.json").read_text())
    manifest["splits"]["train"]["sources"] = {"train.json": "of another seed"}
    (moved / "manifest.json").write_text(json.dumps(manifest))
    assert settings_digest(Settings(recipe, str(moved), None), 1) != digest
