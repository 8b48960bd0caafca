"""Trained runs of the systems with label files, and `refused`: what a user's mistake must look like at every door."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pysrn.data.build import build_dataset
from pysrn.recipes import class_names
from tests.systems.broken.doors import Doors

RUNS = {"path": ("cnn_rnn",), "cell": ("cnn_rnn", "--cell", "paper"), "graph": ("msrn",)}  # system, and its flags


@pytest.fixture(scope="session")
def doors():
    """The tools in one child process."""
    opened = Doors()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory, doors):
    """`data` (16 labels of shapes), `other` (16 labels of other names), `few` (3 labels); in `runs` those of RUNS."""
    folder = tmp_path_factory.mktemp("made")
    build_dataset("shapes", folder / "data", seed=3, counts={"train": 12, "test": 4}, workers=1)
    for name, classes in (("other", [f"sort {n}" for n in range(16)]), ("few", ["cat", "dog", "teddy bear"])):
        own_pair(folder, name, classes, doors)
    for run, asked in RUNS.items():
        if run == "cell":  # the main net is the same
            shutil.copytree(folder / "runs/path/stage1", folder / "runs/cell/stage1")
        words = ("--data", "data", "--run", run, "--batch-size", "4", "--iterations", "1")
        done = doors.call(folder, "run_stage", "--system", *asked, *words)
        assert done.code == 0, done.err
    for run in ("path", "graph"):
        assert doors.call(folder, "predict", f"runs/{run}").code == 0
    return folder


def own_pair(folder: Path, name: str, classes: list[str], doors: Doors) -> None:
    """A pair of somebody's own images, with labels drawn."""
    random, images = np.random.default_rng(0), folder / f"{name}_images"
    images.mkdir()
    for split, count in (("train", 6), ("test", 2)):
        rows = [f"file,{','.join(classes)}"]
        for number in range(count):
            cv2.imwrite(str(images / f"{split}{number}.png"), random.integers(0, 256, (40, 40, 3), np.uint8))
            rows.append(f"{split}{number}.png,{','.join(map(str, random.integers(0, 2, len(classes))))}")
        (images / f"{split}.csv").write_text("\n".join(rows))
    assert doors.call(folder, "make_lmdb", "folder", "--root", images, "--out", name).code == 0


@pytest.fixture
def place(made, tmp_path):
    """A copy of it, in which `put` may spoil things: files are links to those that stay."""
    shutil.copytree(made, tmp_path / "place", copy_function=os.link, ignore=shutil.ignore_patterns("*.mdb", "*.lmdb"))
    for name in ("data", "other", "few"):
        shutil.rmtree(tmp_path / "place" / name)
        (tmp_path / "place" / name).symlink_to(made / name)
    return tmp_path / "place"


def put(path: Path, content: bytes | str) -> Path:
    """Write a file in the place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def state_of(folder: Path) -> dict:
    """All files below `runs`, with what changes where one is written; without those of a begun prediction."""
    found = {}
    for path in sorted((folder / "runs").rglob("*")):
        about = path.lstat()
        if not path.is_dir() and ".chunks" not in str(path):
            found[str(path)] = about.st_ino, about.st_mtime_ns, about.st_size
    return found


@pytest.fixture
def refused(doors, place):
    """Calls a tool that has to refuse: the code, one line that says it, a cure, no file of any run changed."""

    def calling(code: int, said: str, tool: str, *words: object) -> str:
        before = state_of(place)
        done = doors.call(place, tool, *words)
        shown = f"{tool} {' '.join(map(str, words))}: {done.code}\n{done.out}{done.err}"
        assert done.code == code, shown
        lines = done.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ") or ": error: argument" in line]
        assert len(errors) == 1 and said in errors[0], shown
        assert "Traceback" not in done.err and "Check failed" not in done.err, shown
        assert not errors[0].startswith("error: ") or any(line.startswith("  mend it: ") for line in lines), shown
        assert state_of(place) == before, shown
        return done.err

    return calling


LABELS = class_names("shapes")
