"""What an earlier version left on the disk is read, and gone on with, as that version would have.

`tests/data/earlier_version` has it: `make.py` says how it was made, `expected.json` by which commit. Nothing here but
command lines, file formats that users have, and `SRN.from_pretrained`: so it holds however the package is arranged.
"""

import csv
import json
import shutil
import tarfile

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.data.earlier_version.make import (
    ARCHIVE,
    CACHE,
    COUNTS,
    EXPECTED,
    LABELS,
    VARIANTS,
    layers_of,
    rounding,
    tool,
    weights_digest,
)

SCORES = ("score_cls", "score_att", "score_sr", "score")
# Another processor or BLAS kernel, or Caffe's own engine, gave losses 2e-6 and weights 3e-5 apart (of a greatest 32).
LOSS_TOLERANCE, TOLERANCE = 1e-3, 1e-4


def pretrained(path):
    """The net of a PyTorch file; imported here, the one place to follow when the module moves."""
    from pysrn.convert.torch_model import SRN

    return SRN.from_pretrained(path)


@pytest.fixture(scope="module")
def expected() -> dict:
    """What that version made of it, and on what machine."""
    return json.loads(EXPECTED.read_text())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder that it left; not to be changed."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:  # Python 3.11.2 has no filter yet
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


@pytest.fixture
def place(unpacked, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(unpacked, tmp_path / "place")


@pytest.fixture(scope="module", params=VARIANTS)
def went_on(request, unpacked, tmp_path_factory):
    """Variant, folder and words of a begun stage 2 that went on to its end."""
    variant = request.param
    place = shutil.copytree(unpacked, tmp_path_factory.mktemp("went_on") / "place")
    done = tool("run_stage", 2, "--run", variant, *CACHE[variant], check=False, cwd=place)
    assert done.returncode == 0, done.stderr
    return variant, place, done.stderr


def column(path, name):
    """A column of a log, as numbers."""
    with open(path, newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def arrays(path):
    """What an .npz holds, by name."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def assert_close(ours, theirs, what):
    """Within TOLERANCE, of a value above 1 times that value."""
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)


def assert_same_predictions(ours, theirs):
    """The same images and labels, scores but for rounding."""
    ours, theirs = arrays(ours), arrays(theirs)
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        if name in SCORES:
            assert ours[name].dtype == values.dtype
            assert_close(ours[name], values, name)
        elif name != "about":
            np.testing.assert_array_equal(ours[name], values)


def computed_by(cache):
    """Which Caffe and OpenCV a cache of features is of."""
    return json.loads((cache / "manifest.json").read_text())["identity"]["computed_by"]


def stated(values, path=()):
    """The numbers and texts of nested JSON values, by where they are."""
    if not isinstance(values, dict | list):
        return {path: values}
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    return {place: value for name, part in pairs for place, value in stated(part, (*path, name)).items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_plan_keeps_what_is_finished_and_resumes_what_is_begun(unpacked, expected, variant):
    before = {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")}
    plan = tool("run_stage", 4, "--run", variant, "--dry-run", check=False, cwd=unpacked)
    assert plan.returncode == 0, plan.stderr
    assert "stage 1 (main): keep, 6 iterations (done)" in plan.stderr
    first = expected["runs"][variant]["resumed_from"]
    assert f"stage 2 (attention): resume, iterations {first}-40" in plan.stderr
    assert "warning" not in plan.stderr
    status = tool("run_stage", "--run", variant, "--status", check=False, cwd=unpacked)
    assert status.returncode == 0, status.stderr
    assert status.stdout.count(" done ") == 1 and f"{first}/40" in status.stdout
    assert before == {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")}


def test_a_begun_stage_goes_on_to_the_same_end(went_on, unpacked, expected):
    variant, place, said = went_on
    assert "stage 1 (main): keep" in said
    assert f"going on from the snapshot of iteration {expected['runs'][variant]['resumed_from']}\n" in said
    assert "warning" not in said
    ours, theirs = place / "runs" / variant / "stage2", place / "expected" / variant
    logs = ["log.csv", *(path.name for path in theirs.glob("validation.csv"))]
    for log in logs:
        losses = (column(folder / log, "loss") for folder in (ours, theirs))
        np.testing.assert_allclose(*losses, rtol=LOSS_TOLERANCE, err_msg=log)
        for name in ("iteration", "lr"):
            assert column(ours / log, name) == column(theirs / log, name)
    weights, known = layers_of(ours / "weights.caffemodel"), layers_of(theirs / "weights.caffemodel")
    assert list(weights) == list(known)
    first = layers_of(unpacked / "runs" / variant / "stage1/weights.caffemodel")
    assert set(first) < set(known)
    for name, blobs in known.items():
        for blob, values in zip(weights[name], blobs, strict=True):
            assert_close(blob, values, name)
            assert name not in first or blob.tobytes() == values.tobytes(), name
    for path in (unpacked / "runs" / variant / "stage1").iterdir():
        assert (place / path.relative_to(unpacked)).read_bytes() == path.read_bytes()


def test_a_begun_stage_goes_on_bit_for_bit(went_on, expected):
    variant, place, _ = went_on
    now = rounding()
    if odd := [name for name, value in expected["rounding"].items() if now[name] != value]:
        pytest.skip(f"sums are rounded in another way here than where it was made: other {', '.join(odd)}")
    ours, theirs = place / "runs" / variant / "stage2", place / "expected" / variant
    weights = layers_of(ours / "weights.caffemodel")
    assert weights_digest(weights) == expected["runs"][variant]["stage2_weights"]
    assert column(ours / "log.csv", "loss") == column(theirs / "log.csv", "loss")


@pytest.mark.parametrize("went_on", ["paper"], indirect=True)  # the other run computes its features
def test_features_on_the_disk_are_used_and_not_computed_anew(went_on, unpacked):
    _, place, said = went_on
    before, after = (sorted((folder / "runs/paper/features").iterdir()) for folder in (unpacked, place))
    by = {json.dumps(computed_by(folder), sort_keys=True) for folder in after}
    if len(by) > 1:
        pytest.skip(f"features of another engine, device or OpenCV are others: {', '.join(by)}")
    assert [path.name for path in after] == [path.name for path in before]
    for path in sorted(path for folder in before for path in folder.iterdir()):
        copy = place / path.relative_to(unpacked)
        assert copy.read_bytes() == path.read_bytes()
        assert copy.stat().st_mtime_ns == path.stat().st_mtime_ns, f"{path.name} was written again"
    # All rows were there before: six images in one view, two for validation.
    rows = {path.name.rpartition("_")[0]: np.fromfile(path / "checksums.bin", "<u8") for path in before}
    assert {name: np.count_nonzero(sums) for name, sums in rows.items()} == {"train_fp32": 6, "train_whole_fp32": 2}
    assert "damaged" not in said


@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_are_read_and_made_again(place, variant):
    stage = place / "runs" / variant / "stage1"
    done = tool("evaluate", stage / "predictions_test.npz", "--out", "metrics.json", check=False, cwd=place)
    assert done.returncode == 0, done.stderr
    found = stated(json.loads((place / "metrics.json").read_text()))
    for path, value in stated(json.loads((place / "expected" / variant / "metrics.json").read_text())).items():
        if path[-1] != "file":
            assert found[path] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), path
    again = tool("predict", f"runs/{variant}", "--stage", 1, "--out", "again.npz", check=False, cwd=place)
    assert again.returncode == 0, again.stderr
    assert_same_predictions(place / "again.npz", stage / "predictions_test.npz")


def test_the_lmdb_pair_is_whole(place):
    done = tool("make_lmdb", "folder", "--out", "data/own", "--verify", check=False, cwd=place)
    assert done.returncode == 0, done.stderr
    assert [line.split(" ", 1)[1] for line in done.stdout.splitlines()] == [
        f"{split}: {count} images" for split, count in COUNTS.items()
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_of_the_whole_net_predict_the_same(place, variant):
    whole = place / "whole" / variant
    arguments = (whole / "weights.caffemodel", "--data", "data/own", "--out", "again.npz")
    done = tool("predict", *arguments, check=False, cwd=place)
    assert done.returncode == 0, done.stderr
    assert_same_predictions(place / "again.npz", whole / "predictions.npz")


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_of_the_whole_net_become_the_same_pytorch_file(place, variant):
    whole = place / "whole" / variant
    arguments = (whole / "weights.caffemodel", "--data", "data/own", "--out", "again/srn.pth")
    done = tool("to_torch", *arguments, check=False, cwd=place)
    assert done.returncode == 0, done.stderr
    (ours,), (theirs,) = (folder.glob("*.safetensors") for folder in (place / "again", whole))
    values, known = safetensors.torch.load_file(ours), safetensors.torch.load_file(theirs)
    assert set(values) == set(known)
    assert all(torch.equal(values[name], tensor) for name, tensor in known.items())
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in (ours, theirs)]
    for name in ("variant", "trunk", "classes", "mean", "channel_order", "outputs", "source"):
        assert cards[0][name] == cards[1][name], name
    for name in ("trunk_layers", "heads"):  # newer cards say more
        assert cards[0][name].items() >= cards[1][name].items()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_pytorch_files_are_read_with_their_cards(unpacked, variant, suffix):
    (path,) = (unpacked / "whole" / variant).glob(f"*{suffix}")
    done = tool("to_torch", "--verify", path, check=False)
    assert done.returncode == 0, done.stderr
    assert "7 of 7 blobs within it" in done.stdout
    model = pretrained(path)
    assert model.class_names == LABELS and not model.training
    (stored,) = map(arrays, path.parent.glob("*-check.npz"))
    with torch.inference_mode():
        outputs = model(torch.from_numpy(stored["images"]))._asdict()
    for name in SCORES:
        assert_close(outputs[name].numpy(), stored[name], name)
