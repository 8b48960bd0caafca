"""The official text form: out and in again, rows in the order of a list, and files that do not fit."""

import json

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.predict.official_text import import_text, read_text, write_text
from pysrn.predict.predictions import load_predictions
from pysrn.recipes import class_names
from tools import evaluate, predict

LOGITS = np.random.default_rng(0).normal(0, 5, (21, 16)).astype(np.float32)


@pytest.fixture
def pair(shapes_folder):
    return PairReader(shapes_folder, "test")


def test_a_row_an_image_with_six_decimals(tmp_path):
    write_text(tmp_path / "rows.txt", np.array([[1.5, -2.25], [1e-7, 12345.678]]))
    assert (tmp_path / "rows.txt").read_text() == "1.500000 -2.250000\n0.000000 12345.678000\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.txt"]


def test_out_and_in_again(tmp_path, pair):
    write_text(tmp_path / "rows.txt", LOGITS)
    found = import_text(tmp_path / "rows.txt", "score_sr", pair)
    assert (
        found.keys == tuple(pair.keys) and found.classes == tuple(pair.classes) and list(found.scores) == ["score_sr"]
    )
    np.testing.assert_allclose(found.scores["score_sr"], LOGITS, atol=5.1e-7, rtol=1e-6)
    np.testing.assert_array_equal(found.labels, pair.all_labels())


