"""The tools that `points.py` lets fail: what each is called with, and what must hold of what it left."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import cv2
import lmdb
import numpy as np

from pysrn.console import run_main
from pysrn.data.pair import image_writer
from pysrn.data.pair.lmdb_file import pair_paths
from pysrn.data.pair.manifest import read_manifest
from pysrn.nets.caffemodel import read_weights, sha256_of
from pysrn.predict import splits
from pysrn.train import stage_process
from pysrn.train.fixed.feature_cache import FeatureCache
from pysrn.train.run_folder import RunFolder
from pysrn.train.stage import runner, snapshots
from tests.systems.toy import STORED
from tools import from_torch, make_lmdb, predict, run_stage, to_torch

# What the tools load when they need it: here once, and not in every process that is forked.
LATE = (
    "pysrn.convert.check_tensors",
    "pysrn.freed_memory",
    "pysrn.convert.torch_import",
    "pysrn.predict.parts",
)
LATE += ("pysrn.predict.trained", "pysrn.train.pipeline", "pysrn.train.status", "tests.systems.toy_torch")


class Case:
    """One tool. `inputs` is what it reads, `expected` what it leaves when nothing happens."""

    shares = "inputs"  # the folder of the inputs, of all cases that have the same
    reads_inputs = True  # whose reading fails, too
    expected: Path

    def __init__(self, inputs: Path) -> None:
        self.inputs = inputs

    def prepare(self) -> None:
        """Make the inputs; runs in a process of its own."""

    def run(self, place: Path) -> int:
        """Call the tool on an empty folder, or on what an earlier call left; its exit code."""
        raise NotImplementedError

    def check_left(self, place: Path) -> None:
        """AssertionError where something that says it is whole is not."""
        raise NotImplementedError

    def check_done(self, place: Path) -> None:
        """AssertionError where it is not what is expected."""
        assert tree(place) == tree(self.expected), set(tree(place).items()) ^ set(tree(self.expected).items())

    def call(self, main: Callable, *words: object) -> int:
        return main(list(map(str, words)))


def tree(folder: Path) -> dict[str, str]:
    """The hashes of all files but those that a killed process left beside, ours (.part) and safetensors' (.tmp)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not beside(path.name))
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


def beside(name: str) -> bool:
    """Whether a file's name says that it is half."""
    return name.startswith(".") and (name.endswith(".part") or name.startswith(".tmp"))


def write_photos(root: Path, counts: dict[str, int], first: int = 0) -> None:
    """A folder of small photos with its tables."""
    rng = np.random.default_rng(first)
    (root / "photos").mkdir(parents=True)
    for split, count in counts.items():
        rows = ["file,labels"]
        for number in range(first, first + count):
            name = f"photos/{split}{number}.png"
            cv2.imwrite(str(root / name), rng.integers(0, 256, (12, 16, 3), np.uint8))
            rows.append(f"{name},{'cat;dog' if number % 2 else 'dog;bird'}")
        (root / f"{split}.csv").write_text("\n".join([*rows, ""]))


class Build(Case):
    """make_lmdb of own photos, some transactions a split."""

    shares = "photos"

    def prepare(self) -> None:
        write_photos(self.inputs / "photos", {"train": 14, "test": 6})

    def run(self, place: Path) -> int:
        image_writer.TRANSACTION = 4
        words = ("folder", "--root", self.inputs / "photos", "--out", place / "out", "--image-size", 16)
        return self.call(make_lmdb.main, *words, "--workers", 1)

    def check_left(self, place: Path) -> None:
        out = place / "out"
        manifest = read_manifest(out) if out.is_dir() else None
        for split, entry in (manifest["splits"] if manifest else {}).items():
            for path, hashed in zip(pair_paths(out, split), entry["sha256"].values(), strict=True):
                assert records(path) == records(self.expected / "out" / path.name), path
                assert len(hashed) == 64

    def check_done(self, place: Path) -> None:
        out, expected = place / "out", self.expected / "out"
        self.check_left(place)
        assert sorted(os.listdir(out)) == sorted(os.listdir(expected))
        for name in ("manifest.json", "skipped.csv"):
            assert (out / name).read_bytes() == (expected / name).read_bytes(), name


