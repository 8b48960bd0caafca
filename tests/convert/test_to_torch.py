"""tools/to_torch.py from the outside: files, card, exit codes, and nothing lost on failure."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.console import MissingError, SrnError
from pysrn.convert import torch_export, torch_files, torch_weights
from pysrn.nets.caffemodel import read_layers, read_weights, sha256_of, write_weights
from pysrn.predict.deploy import DeployNet
from pysrn.recipes import class_names
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.srn.torch_model import SRN
from tests.srn import MAPS, SCORES, Architecture, check_images
from tools.to_torch import main


@pytest.fixture(scope="module")
def shapes_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "weights.caffemodel"
    architecture = Architecture("resnet14", len(class_names("shapes")), HeadSpec(32, 32))
    return write_realistic(path, architecture, check_images(2))


def files(folder):
    """What the tool wrote: ending -> path."""
    return {"-check.npz" if "check" in path.name else path.suffix: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def converted(shapes_model, tmp_path_factory):
    """The files of the small model, and what was printed."""
    folder, printed = tmp_path_factory.mktemp("converted"), io.StringIO()
    with redirect_stdout(printed):
        assert main([str(shapes_model), "-o", str(folder / "new" / "srn.pth"), "--dataset", "shapes"]) == 0
    return folder / "new", printed.getvalue()


def test_the_files_are_enough_to_use_the_net(shapes_model, converted):
    folder, printed = converted
    assert "score_sr" in printed and "OUT OF" not in printed and "worst: " in printed
    names = [path.name for path in sorted(folder.iterdir())]
    assert len(names) == 5 and names.count("srn-check.npz") == 1
    (folder.parent / "any").touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder.parent / "any").stat().st_mode}
    images = check_images(1, seed=9)
    for suffix in (".safetensors", ".pth"):
        path = files(folder)[suffix]
        assert path.name == f"srn-{sha256_of(path)[:8]}{suffix}"
        card = json.loads(path.with_suffix(".json").read_text())
        assert card["classes"] == list(class_names("shapes"))
        assert card["source"]["sha256"] == sha256_of(shapes_model)
        assert card["mean"] == [104.0, 117.0, 123.0] and card["variant"] == "paper"
        assert (card["file"], card["sha256"]) == (path.name, sha256_of(path))
        assert card["trunk_layers"]["blocks"] == [1, 1, 1, 1] and card["batch_norm_epsilon"] == 1e-5
        assert "256 x 256" in card["resize"] and "above 0.5" in card["outputs"]["prediction"]
        assert max(card["verification"]["max_abs_difference"].values()) < 1e-4
        assert "res3a_branch1" in card["verification"]["max_abs_difference"]
        model = SRN.from_pretrained(path)
        assert model.class_names == class_names("shapes") and not model.training
        differences = torch_export.verify(DeployNet(shapes_model), model, images)
        assert max(found.absolute for found in differences.values()) < 1e-4
    assert torch.load(files(folder)[".pth"], weights_only=True).keys() == model.state_dict().keys()


def test_the_same_weights_give_the_same_files(shapes_model, converted, tmp_path, capsys):
    assert main([str(shapes_model), "-o", str(tmp_path / "srn.safetensors"), "--dataset", "shapes"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in converted[0].iterdir()}
    assert "files of earlier calls stay" not in capsys.readouterr().err


def test_rgb_pictures_through_the_preprocessing(converted):
    model = SRN.from_pretrained(files(converted[0])[".pth"])
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    blue, green, red = (images[:, i] * 255 - mean for i, mean in ((2, 104), (1, 117), (0, 123)))
    with torch.inference_mode():
        expected, found = model(torch.stack([blue, green, red], 1)), model.with_preprocessing()(images)
    assert torch.allclose(expected.score, found.score, atol=1e-5)
    assert not torch.allclose(model(images).score, found.score, atol=1e-2)


def test_a_damaged_or_renamed_file_is_refused(converted, tmp_path):
    path = files(converted[0])[".safetensors"]
    card = path.with_suffix(".json").read_text()

    def refused(name, content, card, kind=SrnError):
        (tmp_path / name).write_bytes(content)
        if card is not None:
            (tmp_path / name).with_suffix(".json").write_text(card)
        with pytest.raises(kind) as error:
            SRN.from_pretrained(tmp_path / name)
        return str(error.value)

    content = path.read_bytes()
    changed = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
    assert "is damaged: its SHA-256" in refused(path.name, changed, card)
    assert "does not end in 8 digits" in refused("srn.safetensors", content, card)
    assert "card not found" in refused("no" + path.name, content, None, MissingError)
    assert "damaged, or no card" in refused(path.name, content, card.replace("resnet14", "resnet15"))
    assert "do not fit each other" in refused(
        path.name, content, card.replace("circle", "x", 1).replace('"classes": [', '"classes": ["y",')
    )
    torch.save({"path": Path("x")}, tmp_path / "object.pth")  # an object that is no tensor
    pickled = (tmp_path / "object.pth").read_bytes()
    name = f"srn-{hashlib.sha256(pickled).hexdigest()[:8]}.pth"
    assert "more than tensors" in refused(name, pickled, card)


def test_the_released_variant_goes_the_same_way(tmp_path, capsys):
    heads = HeadSpec(32, 32, variant="released", confidence_width=32)
    architecture = Architecture("resnet14_preact", len(class_names("shapes")), heads)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, check_images(2))
    assert main([str(path), "-o", str(tmp_path / "out" / "srn.pth"), "--dataset", "shapes"]) == 0
    written = files(tmp_path / "out")
    card = json.loads(written[".pth"].with_suffix(".json").read_text())
    assert (card["variant"], card["trunk"]) == ("released", "resnet14_preact")
    assert max(card["verification"]["max_abs_difference"].values()) < 1e-4
    assert torch_files.architecture_on(card) == architecture
    SRN.from_pretrained(written[".safetensors"])


WITHOUT_CAFFE = """
import json, sys
sys.modules["caffe"] = None
try:
    import caffe