def test_no_tie_that_the_text_has_not(tmp_path, capsys):
    """Neighbours of six decimals that float32 cannot tell apart keep their order, up to the metrics."""
    images = 60
    logits = np.round(16 + np.random.default_rng(6).permutation(images * 80).reshape(images, 80) * 1e-6, 6)
    assert len(np.unique(logits.astype(np.float32))) < logits.size / 1.5
    labels = (np.argsort(np.argsort(logits, axis=0), axis=0) >= images - 20).astype(int)  # the highest have the label
    write_text(tmp_path / "p.txt", logits)
    (tmp_path / "x_imglist.txt").write_text("".join(f"{n}.jpg\n" for n in range(images)))
    np.savetxt(tmp_path / "x_label.txt", labels, fmt="%d")
    words = ["--from-text", str(tmp_path / "p.txt"), "--image-list", str(tmp_path / "x_imglist.txt")]
    assert predict.main([*words, "--dataset", "coco", "--text", str(tmp_path / "again.txt")]) == 0
    found = load_predictions(tmp_path / "p.npz").scores["score"]
    np.testing.assert_array_equal(found, logits)
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "p.txt").read_bytes()
    assert evaluate.main([str(tmp_path / "p.npz")]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["predictions"][0]["scores"]["score"]["mAP"] == 1


@pytest.mark.parametrize("form", ["{name}.jpg", "{name}.jpg 3", "/home/who/test/{name}.jpg 0", "test\\{name}.jpg"])
def test_rows_in_the_order_of_a_list(tmp_path, pair, form, capsys):
    order = np.random.default_rng(1).permutation(21)
    names = [pair.keys[index].partition("_")[2] for index in order] + ["another"]
    (tmp_path / "list.txt").write_text("".join(form.format(name=name) + "\n" for name in names))
    write_text(tmp_path / "rows.txt", np.vstack([LOGITS[order], np.full((1, 16), 99)]))
    found = import_text(tmp_path / "rows.txt", "score", pair, tmp_path / "list.txt")
    np.testing.assert_allclose(found.scores["score"], LOGITS, atol=1e-5)
    assert "1 rows of images that" in capsys.readouterr().err


def test_text_files_alone(tmp_path, capsys):
    """As the release has them: logits, names with a number behind, labels; judged without an image."""
    labels = np.random.default_rng(2).choice([1, 0], (21, 80))
    logits = np.random.default_rng(3).normal(0, 4, (21, 80))
    write_text(tmp_path / "predictions.txt", logits)
    names, rows = tmp_path / "coco_test_imglist.txt", tmp_path / "coco_test_label.txt"
    names.write_text("".join(f"val2014/a b {n}.jpg {row.sum()}\n" for n, row in enumerate(labels)))
    np.savetxt(rows, labels, fmt="%d")
    words = ["--from-text", str(tmp_path / "predictions.txt"), "--image-list", str(names), "--dataset", "coco"]
    assert predict.main([*words, "--score", "score_sr"]) == 0
    found = load_predictions(tmp_path / "predictions.npz", class_names("coco"))
    np.testing.assert_array_equal(found.labels, np.where(labels == 1, 1, -1))
    np.testing.assert_allclose(found.scores["score_sr"], logits, atol=1e-6)
    assert found.keys[2] == "00000002_val2014_a b 2"
    rows.rename(tmp_path / "elsewhere.txt")
    assert predict.main(words) == 3
    assert predict.main([*words, "--label-file", str(tmp_path / "elsewhere.txt")]) == 0
    (tmp_path / "elsewhere.txt").write_text("1 0\n" * 21)
    assert predict.main([*words, "--label-file", str(tmp_path / "elsewhere.txt")]) == 1
    assert "has 21 rows of 2; there are 21 images in" in capsys.readouterr().err
    assert predict.main([*words, "--data", "data"]) == predict.main(["--label-file", "x"]) == 2


def test_lists_that_do_not_fit(tmp_path, pair):
    write_text(tmp_path / "rows.txt", LOGITS)
    names = [key.partition("_")[2] for key in pair.keys]
    for lines, reason in (
        ([*names[:-1], "other"], f"does not have 1 of 21 images .*; the first: '{names[-1]}'"),
        (names[:-1], "does not have 1 of 21"),
        ([*names[:-1], f"{names[0]}.png"], "more than one line names the image|does not have 1"),
        (["x"] * 21, "does not have 21 of 21|more than one line"),
        ([*names, "more"], "rows.txt has 21 rows, .*list.txt has 22 images"),
    ):
        (tmp_path / "list.txt").write_text("\n".join(lines))
        with pytest.raises(SrnError, match=reason):
            import_text(tmp_path / "rows.txt", "score", pair, tmp_path / "list.txt")


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "rows.txt"
    for text, reason in (
        ("1 2\n3 4\n5 6\n", "has 3 rows, the list has 2 images"),
        ("1 2\n", "has 1 rows, the list has 2 images"),
        ("1 2\n3 4 5\n", "line 2: 3 values, there are 2 labels"),
        ("1 2\n\n3 4\n", "has 3 rows"),
        ("1 2\n3 four\n", "line 2: .*four"),
        ("1 2\n3 nan\n", "line 2: a value is not finite"),
        ("1 2\n3 1e99\n", "line 2: a value is not finite"),
    ):
        path.write_text(text)
        with pytest.raises(SrnError, match=reason):
            read_text(path, labels=2, images=2, listed_in="the list")
    with pytest.raises(MissingError, match="not found"):
        read_text(tmp_path / "none.txt", 2, 2, "the list")
    path.write_text("1,2\n3, 4\n")
    assert read_text(path, 2, 2, "the list").tolist() == [[1, 2], [3, 4]]


def test_tools_write_it_take_it_and_judge_it(shapes_folder, shapes_model, tmp_path, capsys):
    words = ["--data", str(shapes_folder), "--text", str(tmp_path / "t.txt"), "-o", str(tmp_path / "a.npz")]
    assert predict.main([str(shapes_model), *words, "--score", "score_sr", "score"]) == 0
    assert "score, 21 rows of 16" in capsys.readouterr().out
    words = ["--from-text", str(tmp_path / "t.txt"), "--data", str(shapes_folder), "-o", str(tmp_path / "b.npz")]
    assert predict.main(words) == 0
    own, back = load_predictions(tmp_path / "a.npz"), load_predictions(tmp_path / "b.npz")
    assert list(own.scores) == ["score_sr", "score"] and list(back.scores) == ["score"] and own.keys == back.keys
    np.testing.assert_allclose(back.scores["score"], own.scores["score"], atol=1e-6, rtol=1e-6)
    assert predict.main([*words, "--text", str(tmp_path / "u.txt")]) == 0
    assert (tmp_path / "u.txt").read_bytes() == (tmp_path / "t.txt").read_bytes()
    assert evaluate.main([str(tmp_path / "b.npz")]) == 0
    (tmp_path / "t.txt").write_text("1 2 3\n")
    assert predict.main(words) == 1
    assert "t.txt has 1 rows" in capsys.readouterr().err
    np.testing.assert_array_equal(load_predictions(tmp_path / "b.npz").scores["score"], back.scores["score"])
