"""A data set written by the field's own tools in their formats comes back label by label.

The tools are no dependency. Install supervision, datumaro and pycocotools into any environment, and name its Python:
`EXPORT_PYTHON=/tmp/tools/bin/python pytest -s -m slow tests/real/test_exports.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pysrn.data.readers.own.formats import read_own
from tests.real.write_exports import WRITERS

pytestmark = pytest.mark.slow
PYTHON = os.environ.get("EXPORT_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def source(shared_data, tmp_path_factory) -> dict:
    """Real COCO images with their boxes: the train and val part of a small genuine export, and where it is written."""
    root, splits = shared_data / "coco_images" / "coco_mini", {}
    for split, part in (("train", "train2017"), ("test", "val2017")):
        content = json.loads((root / "annotations" / f"instances_{part}.json").read_text())
        names = {row["id"]: row["name"] for row in content["categories"]}
        images = {
            row["id"]: {
                "file": str((root / part / row["file_name"]).resolve()),
                "size": [row["width"], row["height"]],
                "objects": [],
            }
            for row in content["images"]
        }
        for row in content["annotations"]:
            images[row["image_id"]]["objects"].append({"name": names[row["category_id"]], "box": row["bbox"]})
        splits[split] = list(images.values())
    path = tmp_path_factory.mktemp("source") / "source.json"
    path.write_text(json.dumps({"classes": list(names.values()), "splits": splits}))
    return {"path": path, "splits": splits}


@pytest.mark.parametrize("name", WRITERS)
def test_labels_come_back(name, source, tmp_path):
    out = tmp_path / name
    command = [PYTHON, Path(__file__).with_name("write_exports.py"), source["path"], out, name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(f"{done.stdout.strip()} in {PYTHON}: name an environment with it as EXPORT_PYTHON")
    assert done.returncode == 0, done.stderr
    found = read_own(out)
    labels = boxes = 0
    for split, images in source["splits"].items():
        classes, samples = found[split].classes, {Path(s.path).name: s for s in found[split].samples}
        assert not found[split].left_out and len(samples) == len(images)
        for image in images:
            sample = samples[Path(image["file"]).name]
            assert {classes[i] for i in np.flatnonzero(sample.labels == 1)} == {o["name"] for o in image["objects"]}
            assert set(sample.labels) <= {1, -1}
            labels += (sample.labels == 1).sum()
            sides = np.tile(image["size"], 2)
            for place in found[split].boxes[sample.key_name]:
                box = np.array(place.box) * (sides if place.relative else 1)
                own = [thing["box"] for thing in image["objects"] if thing["name"] == classes[place.label]]
                assert np.abs(np.array(own) - box).max(1).min() <= 2  # tools round to pixels, from 0 or 1
                boxes += 1
    total = sum(len(image["objects"]) for images in source["splits"].values() for image in images)
    print(f"{name}: {labels} labels, {boxes} of {total} boxes")
    assert labels > 400
    assert boxes == (0 if name == "pycocotools_rle" else total)
