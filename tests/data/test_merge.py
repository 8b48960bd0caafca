"""Pairs built apart and merged: each record once, the same bytes however they were divided, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.verify import verify_dataset
from tests.data.test_cut import records
from tests.holding import HANG, Hold
from tools.make_lmdb import main

ROOT = Path(__file__).resolve().parents[2]


def images(folder, split, numbers):
    """Own images with their list; some in a folder of their own, one in each list that is none."""
    rows = ["file,labels"]
    for number in numbers:
        path = folder / f"{number % 3}" / f"{split}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8))
        rows.append(f"{path.relative_to(folder)},{'cat;dog' if number % 2 else 'cat'}")
    (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")


def build(folder, numbers, *more):
    images(folder / "own", "train", numbers)
    images(folder / "own", "test", [1000 + number for number in numbers[:4]])
    (folder / "own/classes.txt").write_text("cat\ndog\n")
    words = [
        "folder",
        "--root",
        str(folder / "own"),
        "--out",
        str(folder / "pair"),
        "--image-size",
        "8",
        "--workers",
        "1",
    ]
    assert main([*words, *more]) == 0
    return folder / "pair"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The same 30 records in two and in three pairs."""
    folder = tmp_path_factory.mktemp("parts")
    cuts = {"a": range(0, 10), "b": range(10, 30), "c": range(10, 17), "d": range(17, 30)}
    return {name: build(folder / name, list(numbers)) for name, numbers in cuts.items()}


def merge(out, *parts):
    return main(["folder", "--out", str(out), "--merge", *map(str, parts)])


def names(found):
    return {key[9:]: value for key, value in found.items()}


def test_each_record_is_there_once_with_its_bytes(parts, tmp_path, capsys):
    assert merge(tmp_path / "whole", parts["a"], parts["b"]) == 0
    assert f"{tmp_path / 'whole'} train: 30 images" in capsys.readouterr().out
    for split, count in (("train", 30), ("test", 8)):
        found = records(tmp_path / "whole", split)
        expected = [names(records(parts[name], split)) for name in "ab"]
        assert len(found) == count and names(found) == expected[0] | expected[1]
        assert [int(key[:8]) for key in found] == list(range(count))
        reader = PairReader(tmp_path / "whole", split)
        entry = json.loads((tmp_path / "whole/manifest.json").read_text())["splits"][split]
        assert list(entry["positives"].values()) == (reader.all_labels() > 0).sum(0).tolist()
    assert verify_dataset("folder", tmp_path / "whole") == {"train": 30, "test": 8}
    first = [int(key.split("train")[1]) < 10 for key in PairReader(tmp_path / "whole", "train").keys]
    assert first != sorted(first) and first != sorted(first, reverse=True)  # mixed
    assert not list((tmp_path / "whole").glob("places*"))


def test_an_image_in_train_of_one_and_test_of_another_is_said(parts, tmp_path, capsys):
    images(tmp_path / "own", "test", [1003, 1006])
    test = (tmp_path / "own/test.csv").read_text()
    images(tmp_path / "own", "train", [50])
    with open(tmp_path / "own/train.csv", "a") as file:
        file.write(test.partition("\n")[2])
    (tmp_path / "own/test.csv").unlink()
    images(tmp_path / "own", "test", [2000])
    (tmp_path / "own/classes.txt").write_text("cat\ndog\n")
    words = ("folder", "--root", str(tmp_path / "own"), "--out", str(tmp_path / "pair"), "--image-size", "8")
    assert main([*words, "--workers", "1"]) == 0
    assert merge(tmp_path / "apart", parts["a"], parts["b"]) == 0
    assert "in both" not in capsys.readouterr().err
    for name, order in (("one", (parts["a"], tmp_path / "pair")), ("other", (tmp_path / "pair", parts["a"]))):
        assert merge(tmp_path / name, *order) == 0
        assert "warning: 1 images are in both train and test, the first: 1_test1003" in capsys.readouterr().err


