"""tools/evaluate.py: its tables and metrics.json hold the metrics of the predictions it was given."""

import json
import re

import numpy as np
import pytest

from pysrn.evaluate import metrics
from pysrn.evaluate.bootstrap import mean_ap_interval
from pysrn.evaluate.table import aligned, distinct_names
from pysrn.nets.caffemodel import sha256_of
from pysrn.predict.predictions import Predictions
from pysrn.recipes import class_names
from tools.evaluate import main

CLASSES = ("cat", "dog", "bird", "ghost")


def write(path, seed=0, images=30, scores=("score_cls", "score"), keys=None, **changes):
    """Predictions in which the last class has no positive image."""
    random = np.random.default_rng(seed)
    keys = keys or tuple(f"{i:08d}_x" for i in range(images))
    labels = np.where(np.random.default_rng(1).random((images, len(CLASSES))) < 0.3, 1, -1).astype(np.int8)
    labels[:, -1] = -1
    values = {name: random.normal(-1, 2, labels.shape).astype(np.float32) for name in scores}
    found = Predictions(**({"keys": keys, "classes": CLASSES, "scores": values, "labels": labels} | changes))
    found.save(path)
    return found


def cells(text, row):
    """The numbers of the first table line that begins with `row`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_table_and_json_hold_the_metrics(tmp_path, capsys):
    found = write(tmp_path / "p.npz")
    assert main([str(tmp_path / "p.npz"), "--per-class"]) == 0
    printed = capsys.readouterr().out
    expected = metrics.evaluate(found.scores["score"], found.labels)
    row = [
        expected.mean_ap,
        *(expected.decisions["threshold"][m] for m in ("F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")),
    ]
    assert cells(printed, "score ") == [f"{100 * value:.1f}" for value in row]
    assert "1 labels without a positive image are left out of mAP" in printed
    assert cells(printed, "ghost")[:3] == ["0", "-", "-"]
    content = json.loads((tmp_path / "metrics.json").read_text())
    scores = content["predictions"][0]["scores"]
    assert list(scores) == ["score_cls", "score"]
    assert scores["score"]["mAP"] == expected.mean_ap
    assert scores["score"]["top3_forced"] == expected.decisions["top3_forced"]
    assert scores["score"]["per_class"]["AP"][-1] is None
    assert content["classes"] == list(CLASSES)


def test_eleven_points_under_their_own_name(tmp_path, capsys):
    """Asked for, or where the labels are those of VOC 2007; in the JSON always."""
    found = write(tmp_path / "p.npz")
    expected = metrics.evaluate(found.scores["score"], found.labels)
    for words, there in (([], False), (["--eleven-point"], True)):
        assert main([str(tmp_path / "p.npz"), "--per-class", *words]) == 0
        printed = capsys.readouterr().out
        assert ("11-point" in printed) == there
    other = printed[printed.index("other conventions: non-interpolated mAP, 11-point mAP of VOC 2007, harmonic F1-C") :]
    assert cells(other, "score ")[1] == f"{100 * expected.mean_ap_11_point:.1f}"
    assert cells(printed, "dog")[4] == f"{100 * expected.average_precision_11_point[1]:.1f}"
    scores = json.loads((tmp_path / "metrics.json").read_text())["predictions"][0]["scores"]["score"]
    assert scores["mAP_11_point"] == expected.mean_ap_11_point != expected.mean_ap
    assert scores["per_class"]["AP_11_point"][:3] == expected.average_precision_11_point[:3].tolist()
    labels = np.where(np.random.default_rng(3).random((30, 20)) < 0.3, 1, -1).astype(np.int8)
    logits = np.random.default_rng(4).normal(-1, 2, labels.shape).astype(np.float32)
    keys = tuple(f"{i:08d}_x" for i in range(30))
    Predictions(keys, class_names("voc2007"), {"score": logits}, labels).save(tmp_path / "p.npz")
    assert main([str(tmp_path / "p.npz")]) == 0
    printed = capsys.readouterr().out
    mean = metrics.evaluate(logits, labels).mean_ap_11_point
    assert cells(printed[printed.index("other conventions") :], "score ")[1] == f"{100 * mean:.1f}"


def test_a_runs_folder_gives_a_row_for_each_stage_and_score(tmp_path, capsys):
    write(tmp_path / "stage1" / "predictions_test.npz", seed=5, scores=("score_cls",))
    write(tmp_path / "stage4" / "predictions_test.npz", seed=6)
    write(tmp_path / "stage4" / "predictions_train.npz", images=3)
    assert main([str(tmp_path)]) == 0
    rows = re.findall(r"^\| (\S+ \S+) +\|", capsys.readouterr().out.split("\n\n")[1], flags=re.MULTILINE)
    assert rows == ["stage1 score_cls", "stage4 score_cls", "stage4 score"]
    assert (tmp_path / "metrics.json").is_file()


def test_interval_of_every_map(tmp_path, capsys):
    found = write(tmp_path / "p.npz")
    assert main([str(tmp_path / "p.npz"), "--resamples", "20", "--seed", "4"]) == 0
    printed = capsys.readouterr().out
    assert "mAP: middle 95 % of 20 resamples of the images, seed 4" in printed
    scores = json.loads((tmp_path / "metrics.json").read_text())["predictions"][0]["scores"]
    for name, values in found.scores.items():
        expected = mean_ap_interval(values, found.labels, 20, seed=4).to_json()
        assert scores[name]["mAP_interval"] == expected and expected["low"] < scores[name]["mAP"]
    ends = [f"{100 * expected[end]:.1f}" for end in ("low", "high")]
    assert f"| {ends[0]} | {ends[1]} |" in printed.split("seed 4")[1]


def test_predictions_of_other_weights_than_those_beside_them_are_told(tmp_path, capsys):
    weights = tmp_path / "weights.caffemodel"
    weights.write_bytes(b"first")
    write(tmp_path / "predictions_train.npz", about={"weights_sha256": sha256_of(weights), "split": "train"})
    words = [str(tmp_path), "--split", "train"]
    assert main(words) == 0 and "beware" not in capsys.readouterr().err
    weights.write_bytes(b"second")
    assert main(words) == 0
    errors = capsys.readouterr().err
    assert f"predictions_train.npz was made by other weights than {weights}" in errors
    assert f"tools/predict.py {tmp_path} --split train" in errors


def test_unspecified_labels_are_told(tmp_path, capsys):
    labels = np.tile(np.array([[1, -1, 0, 1], [-1, 1, 1, -1]], np.int8), (5, 1))
    write(tmp_path / "p.npz", images=10, labels=labels)
    assert main([str(tmp_path / "p.npz"), "-o", str(tmp_path / "x" / "m.json")]) == 0
    assert "5 unspecified labels are ignored by AP" in capsys.readouterr().out
    assert json.loads((tmp_path / "x" / "m.json").read_text())["predictions"][0]["scores"]["score"][
        "zero_is_unspecified"
    ]


@pytest.mark.parametrize(
    ("names", "code", "reason"),
    [
        (["none.npz"], 3, "neither a file"),
        (["empty"], 3, "nor any predictions_test.npz below it"),
        (["text.npz"], 1, "text.npz is damaged.*: it is no whole .npz archive$"),
        (["cut.npz"], 1, "cut.npz is damaged"),
        (
            ["good.npz", "other_images.npz"],
            1,
            "other_images.npz and .*good.npz are of different images: 31 keys",
        ),
        (
            ["good.npz", "other_order.npz"],
            1,
            "other_order.npz: wrong classes: in another order: class 0 is dog",
        ),
        (["unlabelled.npz"], 3, "holds no labels"),
        (["good.npz", "relabelled.npz"], 1, "other labels for the same images: 30, the first: 00000000_x, ghost"),
        (["good.npz", "--resamples", "-1"], 2, "--resamples: a whole number from 0"),
        (["good.npz", "-o", "empty"], 2, "empty is a folder"),
    ],
)
def test_bad_input_is_one_line_and_old_metrics_stay(tmp_path, capsys, names, code, reason):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no predictions")
    write(tmp_path / "good.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:-100])
    write(tmp_path / "other_images.npz", images=1, keys=("00000000_y",))
    write(tmp_path / "other_order.npz", classes=("dog", "cat", "bird", "ghost"))
    write(tmp_path / "unlabelled.npz", labels=None)
    labels = write(tmp_path / "good.npz").labels.copy()
    labels[:, -1] = 1
    write(tmp_path / "relabelled.npz", labels=labels)
    for folder in (tmp_path, tmp_path / "empty"):
        (folder / "metrics.json").write_text("good work")
    assert main([str(tmp_path / name) if (tmp_path / name).exists() or "." in name else name for name in names]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and re.search(reason, errors[0]), errors
    assert (tmp_path / "metrics.json").read_text() == "good work"


def test_names_of_files(tmp_path):
    assert distinct_names([tmp_path / "a.npz"]) == [""]
    assert distinct_names([tmp_path / "a.npz", tmp_path / "b.npz"]) == ["a", "b"]
    assert distinct_names([tmp_path / "x" / "a.npz", tmp_path / "y" / "a.npz"]) == ["x", "y"]
    both = [tmp_path / "1" / "x" / "a.npz", tmp_path / "2" / "x" / "a.npz"]
    assert distinct_names(both) == [str(path) for path in both]


def test_aligned():
    assert aligned("title", ["", "b"], [["long name", "1"], ["x", "23.4"]]) == (
        "title\n|           |    b |\n|-----------|-----:|\n| long name |    1 |\n| x         | 23.4 |"
    )
