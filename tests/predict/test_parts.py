"""tools/predict.py --part and --join: parts on machines that share nothing, and what is made of them."""

import shutil

import numpy as np
import pytest

from pysrn.console import UsageError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.predict.parts import Part
from pysrn.predict.predictions import Predictions, load_predictions
from tools.predict import main


@pytest.fixture
def words(shapes_folder, shapes_model, tmp_path):
    """For 21 images in chunks of four; the whole is `p.npz`."""
    return [str(shapes_model), "--data", str(shapes_folder), "--batch-size", "1", "-o", str(tmp_path / "p.npz")]


@pytest.fixture
def parts(words, tmp_path):
    """Three parts, the last one made first."""
    for number in (3, 1, 2):
        assert main([*words, "--part", f"{number}/3"]) == 0
    return [tmp_path / f"p.part{number}of3.npz" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("images", "unit", "count"), [(1, 1, 1), (21, 4, 6), (21, 4, 5), (64, 64, 1), (1000003, 64, 777)]
)
def test_parts_are_all_images_once_in_whole_units(images, unit, count):
    spans = [Part(number, count).span(images, unit) for number in range(1, count + 1)]
    assert [index for span in spans for index in span] == list(range(images))
    assert all(span.start % unit == 0 and len(span) for span in spans)
    assert max(map(len, spans)) - min(map(len, spans[:-1] or spans)) <= unit


def test_more_parts_than_there_are_units_are_refused():
    with pytest.raises(UsageError, match="21 images are 6 times 4: too few for 7 parts"):
        Part(1, 7).span(21, 4)


@pytest.mark.parametrize("more", [[], ["--workers", "2"], ["--cache-features", "fp32", "--cache-folder", "features"]])
def test_joined_they_are_the_whole_byte_for_byte(words, tmp_path, monkeypatch, capsys, more):
    monkeypatch.chdir(tmp_path)
    if "--cache-features" in more:
        words = [*words, *more]  # the cache rounds in its own way
    assert main(words) == 0
    whole = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "p.npz").unlink()
    for number in (2, 1, 3):
        assert main([*words, *more, "--part", f"{number}/3"]) == 0
    assert main(["--join", "-o", str(tmp_path / "p.npz")]) == 0
    assert "p.npz: 21 images, 16 labels" in capsys.readouterr().out
    assert (tmp_path / "p.npz").read_bytes() == whole
    assert not list(tmp_path.glob(".p*"))


def test_parts_share_a_cache_without_taking_each_others_rows(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cached = [*words, "--cache-features", "fp32", "--cache-folder", "features"]
    assert main([*cached, "--part", "2/2"]) == 0
    second = (tmp_path / "p.part2of2.npz").read_bytes()
    assert main([*cached, "--part", "1/2"]) == 0
    assert main([*cached, "--part", "2/2"]) == 0  # from the rows that are kept
    assert (tmp_path / "p.part2of2.npz").read_bytes() == second
    with np.load(tmp_path / "p.part1of2.npz") as first, np.load(tmp_path / "p.part2of2.npz") as other:
        assert not np.isclose(first["score"][: len(other["score"])], other["score"][: len(first["score"])]).all()


def test_a_part_reads_no_more_than_its_own_keys(shapes_folder):
    part, whole = (PairReader(shapes_folder, "test", *span) for span in ([lambda _: range(8, 13)], []))
    assert part.keys == whole.keys[8:13] and len(part) == 5 and part.total == 21
    np.testing.assert_array_equal(part.image(2), whole.image(10))
    np.testing.assert_array_equal(part.all_labels(), whole.all_labels()[8:13])


def test_one_part_of_one_is_a_whole(words, tmp_path):
    assert main([*words, "--part", "1/1"]) == 0 and main(["--join", *words]) == 0
    assert len(load_predictions(tmp_path / "p.npz").keys) == 21


def test_a_part_that_is_missing_is_named(parts, words, capsys):
    parts[1].unlink()
    assert main(["--join", *words]) == 3
    said = capsys.readouterr().err
    assert "are missing: 2/3" in said and "--part 2/3" in said and "Traceback" not in said


def changed(path, **new):
    """A part with other content, whole for itself."""
    found = load_predictions(path)
    values = {name: getattr(found, name) for name in ("keys", "classes", "scores", "labels", "about")}
    Predictions(**values | {name: change(values[name]) for name, change in new.items()}).save(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "is damaged"),
        (lambda path: shutil.copy(path.with_name("p.part1of3.npz"), path), "begins at image 0, not at 8"),
        (lambda path: shutil.copy(path, path.with_name("p.part1of2.npz")), "has parts of 2 and of 3"),
        (lambda path: changed(path, about=lambda of: of | {"weights_sha256": "0"}), "by other weights"),
        (lambda path: changed(path, about=lambda of: of | {"data_sha256": "0"}), "of other data"),
        (lambda path: changed(path, about=lambda of: of | {"records": [8, 16, 22]}), "of a split of another size"),
        (lambda path: changed(path, about=lambda of: of | {"records": [8, 17, 21]}), "begins at image 16, not at 17"),
        (lambda path: changed(path, about=lambda of: of | {"records": [8, 15, 21]}), "is no part"),
        (lambda path: changed(path, about=lambda of: of | {"records": [8, "16", 21]}), "is no part"),
        (lambda path: changed(path, about=lambda of: {"weights_sha256": of["weights_sha256"]}), "is no part"),
        (lambda path: changed(path, classes=lambda of: tuple(reversed(of))), "with other labels"),
        (lambda path: changed(path, scores=lambda of: {"score": of["score"]}), "with other scores"),
        (lambda path: changed(path, keys=lambda of: ("00000000_other", *of[1:])), "out of order"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(parts, words, capsys, tmp_path, damage, reason):
    damage(parts[1])
    assert main(["--join", *words]) == 1
    said = capsys.readouterr().err
    assert reason in said and "Traceback" not in said
    assert not (tmp_path / "p.npz").exists()


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5", ""])
def test_what_is_no_part_is_wrong_usage(text):
    with pytest.raises(SystemExit) as ended:
        main(["--part", text])
    assert ended.value.code == 2


def test_photos_in_parts(shapes_folder, shapes_model, tmp_path, capsys):
    import cv2

    pair, folder = PairReader(shapes_folder, "test"), tmp_path / "photos"
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"{index}.png"), pair.image(index))
    (folder / "3.png").write_bytes(b"no image")
    words = ["--run", str(shapes_model), "--data", str(shapes_folder), str(folder), "-o", str(tmp_path / "p.npz")]
    assert main([*words, "--batch-size", "1"]) == 0
    whole = load_predictions(tmp_path / "p.npz")
    (tmp_path / "p.npz").unlink()
    for number in (1, 2):
        assert main([*words, "--batch-size", "1", "--part", f"{number}/2"]) == 0
    assert main(["--join", "-o", str(tmp_path / "p.npz")]) == 0
    found = load_predictions(tmp_path / "p.npz")
    assert found.keys == whole.keys and found.about == whole.about
    np.testing.assert_array_equal(found.scores["score"], whole.scores["score"])
    assert main([*words[:-2], "--part", "1/2"]) == 2  # no file to be a part of
