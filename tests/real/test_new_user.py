"""A new user with 300 photos, in each format: from files to a report and a PyTorch file, by the pages' commands alone.

Slow (about two minutes a format on two cores): `pytest -s -m slow tests/real/test_new_user.py`.
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from pysrn.data.pair.lmdb_pair import PairReader

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PHOTOS, TEST_EVERY, LABELS = 300, 5, 12

# As README.md and docs/ have them, with a small trunk and few iterations.
COMMANDS = """
tools/make_lmdb.py folder --root MINE --out data/mine
tools/make_lmdb.py folder --out data/mine --verify
tools/run_stage.py 4 --dataset folder --run mine --data data/mine --from-scratch --trunk resnet14
    --iterations 4 --batch-size 4
tools/run_stage.py --status --run mine
tools/predict.py runs/mine
tools/evaluate.py runs/mine --per-class
tools/visualize.py attention runs/mine --count 2
tools/predict.py photo.jpg --attention
tools/report.py runs/mine
tools/to_torch.py runs/mine
""".replace("\n    ", " ").strip()


@pytest.fixture(scope="module")
def photos(shared_data) -> dict[str, list[tuple[Path, list[str]]]]:
    """Split -> (file, its labels): real COCO photos and the labels that most of them have."""
    root = shared_data / "coco_images"
    with open(root / "manifest.csv", newline="", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    own = [(root / row[0], [name for name, cell in zip(head[3:], row[3:], strict=True) if cell == "1"]) for row in rows]
    common = [name for name, _ in Counter(name for _, names in own for name in names).most_common(LABELS)]
    distinct = {path.stem.rpartition("_")[2]: (path, [n for n in names if n in common]) for path, names in own}
    chosen = list(distinct.values())[:PHOTOS]
    assert len(chosen) == PHOTOS
    test = chosen[::TEST_EVERY]
    return {"train": [photo for photo in chosen if photo not in test], "test": test}


def classes_of(photos):
    return sorted({name for part in photos.values() for _, names in part for name in names})


def copied(photos, folder):
    for path, _ in photos:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)


def labels_column(photos, root):
    for split, part in photos.items():
        copied(part, root / "images")
        with open(root / f"{split}.csv", "w", newline="") as stream:
            csv.writer(stream).writerows([("file", "labels"), *((path.name, ";".join(own)) for path, own in part)])


def column_a_class(photos, root, table="{}.csv", images="images"):
    classes = classes_of(photos)
    for split, part in photos.items():
        copied(part, root / images.format(split))
        with open(root / table.format(split), "w", newline="") as stream:
            rows = ((path.name, *(int(name in own) for name in classes)) for path, own in part)
            csv.writer(stream).writerows([("filename", *classes), *rows])


def roboflow_table(photos, root):
    column_a_class(photos, root, "{}/_classes.csv", "{}")


def coco_json(photos, root):
    numbers = {name: number for number, name in enumerate(classes_of(photos), 1)}
    for split, part in photos.items():
        copied(part, root / split)
        content = {
            "categories": [{"id": 0, "name": "things"}, *({"id": n, "name": name} for name, n in numbers.items())],
            "images": [{"id": number, "file_name": path.name} for number, (path, _) in enumerate(part)],
            "annotations": [
                {"id": 100 * number + numbers[name], "image_id": number, "category_id": numbers[name], "bbox": []}
                for number, (_, own) in enumerate(part)
                for name in own
            ],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))


def voc_xml(photos, root):
    for split, part in photos.items():
        copied(part, root / split)
        for path, own in part:
            height, width = cv2.imread(str(path)).shape[:2]
            corners = f"<xmin>1</xmin><ymin>1</ymin><xmax>{width}</xmax><ymax>{height}</ymax>"
            things = "".join(f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>" for name in own)
            text = f"<annotation><filename>{path.name}</filename>{things}</annotation>"
            (root / split / path.name).with_suffix(".xml").write_text(text)


def yolo(photos, root):
    classes = classes_of(photos)
    for split, part in photos.items():
        copied(part, root / split / "images")
        (root / split / "labels").mkdir()
        for path, own in part:
            rows = "".join(f"{classes.index(name)} 0.5 0.5 1 1\n" for name in own)
            (root / split / "labels" / path.name).with_suffix(".txt").write_text(rows)
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(classes))
    (root / "data.yaml").write_text(
        f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames:\n{names}"
    )


FORMATS = (labels_column, column_a_class, roboflow_table, coco_json, voc_xml, yolo)


def test_the_commands_are_those_of_the_pages():
    pages = "\n".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    for line in COMMANDS.splitlines():
        tool, *words = line.split()
        assert tool in pages
        for flag in (word for word in words if word.startswith("--")):
            assert re.search(rf"{flag}\b", pages), f"{tool} {flag}"


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_from_files_to_a_report_and_a_pytorch_file(photos, write, tmp_path):
    write(photos, tmp_path / "MINE")
    shutil.copy(photos["test"][0][0], tmp_path / "photo.jpg")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    printed = {}
    for line in COMMANDS.splitlines():
        tool, *words = shlex.split(line)
        command = [sys.executable, str(ROOT / tool), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        printed[line] = done.stdout
    for split, part in photos.items():
        pair = PairReader(tmp_path / "data" / "mine", split)
        expected = {path.stem: set(own) for path, own in part}
        assert len(pair) == len(part)
        for key, labels in zip(pair.keys, pair.all_labels(), strict=True):
            name = next(stem for stem in expected if key.endswith(stem))
            assert {pair.classes[number] for number in np.flatnonzero(labels == 1)} == expected.pop(name)
    run = tmp_path / "runs" / "mine"
    for kind in ("safetensors", "pth"):
        (weights,) = (run / "stage4").glob(f"srn-*.{kind}")
        card = next(weights.parent.glob(f"{weights.stem}*.json"))
        assert json.loads(card.read_text())["classes"] == list(pair.classes) and len(pair.classes) == LABELS
    assert (tmp_path / "attention.png").is_file()
    assert "person" in (run / "report.html").read_text()
    assert "%" in printed["tools/predict.py photo.jpg --attention"]
