"""tools/to_torch.py from the outside: files, card, exit codes, and nothing lost on failure."""

import json
import shutil

import numpy as np
import pytest
import torch

from pysrn.convert import torch_export, torch_weights
from pysrn.evaluate.deploy import DeployNet
from pysrn.evaluate.trained import Architecture
from pysrn.nets.caffemodel import read_layers, sha256_of, write_weights
from pysrn.recipes import HeadSpec, class_names
from tests.realistic_weights import write_realistic
from tools.to_torch import main


@pytest.fixture(scope="module")
def shapes_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "weights.caffemodel"
    architecture = Architecture("resnet14", len(class_names("shapes")), HeadSpec(32, 32))
    return write_realistic(path, architecture, torch_export.check_images(2))


def test_the_files_are_enough_to_use_the_net(shapes_model, tmp_path, capsys):
    out = tmp_path / "new" / "srn.pth"
    assert main([str(shapes_model), "-o", str(out), "--dataset", "shapes"]) == 0
    printed = capsys.readouterr().out
    assert "score_sr" in printed and "OUT OF" not in printed
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["classes"] == list(class_names("shapes"))
    assert card["source"]["sha256"] == sha256_of(shapes_model)
    assert card["mean"] == [104.0, 117.0, 123.0]
    assert max(card["verification"]["max_abs_difference_to_caffe"].values()) < 1e-4
    assert card["variant"] == "paper"
    architecture = Architecture(card["trunk"], len(card["classes"]), HeadSpec(**card["heads"]))
    model = torch_weights.empty_model(architecture)
    model.load_state_dict(torch.load(out, weights_only=True))
    images = torch_export.check_images(1, seed=9)
    differences = torch_export.verify(DeployNet(shapes_model), model, images)
    assert max(found.absolute for found in differences.values()) < 1e-4
    assert [path.name for path in sorted(out.parent.iterdir())] == ["srn.json", "srn.pth"]


def test_the_released_variant_goes_the_same_way(tmp_path, capsys):
    heads = HeadSpec(32, 32, variant="released", confidence_width=32)
    architecture = Architecture("resnet14_preact", len(class_names("shapes")), heads)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, torch_export.check_images(2))
    out = tmp_path / "srn.pth"
    assert main([str(path), "-o", str(out), "--dataset", "shapes"]) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert (card["variant"], card["trunk"]) == ("released", "resnet14_preact")
    assert max(card["verification"]["max_abs_difference_to_caffe"].values()) < 1e-4
    again = Architecture(card["trunk"], len(card["classes"]), HeadSpec(**card["heads"]))
    assert again == architecture
    torch_weights.empty_model(again).load_state_dict(torch.load(out, weights_only=True))


def test_beyond_the_tolerance_is_exit_4_and_the_old_file_stays(shapes_model, tmp_path, monkeypatch, capsys):
    out = tmp_path / "srn.pth"
    out.write_bytes(b"good work")
    right = torch_weights.state_dict

    def wrong(model, weights, source):
        values = right(model, weights, source)
        values["conf_conv1.bias"] = values["conf_conv1.bias"] + 1e-3
        return values

    monkeypatch.setattr(torch_weights, "state_dict", wrong)
    assert main([str(shapes_model), "-o", str(out), "--dataset", "shapes"]) == 4
    assert out.read_bytes() == b"good work"
    assert "OUT OF TOLERANCE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["{model}"], 2, "names of its labels are not known"),
        (["{model}", "--dataset", "coco"], 2, "has 16 labels, coco has 80"),
        (["{model}", "--dataset", "shapes", "-o", "{folder}"], 2, "must name a .pth file"),
        (["{model}", "--dataset", "shapes", "--data", "{folder}/none"], 3, "not found"),
        (["{folder}/none"], 3, "neither a file nor a folder"),
        (["{folder}"], 3, "no finished stage"),
        (["{folder}/text"], 1, "damaged or no caffemodel"),
        (["{folder}/half", "--dataset", "shapes"], 1, "1 layers of the net are not in it: sr_fc"),
    ],
)
def test_bad_input_is_one_line(shapes_model, tmp_path, capsys, arguments, code, reason):
    (tmp_path / "text").write_text("not a net\n" * 50)
    layers = read_layers(shapes_model)
    del layers["sr_fc"]
    write_weights(tmp_path / "half", "half", layers)
    before = sorted(tmp_path.iterdir())
    filled = [argument.format(model=shapes_model, folder=tmp_path) for argument in arguments]
    assert main(filled) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0]
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_folder_names_the_labels_and_the_images(shapes_model, tmp_path, monkeypatch, capsys):
    """As after training: run.json says which data set, the weights are in stage4."""
    from pysrn.data.build import build_dataset
    from pysrn.recipes import RECIPES
    from pysrn.train.run_folder import RunFolder
    from pysrn.train.settings import Settings

    monkeypatch.chdir(tmp_path)
    build_dataset("shapes", tmp_path / "pair", counts={"train": 2, "test": 3}, workers=1)
    run = RunFolder(tmp_path / "runs" / "shapes")
    run.write_settings(Settings(RECIPES["shapes"], str(tmp_path / "pair"), None))
    run.stage(4).mkdir()
    shutil.copy(shapes_model, run.weights(4))
    assert main([]) == 0
    assert "3 test images" in capsys.readouterr().out
    saved = torch.load(run.stage(4) / "srn.pth", weights_only=True)
    assert all(np.isfinite(value.numpy()).all() for value in saved.values())