def records(path: Path) -> list[tuple[bytes, bytes]]:
    """All of a database."""
    with lmdb.open(str(path), readonly=True, lock=False, create=False) as environment, environment.begin() as reading:
        return list(reading.cursor())


class Merge(Build):
    """make_lmdb --merge of two parts."""

    shares = "parts"

    def prepare(self) -> None:
        for first, name in ((0, "a"), (100, "b")):
            write_photos(self.inputs / f"photos_{name}", {"train": 5, "test": 3}, first)
            words = ("folder", "--root", self.inputs / f"photos_{name}", "--out", self.inputs / name)
            assert self.call(make_lmdb.main, *words, "--image-size", 16, "--workers", 1) == 0

    def run(self, place: Path) -> int:
        parts = self.inputs / "a", self.inputs / "b"
        return self.call(make_lmdb.main, "folder", "--merge", *parts, "--out", place / "out")


class Forked:
    """What `subprocess.Popen` gives, for the process that trains: forked, so that Caffe need not be loaded again."""

    def __init__(self, command: list[str], *, stdout: int, stderr, preexec_fn: Callable, **_) -> None:
        assert command[1:3] == ["-m", "pysrn.train.stage.runner"]
        self.stdin, (reads, writes) = None, os.pipe()
        sys.stderr.flush()
        if not (child := os.fork()):
            preexec_fn()
            os.dup2(writes, 1)
            os.dup2(stderr.fileno(), 2)
            code = 1
            try:
                code = runner.main(command[3:])
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(writes)
        self._child, self._code, self.stdout = child, None, os.fdopen(reads, "rb")

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return self._code

    def poll(self) -> int | None:
        return self._code


class Train(Case):
    """run_stage of the small system, a snapshot every second iteration."""

    shares = "trained"
    kept = 2

    def prepare(self) -> None:
        shape = ("--train", 16, "--test", 4, "--image-size", STORED, "--workers", 1)
        assert self.call(make_lmdb.main, "shapes", "--out", self.inputs / "data", *shape) == 0
        self.kept = 100
        assert Train.run(self, self.inputs / "all") == 0
        assert ToTorch.run(self, self.inputs / "torch") == 0

    def run(self, place: Path) -> int:
        stage_process.subprocess = Processes()
        words = ("--system", "toy", "--data", self.inputs / "data", "--runs", place / "runs", "--workers", 0)
        size = ("--iterations", 6, "--snapshot-every", 2, "--batch-size", 2, "--keep", self.kept)
        return self.call(run_stage.main, *words, *size)

    def check_left(self, place: Path) -> None:
        run = RunFolder(place / "runs" / "toy-shapes")
        folder, known = run.stage(1), self.inputs / "all" / "runs" / "toy-shapes" / "stage1"
        for iteration in snapshots.iterations(folder):
            if snapshots.damaged_file(folder, iteration) is None:
                assert held(folder, iteration) == held(known, iteration), iteration
        if (folder / "manifest.json").is_file() and run.weights(1).is_file():
            assert run.state(1).manifest["weights_sha256"] == sha256_of(run.weights(1))
            assert sha256_of(run.weights(1)) == sha256_of(known / "weights.caffemodel")

    def check_done(self, place: Path) -> None:
        self.check_left(place)
        folder, expected = (one / "runs" / "toy-shapes" / "stage1" for one in (place, self.expected))
        names = [name for name in os.listdir(expected) if not name.startswith(".")]
        found = {name for name in os.listdir(folder) if not name.startswith(".")}
        assert found == set(names), found ^ set(names)
        for name in names:
            if name.endswith(".solverstate") or name in ("weights.caffemodel", "deploy.prototxt", "labels.txt"):
                assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
        rows = [list(csv.reader((one / "log.csv").read_text().splitlines())) for one in (folder, expected)]
        assert [row[:3] for row in rows[0]] == [row[:3] for row in rows[1]]
        assert RunFolder(folder.parent).state(1).word == "done"