def test_the_bytes_depend_on_no_division_and_no_order(parts, tmp_path):
    for name, of in (("ab", "ab"), ("ba", "ba"), ("adc", "adc")):
        assert merge(tmp_path / name, *(parts[one] for one in of)) == 0
    for split in ("train", "test"):
        found = [records(tmp_path / name, split) for name in ("ab", "ba")]
        assert list(found[0].items()) == list(found[1].items())
    assert list(records(tmp_path / "adc", "train").items()) == list(records(tmp_path / "ab", "train").items())


def test_a_merge_that_is_there_is_kept_and_nothing_else_replaced(parts, tmp_path, capsys):
    assert merge(tmp_path / "whole", parts["a"], parts["b"]) == 0
    before = (tmp_path / "whole/manifest.json").stat().st_mtime_ns
    assert merge(tmp_path / "whole", parts["b"], parts["a"]) == 0
    assert (tmp_path / "whole/manifest.json").stat().st_mtime_ns == before
    assert merge(tmp_path / "whole", parts["a"], parts["c"]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(parts, tmp_path, capsys):
    cases = [
        ((parts["a"], parts["b"], parts["c"]), 2, "is in train of"),
        ((parts["a"], parts["a"]), 2, "is in train of"),
        ((parts["a"],), 2, "two parts at least"),
        ((parts["a"], tmp_path / "none"), 3, "no LMDB pair in"),
        ((parts["a"], build(tmp_path / "seed", [50, 51, 52, 53], "--seed", "1")), 2, "seed 1, not 0"),
        ((parts["a"], build(tmp_path / "raw", [50, 51, 52, 53], "--encoding", "raw")), 2, "encoding raw, not jpeg"),
        ((parts["a"], build(tmp_path / "size", [50, 51, 52, 53], "--image-size", "16")), 2, "image size 16, not 8"),
    ]
    other = build(tmp_path / "labels", [50, 51, 52, 53])
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"classes": ["dog", "cat"]}))
    cases.append(((parts["a"], other), 2, "labels ['dog', 'cat'], not ['cat', 'dog']"))
    damaged = tmp_path / "damaged"
    shutil.copytree(parts["b"], damaged)
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest["splits"]["test"]["sha256"]["labels"] = "0" * 64
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    cases.append(((parts["a"], damaged), 1, "test is damaged"))
    for given, code, words in cases:
        assert merge(tmp_path / "whole", *given) == code
        said = capsys.readouterr().err
        assert words in said and said.count("error:") == 1, said
        assert not list(tmp_path.glob("whole*")), words
    assert merge(tmp_path / "whole", parts["a"], parts["b"]) == 0
    assert not (tmp_path / "whole.partial").exists()


# The first folder, the last split of the last part, what says that the pair is whole, and the last step of all.
@pytest.mark.parametrize(
    ("path", "ending"),
    [
        (r"whole\.partial$", signal.SIGKILL),
        (r"b/pair/test_label\.lmdb/data\.mdb$", signal.SIGKILL),
        (r"b/pair/test_label\.lmdb/data\.mdb$", signal.SIGTERM),
        (r"manifest\.json\.partial$", signal.SIGKILL),
        (r"/whole$", signal.SIGKILL),
    ],
)
def test_an_interrupted_merge_leaves_nothing_that_passes_for_whole(parts, tmp_path, path, ending):
    words = ["folder", "--out", tmp_path / "whole", "--merge", parts["a"], parts["b"]]
    with Hold(tmp_path, "make_lmdb.py", path) as hold:
        command = [sys.executable, ROOT / "tools/make_lmdb.py", *words]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | hold.environment)
        hold.wait(process)
        process.send_signal(ending)
        process.communicate(timeout=HANG)
    assert not (tmp_path / "whole").exists()
    assert ending == signal.SIGKILL or not (tmp_path / "whole.partial").exists()
    assert main(["folder", "--out", str(tmp_path / "whole"), "--verify"]) == 3
    assert main(list(map(str, words))) == 0
    assert verify_dataset("folder", tmp_path / "whole") == {"train": 30, "test": 8}
