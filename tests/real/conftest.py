"""LMDB pairs of the real COCO images in ../shared/data, and stages run on them through the tools."""

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pysrn.data.pair.lmdb_pair import write_pair
from pysrn.data.readers.records import Sample
from pysrn.recipes import class_names

ROOT = Path(__file__).resolve().parents[2]
TRAIN_SHARE = 0.75


@pytest.fixture(scope="session")
def coco_pair(shared_data, tmp_path_factory) -> Path:
    """About three quarters of the distinct real images for training, the rest for test; no photo in both."""
    root = shared_data / "coco_images"
    photos: dict[str, tuple[Path, np.ndarray]] = {}
    seen = set()
    with open(root / "manifest.csv", newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if row[0] == "file":
                continue
            path = root / row[0]
            digest = hashlib.sha256(path.read_bytes()).digest()
            number = row[1].rpartition("_")[2]  # the same photo has the same COCO number in every year's split
            if number in photos or digest in seen:
                continue
            seen.add(digest)
            photos[number] = (path, np.array(row[3:], np.int8) * 2 - 1)
    names = sorted(photos)
    order = np.random.default_rng(0).permutation(len(names))
    count = round(TRAIN_SHARE * len(names))
    folder = tmp_path_factory.mktemp("coco")
    for split, chosen in (("train", order[:count]), ("test", order[count:])):
        samples = [Sample(f"{names[i]}.jpg", *photos[names[i]]) for i in chosen]
        write_pair(samples, folder, split, class_names("coco"), seed=0, dataset="coco")
    return folder


@pytest.fixture
def tool():
    """Run one of the tools as a user would, its messages to our stderr; returns its stdout."""

    def call(name: str, *words) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, words)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert done.returncode == 0, f"{name} {words}"
        return done.stdout

    return call
