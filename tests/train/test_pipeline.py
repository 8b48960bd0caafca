"""What counts as the same stage: settings, data and starting weights, not the names of folders; and the flags."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from pysrn.console import UsageError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.prototxt import read_message
from pysrn.predict.trained import default_run
from pysrn.train.flags import Asked
from pysrn.train.prepared import PreparedStage
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import Settings, choose_settings
from tests.srn import RECIPES
from tests.train.conftest import call_run_stage
from tools import make_lmdb


def settings_digest(settings, number):
    return PreparedStage(RunFolder(Path("nowhere")), settings, number).digest


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


def test_digest_follows_what_the_plateau_schedule_goes_by(small_data):
    def digest(schedule, **changes):
        stages = tuple(replace(plan, schedule=schedule, **changes) for plan in RECIPES["shapes"].stages)
        dataset = replace(RECIPES["shapes"].dataset, train_images=48)
        recipe = replace(RECIPES["shapes"], stages=stages, dataset=dataset, validation_fraction=0.25)
        return settings_digest(Settings(recipe, str(small_data), None), 1)

    for changes in ({"patience": 9}, {"min_lr": 1e-9}, {"validate_every": 7}):
        assert digest("plateau", **changes) != digest("plateau")
        assert digest("multistep", **changes) == digest("multistep")  # Caffe's steps do not look at the figures
    assert digest("plateau", gamma=0.5) != digest("plateau") and digest("plateau") != digest("multistep")


def test_every_number_of_the_recipe_has_a_flag_that_is_recorded(small_data, tmp_path):
    flags = {
        "variant": "released",
        "trunk": "resnet14",
        "batch_size": 1,
        "iter_size": 2,
        "iterations": 1,
        "base_lr": 0.002,
        "new_layer_lr": 2.0,
        "schedule": "multistep",
        "drops": "0.25,0.75",
        "gamma": "0.2,0.3,0.4,0.5",
        "patience": "7",
        "min_lr": "1e-6",
        "validate_every": "9",
        "momentum": 0.8,
        "weight_decay": 0.0,
        "seed": 3,
        "train_bn": "1,4",
    } | {"validation_fraction": 0.25}
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
    words.append("--no-confidence-sees-blocks")
    done = call_run_stage("1", *words, runs=tmp_path, data=small_data)
    assert done.returncode == 0, done.stderr
    assert "variant released, batch 1 x 2 x 1 = 2" in done.stderr
    recipe = json.loads((tmp_path / "shapes/run.json").read_text())["recipe"]
    assert recipe["heads"]["variant"] == flags["variant"] and recipe["system"] == "srn"
    for name in ("batch_size", "iter_size", "momentum", "weight_decay", "seed"):
        assert recipe[name] == flags[name], name
    assert recipe["validation_fraction"] == 0.25
    assert recipe["heads"]["confidence_sees_blocks"] is False
    assert [stage["train_bn"] for stage in recipe["stages"]] == [True, False, False, True]
    for number, stage in enumerate(recipe["stages"]):
        assert stage["gamma"] == (0.2, 0.3, 0.4, 0.5)[number] and stage["drops"] == [0.25, 0.75]
        assert (stage["patience"], stage["min_lr"], stage["validate_every"]) == (7, 1e-6, 9)
        assert (stage["iterations"], stage["base_lr"], stage["new_layer_lr"]) == (1, 0.002, 2.0)
    solver = read_message(tmp_path / "shapes/stage1/solver.prototxt", caffe_pb2.SolverParameter)
    assert (solver.iter_size, solver.random_seed) == (2, 4)
    np.testing.assert_allclose([solver.momentum, solver.weight_decay, solver.gamma], [0.8, 0, 0.2], rtol=1e-6)
    kept = call_run_stage("1", "--dry-run", runs=tmp_path, data=small_data)
    assert "keep, 1 iterations" in kept.stderr, kept.stderr


def test_epochs_replace_the_recipes_iterations():
    settings = choose_settings(None, "shapes", asked=Asked(stages={"epochs": [2.0]}))
    dataset = replace(settings.recipe.dataset, train_images=50)
    assert replace(settings.recipe, dataset=dataset, batch_size=16).iterations(1) == 7  # 100 images in batches of 16


def test_a_pair_of_another_size_is_refused_before_anything_starts(tmp_path):
    folder, words = tmp_path / "shapes", ["shapes", "--train", "4", "--test", "2", "--image-size", "96"]
    assert make_lmdb.main([*words, "--out", str(folder)]) == 0
    assert PairReader(folder, "train").image(0).shape == (96, 96, 3)
    done = call_run_stage("1", runs=tmp_path / "runs", data=folder)
    assert done.returncode == 2 and "96 x 96" in done.stderr and "--image-size 256" in done.stderr
    assert not (tmp_path / "runs/shapes/stage1").exists()


def test_a_run_of_an_unknown_system_is_named_and_passed_over(tmp_path):
    foreign = tmp_path / "runs/foreign"
    RunFolder(foreign).write_settings(Settings(RECIPES["shapes"], "data/shapes", None))
    text = (foreign / "run.json").read_text()
    (foreign / "run.json").write_text(text.replace('"srn"', '"elsewhere"'))
    with pytest.raises(UsageError, match=r"foreign/run.json: no system elsewhere") as caught:
        RunFolder(foreign).read_settings()
    assert "PYSRN_SYSTEMS" in caught.value.cure
    assert default_run(tmp_path / "runs") == tmp_path / "runs/shapes"
