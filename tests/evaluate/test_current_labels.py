"""Test labels that were corrected after the prediction: said, and taken with --labels."""

import json
import re

import numpy as np
import pytest

from pysrn.console import SrnError
from pysrn.data.build import build_dataset
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.evaluate import metrics
from pysrn.evaluate.current_labels import changed_labels, load_labelled
from pysrn.predict.predictions import Predictions, load_predictions
from tests.data.broken_images import WHOLE
from tools.compare import main as compare
from tools.evaluate import main

NAMES = [f"n{number}.jpg" for number in range(12)]
CLASSES = ("cat", "dog", "cow")


def build(root, changes=(), order=NAMES):
    """The pair of a table in which image n has class n % 3, but for `changes`, name -> labels."""
    rows = {name: CLASSES[int(name[1:].partition(".")[0]) % 3] for name in order} | dict(changes)
    root.mkdir(exist_ok=True)
    for name in order:
        (root / name).write_bytes(WHOLE["jpeg"])
    for split in ("train", "test"):
        (root / f"{split}.csv").write_text("file,labels\n" + "".join(f"{n},{v}\n" for n, v in rows.items()))
    build_dataset("folder", root / "data", root, force=True)
    return root / "data"


def predicted(folder, path):
    """Predictions of some net by the pair's labels."""
    pair = PairReader(folder, "test")
    scores = np.random.default_rng(0).normal(0, 2, (len(pair), 3)).astype(np.float32)
    about = {"data": str(folder), "split": "test"}
    Predictions(tuple(pair.keys), pair.classes, {"score": scores}, pair.all_labels().astype(np.int8), about).save(path)


@pytest.fixture
def corrected(tmp_path):
    """Predictions by the first labels, and the folder to correct."""
    predicted(build(tmp_path / "root"), tmp_path / "p.npz")
    return tmp_path


def test_nothing_is_said_while_they_are_the_same(corrected, capsys):
    assert main([str(corrected / "p.npz")]) == 0
    assert "beware" not in capsys.readouterr().err
    build(corrected / "root", order=NAMES[::-1])  # the same labels under other keys
    assert main([str(corrected / "p.npz")]) == 0
    assert "beware" not in capsys.readouterr().err


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_corrected_labels_are_told_and_taken_on_demand(corrected, capsys, order):
    path, changes = corrected / "p.npz", {"n0.jpg": "dog", "n4.jpg": "dog;cow"}  # two changes and one
    folder = build(corrected / "root", changes, order)
    old, (now,) = load_predictions(path), load_labelled([path], folder)
    changed = {old.keys[row][9:] for row in np.flatnonzero((old.labels != now.labels).any(1))}
    assert changed == {"n0", "n4"}
    assert changed_labels(old, PairReader(folder, "test")) == (3, 2)

    def evaluated(tool, *more):
        assert tool([str(path), *map(str, more), "--resamples", "0", "-o", str(corrected / "out.json")]) == 0
        return json.loads((corrected / "out.json").read_text()), capsys.readouterr().err

    found, words = evaluated(main)
    assert re.search(r"beware: .*p.npz .*; 3 of them, on 2 images, are others in .*data now", words)
    assert f"--labels {folder}" in words
    assert (
        found["predictions"][0]["scores"]["score"]["mAP"] == metrics.evaluate(old.scores["score"], old.labels).mean_ap
    )
    found, words = evaluated(main, "--labels", folder)
    right = metrics.evaluate(old.scores["score"], now.labels).mean_ap
    assert found["predictions"][0]["scores"]["score"]["mAP"] == right and "beware" not in words
    assert found["predictions"][0]["about"]["labels"] == str(folder)
    assert "beware" in evaluated(compare)[1]
    found, words = evaluated(compare, "--labels", folder)
    assert found["comparisons"][0]["rows"][0]["ours"] == 100 * right and "beware" not in words


def test_a_pair_of_other_images_or_classes_is_refused_or_told(corrected, capsys):
    for changes, order, words in (
        ({}, NAMES[1:], "are of different images: 1 are in one only, the first: n0"),
        ({"n0.jpg": "pig"}, NAMES, "wrong classes: 4, expected 3|wrong classes: 3, expected 4"),
    ):
        folder = build(corrected / "root", changes, order)
        with pytest.raises(SrnError, match=words):
            load_labelled([corrected / "p.npz"], folder)
        assert main([str(corrected / "p.npz")]) == 0
        assert re.search(f"beware: .*{words}", capsys.readouterr().err)
    assert main([str(corrected / "p.npz"), "--labels", str(corrected / "nowhere")]) == 3
    build(corrected / "root")
    (corrected / "root/data").rename(corrected / "elsewhere")
    assert main([str(corrected / "p.npz")]) == 0
    assert "beware" not in capsys.readouterr().err


def test_names_that_do_not_tell_which_is_which(tmp_path):
    """`n1` and `n1~2` are n1.jpg and n1.png, or the other way round."""
    names = [*NAMES, "n1.png"]
    predicted(build(tmp_path / "root", {"n1.png": "cow"}, names), tmp_path / "p.npz")
    assert changed_labels(load_predictions(tmp_path / "p.npz"), PairReader(tmp_path / "root/data", "test")) == (0, 0)
    folder = build(tmp_path / "root", {"n1.png": "cow"}, names[::-1])
    with pytest.raises(SrnError, match="of different images: names do not tell which is which"):
        load_labelled([tmp_path / "p.npz"], folder)