def held(folder: Path, iteration: int) -> tuple:
    """What a snapshot holds; its net says in which sample it began, which differs after a resume."""
    weights = read_weights(snapshots.file_of(folder, iteration, snapshots.WEIGHTS))
    blobs = {name: [blob.tobytes() for blob in blobs] for name, blobs in weights.items()}
    state = snapshots.file_of(folder, iteration, snapshots.STATE).read_bytes()
    return blobs, state, snapshots.read_schedule(folder, iteration)


class Processes:
    """The module `subprocess`, but for the process that trains."""

    Popen = Forked

    def __getattr__(self, name: str):
        return getattr(subprocess, name)


class Predict(Train):
    """predict.py of a split, three chunks."""

    def words(self, place: Path) -> tuple:
        splits.CHUNK_BATCHES = 2
        run = self.inputs / "all" / "runs" / "toy-shapes"
        return (run, "--data", self.inputs / "data", "--split", "train", "--batch-size", 3, "-o", place / "found.npz")

    def run(self, place: Path) -> int:
        return self.call(predict.main, *self.words(place))

    def check_left(self, place: Path) -> None:
        for path in place.glob("*.npz"):
            assert path.read_bytes() == (self.expected / path.name).read_bytes(), path

    def check_done(self, place: Path) -> None:
        Case.check_done(self, place)


class Parts(Predict):
    """predict.py in two parts, joined."""

    def run(self, place: Path) -> int:
        for more in (("--part", "1/2"), ("--part", "2/2"), ("--join",)):
            if code := self.call(predict.main, *self.words(place), *more):
                return code
        return 0


class ToTorch(Predict):
    """to_torch.py: both files with their cards, and the tensors to check them with."""

    def run(self, place: Path) -> int:
        return self.call(to_torch.main, self.inputs / "all" / "runs" / "toy-shapes", "-o", place / "toy.pth")

    def check_left(self, place: Path) -> None:
        for path in place.glob("toy-*"):
            if path.suffix in (".pth", ".safetensors"):
                assert sha256_of(path).startswith(path.stem.rpartition("-")[2]), path
            if path.suffix == ".json":
                card = json.loads(path.read_text())
                assert card["sha256"] == sha256_of(path.with_name(card["file"]))
            assert path.read_bytes() == (self.expected / path.name).read_bytes(), path


class FromTorch(ToTorch):
    """from_torch.py of a safetensors file."""

    def run(self, place: Path) -> int:
        file = next((self.inputs / "torch").glob("*.safetensors"))
        return self.call(from_torch.main, file, "-o", place / "back.caffemodel")

    def check_left(self, place: Path) -> None:
        for path in place.glob("*.caffemodel"):
            assert path.read_bytes() == (self.expected / path.name).read_bytes(), path


class Cache(Case):
    """A feature cache filled and read again, as stages 2 and 3 do."""

    rows, shape = 9, (4, 5)
    about: ClassVar = {"feed": {"train": True, "split": "train"}, "precision": "fp16"}

    def value(self, row: int) -> np.ndarray:
        return np.full(self.shape, row + 1, np.float32)

    def run(self, place: Path) -> int:
        def work(_) -> None:
            cache = FeatureCache.make(place / "features", self.about, self.shape)
            cache.reserve(self.rows)
            for first in (0, 3, 6, 0, 3, 6):
                rows, out = range(first, first + 3), np.empty((3, *self.shape), np.float32)
                cache.fetch(rows, out, lambda: np.stack([self.value(row) for row in rows]))  # noqa: B023
                assert all((out[i] == self.value(row)).all() for i, row in enumerate(rows))

        return run_main(work, None)

    def check_left(self, place: Path) -> None:
        for manifest in (place / "features").glob("*/manifest.json"):
            if not all((manifest.parent / name).is_file() for name in ("features.bin", "checksums.bin")):
                continue
            cache, out = FeatureCache(manifest.parent), np.empty((1, *self.shape), np.float32)
            for row in range(self.rows):
                cache.fetch([row], out, lambda: self.value(row)[None])  # noqa: B023
                assert (out[0] == self.value(row)).all(), row


CASES = {
    "build": Build,
    "merge": Merge,
    "train": Train,
    "cache": Cache,
    "predict": Predict,
    "parts": Parts,
    "to_torch": ToTorch,
    "from_torch": FromTorch,
}
