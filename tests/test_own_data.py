"""A user's own images and CSV files, through the tools, to PyTorch weights whose card names the user's labels."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LABELS = 5


@pytest.fixture(scope="module")
def own_images(tmp_path_factory) -> Path:
    """24 training and 8 test pictures in one folder, with train.csv and test.csv: the first five labels of `shapes`."""
    drawn, own = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("own")
    _call("make_lmdb", "shapes", "--out", drawn, "--train", 24, "--test", 8)
    (own / "images").mkdir()
    for split in ("train", "test"):
        content = json.loads((drawn / "annotations" / f"{split}.json").read_text())
        names = {row["id"]: row["name"] for row in content["categories"][:LABELS]}
        has = {(row["image_id"], row["category_id"]) for row in content["annotations"]}
        with open(own / f"{split}.csv", "w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["file", *names.values()])
            for image in content["images"]:
                file = f"{split}_{Path(image['file_name']).name}"
                shutil.copy(drawn / "images" / split / image["file_name"], own / "images" / file)
                table.writerow([file, *(int((image["id"], label) in has) for label in names)])
    return own


def test_from_csv_files_to_torch_weights(own_images, tmp_path):
    data, runs = tmp_path / "birds", tmp_path / "runs"
    _call("make_lmdb", "folder", "--root", own_images, "--out", data)
    _call(
        "run_stage", 4, "--dataset", "folder", "--run", "birds", "--data", data, "--runs", runs,
        "--trunk", "resnet14", "--from-scratch", "--iterations", 2, "--batch-size", 4,
    )  # fmt: skip
    with open(own_images / "train.csv", newline="") as stream:
        labels = next(csv.reader(stream))[1:]
    assert json.loads((runs / "birds" / "run.json").read_text())["recipe"]["dataset"]["labels"] == labels
    assert f"{LABELS} labels" in _call("predict", runs / "birds")
    _call("to_torch", runs / "birds")
    assert json.loads(next((runs / "birds" / "stage4").glob("srn-*.json")).read_text())["classes"] == labels
    # the run goes on with its own labels: nothing is asked again, and nothing is redone
    assert "stage4" in _call("run_stage", 4, "--run", "birds", "--runs", runs)


def _call(tool: str, *words) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