except ImportError:
    from tools import from_torch, to_torch
    calls = json.loads(sys.argv[1])
    print(json.dumps([(to_torch if tool == "to_torch" else from_torch).main(words) for tool, *words in calls]))
    sys.exit()
sys.exit("Caffe is here")
"""


def test_conversion_needs_no_caffe(shapes_model, converted, tmp_path):
    """In a process of its own where Caffe cannot be imported."""
    for folder in ("alone", "stored"):
        (tmp_path / folder).mkdir()
        shutil.copy(shapes_model, tmp_path / folder / "weights.caffemodel")
    shutil.copy(files(converted[0])["-check.npz"], tmp_path / "stored")
    written = files(converted[0])[".safetensors"]
    calls = [
        ["to_torch", f"{tmp_path}/alone/weights.caffemodel", "--dataset", "shapes"],
        ["to_torch", f"{tmp_path}/stored/weights.caffemodel", "--dataset", "shapes"],
        ["to_torch", "--verify", str(written)],
        ["from_torch", str(written), "-o", f"{tmp_path}/back.caffemodel"],
    ]
    command = [sys.executable, "-c", WITHOUT_CAFFE, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0]", done.stderr
    assert "not verified" in done.stderr and done.stdout.count("Stored tensors of Caffe") == 2
    assert json.loads(files(tmp_path / "alone")[".json"].read_text())["verification"] is None
    for folder in ("alone", "stored"):  # the same bytes as with Caffe
        names = {path.name for path in (tmp_path / folder).iterdir() if path.suffix in (".pth", ".safetensors")}
        assert len(names) == 2 and names < {path.name for path in converted[0].iterdir()}
    before, after = read_weights(shapes_model), read_weights(tmp_path / "back.caffemodel")
    for name, blobs in before.items():
        assert [blob.tobytes() for blob in blobs] == [blob.tobytes() for blob in after[name]]


def test_stored_tensors_can_refuse(shapes_model, converted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch_export, "has_caffe", lambda: False)
    for path in (shapes_model, *converted[0].iterdir()):
        shutil.copy(path, tmp_path)
    stored = files(converted[0])["-check.npz"].name
    tensors = dict(np.load(tmp_path / stored))
    tensors["score_sr"][0, 3] += 1e-3
    np.savez(tmp_path / stored, **tensors)
    before = sorted(tmp_path.iterdir())
    assert main(["--verify", str(tmp_path / files(converted[0])[".pth"].name)]) == 4
    assert main([str(tmp_path / shapes_model.name), "--dataset", "shapes", "-o", str(tmp_path / "again.pth")]) == 4
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / stored).write_bytes(b"PK" + bytes(50))
    assert main(["--verify", str(tmp_path / files(converted[0])[".pth"].name)]) == 1
    (tmp_path / stored).unlink()
    assert main(["--verify", str(tmp_path / files(converted[0])[".pth"].name)]) == 3
    said = capsys.readouterr().err
    assert "npz is damaged" in said and "no stored tensors" in said


def test_onnx_is_checked_with_onnxruntime(shapes_model, tmp_path, monkeypatch, capsys):
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    words = [str(shapes_model), "--dataset", "shapes", "--onnx", "-o", str(tmp_path / "new" / "srn.pth")]
    assert main(words) == 0
    path = files(tmp_path / "new")[".onnx"]
    assert path.name == f"srn-{sha256_of(path)[:8]}.onnx"
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["file"] == path.name and max(card["onnxruntime"]["max_abs_difference"].values()) < 1e-4
    images = check_images(3, seed=4)
    nodes = {node.op_type for node in onnx.load(path).graph.node}
    assert "Reshape" in nodes and not nodes & {"Shape", "Slice", "Concat"}  # OpenCV 4.12 fails at two images with them
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(images)
    read = dict(zip(SCORES + MAPS, net.forward([*SCORES, *MAPS]), strict=True))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    score, att_map = session.run(["score", "att_map"], {"images": images})
    expected = DeployNet(shapes_model).forward(images, ["score", "att_map"])
    np.testing.assert_allclose(score, expected["score"], atol=1e-4)
    np.testing.assert_allclose(att_map, expected["att_map"], atol=1e-4)
    for name, logits in DeployNet(shapes_model).forward(images).items():
        np.testing.assert_allclose(read[name], logits, atol=1e-5 * abs(logits).max())

    from pysrn.convert import onnx_export

    right = onnx_export._write

    def wrong(model, path, images):
        with torch.no_grad():
            model.sr_fc.bias += 1e-2
            right(model, path, images)
            model.sr_fc.bias -= 1e-2

    monkeypatch.setattr(onnx_export, "_write", wrong)
    assert main([*words[:-1], str(tmp_path / "bad" / "srn.pth")]) == 4
    assert "score_sr" in capsys.readouterr().err and not list((tmp_path / "bad").glob("*.onnx"))


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
    assert out.read_bytes() == b"good work" and list(tmp_path.iterdir()) == [out]
    assert "OUT OF TOLERANCE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["{model}"], 2, "names of its labels are not known"),
        (["{model}", "--dataset", "coco"], 2, "has 16 labels, coco has 80"),
        (["{model}", "--dataset", "shapes", "-o", "{folder}"], 2, "must name a .safetensors or .pth file"),
        (["{model}", "--dataset", "shapes", "--data", "{folder}/none"], 3, "not found"),
        (["{folder}/none"], 3, "neither a file nor a folder"),
        (["{folder}"], 3, "no finished stage"),
        (["{folder}/text"], 1, "damaged or no caffemodel"),
        (["{folder}/half", "--dataset", "shapes"], 1, "1 layers of the net are not in it: sr_fc"),
        (
            ["{folder}/stage1", "--dataset", "shapes"],
            1,
            "earlier stage: no attention and no confidence and no regulariser",
        ),
        (["{folder}/stage2", "--dataset", "shapes"], 1, "earlier stage: no regulariser in it"),
        (["{folder}/nan", "--dataset", "shapes"], 1, "att_conv2.bias holds NaN or infinity"),
        (["{folder}/srn.pth", "--dataset", "shapes"], 2, "is no caffemodel"),
        (["--verify", "{folder}"], 2, "--verify needs a .safetensors or .pth file"),
        (["--verify", "{model}"], 2, "--verify needs a .safetensors or .pth file"),
    ],
)
def test_bad_input_is_one_line(shapes_model, tmp_path, capsys, arguments, code, reason):
    (tmp_path / "text").write_text("not a net\n" * 50)
    layers = read_layers(shapes_model)
    del layers["sr_fc"]
    write_weights(tmp_path / "half", "half", layers)
    for stage, heads in (("stage1", ("att_", "conf_", "sr_")), ("stage2", ("sr_",))):
        kept = {name: layer for name, layer in layers.items() if not name.startswith(heads)}
        write_weights(tmp_path / stage, stage, kept)
    whole = read_layers(shapes_model)
    whole["att_conv2"][1][1][3] = np.nan
    write_weights(tmp_path / "nan", "nan", whole)
    torch.save({"weight": torch.ones(1)}, tmp_path / "srn.pth")
    before = sorted(tmp_path.iterdir())
    filled = [argument.format(model=shapes_model, folder=tmp_path) for argument in arguments]
    assert main(filled) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0]
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_folder_names_the_labels_and_the_images(shapes_model, tmp_path, monkeypatch, capsys):
    """As after training: run.json says which data set, the weights are in stage4."""
    from pysrn.data.build import build_dataset
    from pysrn.train.run_folder import RunFolder
    from pysrn.train.settings import Settings
    from tests.srn import RECIPES

    monkeypatch.chdir(tmp_path)
    build_dataset("shapes", tmp_path / "pair", counts={"train": 2, "test": 3}, workers=1)
    run = RunFolder(tmp_path / "runs" / "shapes")
    run.write_settings(Settings(RECIPES["shapes"], str(tmp_path / "pair"), None))
    run.stage(4).mkdir()
    shutil.copy(shapes_model, run.weights(4))
    assert main([]) == 0
    assert "3 test images" in capsys.readouterr().out
    first = next(run.stage(4).glob("srn-*.pth"))
    saved = torch.load(first, weights_only=True)
    assert all(np.isfinite(value.numpy()).all() for value in saved.values())
    again = read_layers(shapes_model)  # trained further: both conversions stay, and the user is told
    again["sr_fc"][1][1][:] += 1
    write_weights(run.weights(4), "again", again)
    assert main([]) == 0
    said = capsys.readouterr().err.partition("files of earlier calls stay: ")[2]
    assert first.name in said and first.is_file()
    assert main([str(shapes_model), "--data", str(tmp_path / "pair"), "-o", str(tmp_path / "alone.pth")]) == 0
    assert SRN.from_pretrained(next(tmp_path.glob("alone-*.pth"))).class_names == class_names("shapes")
