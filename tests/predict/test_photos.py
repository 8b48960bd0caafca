"""tools/predict.py on image files: pixels as in the LMDB pair, ranked labels, and how its words are understood."""

import gc
import os
import shutil
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from pysrn.console import MissingError
from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_pair import PairReader, write_pair
from pysrn.data.readers.records import Sample
from pysrn.predict import photos
from pysrn.predict.deploy import DeployNet
from pysrn.predict.photo_files import find_photos, is_photo_argument
from pysrn.predict.predictions import load_predictions
from pysrn.predict.splits import predict
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import Settings
from tests.srn import RECIPES
from tools.predict import main

RED, BLUE = (0, 0, 255), (255, 0, 0)


@pytest.fixture
def run(shapes_folder, shapes_model, tmp_path, monkeypatch):
    """A finished run, two more that are none, in the current folder."""
    monkeypatch.chdir(tmp_path)
    found = RunFolder(tmp_path / "runs" / "mine")
    found.write_settings(Settings(RECIPES["shapes"], str(shapes_folder), None))
    found.stage(4).mkdir()
    shutil.copy(shapes_model, found.weights(4))
    (tmp_path / "runs" / "shapes" / "stage1").mkdir(parents=True)
    return found.path


@pytest.fixture
def photo(tmp_path):
    """A wide JPEG: red on the left, blue on the right, and a white spot."""
    image = np.full((90, 200, 3), RED, np.uint8)
    image[:, 100:] = BLUE
    cv2.circle(image, (30, 60), 20, (255, 255, 255), -1)
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), image)
    return path


def test_scores_are_those_of_the_data_path(run, shapes_model, photo, tmp_path, capsys):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned
    Image.open(photo).save(turned, exif=exif, quality=95)
    grey = tmp_path / "grey.png"
    Image.open(photo).convert("L").save(grey)
    files = [photo, turned, grey]
    samples = [Sample(path.stem, path, np.full(16, -1, np.int8)) for path in files]
    classes = RECIPES["shapes"].dataset.classes
    write_pair(samples, tmp_path / "pair", "test", classes, 0, dataset="shapes", encoding=Encoding("raw"), workers=1)
    pair = PairReader(tmp_path / "pair", "test")
    expected = predict(shapes_model, pair, tmp_path / "pair.npz")
    assert main([*map(str, files), "-o", str(tmp_path / "photos.npz")]) == 0
    found = load_predictions(tmp_path / "photos.npz", classes)
    assert [key.partition("_")[2] for key in found.keys] == ["photo", "turned", "grey"] and found.labels is None
    names = [key.partition("_")[2] for key in pair.keys]
    for row, path in enumerate(files):
        for name, values in expected.scores.items():
            np.testing.assert_allclose(found.scores[name][row], values[names.index(path.stem)], atol=1e-4)
    spread = np.ptp(found.scores["score_cls"], axis=0)
    assert spread.max() > 0.05  # a photo that was not turned by its EXIF would be as the first


def test_ranked_labels_of_a_photo_and_a_folder(run, photo, shapes_model, tmp_path, capsys):
    folder = tmp_path / "album"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for place in ("b.jpg", "deep/a.JPG", ".hidden/c.jpg"):
        shutil.copy(photo, folder / place)
    (folder / "broken.png").write_bytes(photo.read_bytes()[:300])
    (folder / "notes.txt").write_text("no image")
    assert main(["photo.jpg", "album", "--top", "3"]) == 0
    printed, said = capsys.readouterr()
    lines = printed.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == ["photo.jpg", "album/b.jpg", "album/deep/a.JPG"]
    assert "with the net of runs/mine" in said and "not read: album/broken.png: " in said and "notes" not in said
    view = cv2.resize(cv2.resize(cv2.imread(str(photo)), (256, 256)), (224, 224)).astype(np.float32)
    blob = (view - np.array([104, 117, 123], np.float32)).transpose(2, 0, 1)[None]
    chances = 1 / (1 + np.exp(-DeployNet(shapes_model).forward(blob)["score"][0].astype(float)))
    best = np.argsort(-chances)[:3]
    names = RECIPES["shapes"].dataset.classes
    assert [line.split("%  ")[1] for line in lines[1:4]] == [names[label] for label in best]
    for line, label in zip(lines[1:4], best, strict=True):
        assert float(line.split("%")[0]) == pytest.approx(100 * chances[label], abs=0.11)
    assert lines[5:8] == lines[1:4]
    assert not list(tmp_path.glob("*.npz")) + list(tmp_path.glob("*.png"))


def test_a_folder_of_unusual_files(run, photo, tmp_path, capsys):
    """What can be decoded is predicted, whatever it is called; what cannot is named, and counted where it is much."""
    album = tmp_path / "album"
    album.mkdir()
    for name, kind in (("a.jfif", "JPEG"), ("b.gif", "GIF"), ("c.avif", "AVIF"), ("d.jp2", "JPEG2000"), ("e", "PNG")):
        Image.open(photo).save(album / name, kind)
    (album / "f.txt").write_text("no image")
    for number in range(9):
        (album / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    (album / "z.jpe").write_bytes(photo.read_bytes()[:200])
    assert main(["album", "--top", "1"]) == 0
    printed, said = capsys.readouterr()
    found = [line.partition("/")[2] for line in printed.splitlines() if line.startswith("album")]
    assert found == ["a.jfif", "b.gif", "c.avif", "d.jp2", "e"]
    assert "not read: album/IMG_0.HEIC: HEIC, which OpenCV cannot decode" in said and "f.txt" not in said
    assert "not read: 10 of 15 files (HEIC, which OpenCV cannot decode: 9; the JPEG is cut off: 1)" in said
    assert sum(line.startswith("not read: album/") for line in said.splitlines()) == 6
    assert main([str(album / "IMG_0.HEIC")]) == 1


def test_what_cannot_be_read_is_let_go(tmp_path, monkeypatch):
    """Twenty cut-off JPEGs of 1 MB, all read ahead, by two threads: each holds the file that it reads."""
    paths = [tmp_path / f"{number}.jpg" for number in range(20)]
    for path in paths:
        path.write_bytes(b"\xff\xd8" + bytes(1 << 20))
    monkeypatch.setattr(photos, "thread_count", lambda workers: 2)
    gc.disable()
    tracemalloc.start()
    try:
        assert not list(photos.read_photos(paths, RECIPES["shapes"].input, len(paths)))
        assert 1 << 20 < tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
        gc.enable()


def test_attention_picture(run, photo, tmp_path, capsys):
    assert main(["photo.jpg", "--attention", "--top", "2"]) == 0
    assert "attention.png: 1 photos" in capsys.readouterr().out
    small = cv2.imread("attention.png")
    assert small.std() > 5 and small.shape[1] > 2 * small.shape[0]
    before = photo.read_bytes()
    assert main(["--attention", "photo.jpg", "--picture", "a.png", "--score", "score_att"]) == 0
    assert photo.read_bytes() == before and cv2.imread("a.png").shape[1] == 2 * small.shape[1]


def test_words_that_mean_photos(run, photo, tmp_path):
    for place, content in (("album/x.webp", b""), ("texts/x.txt", b""), ("lone", b""), ("runs/mine/stage4/a.png", b"")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(content)
    meaning = {"photo.jpg": True, "none.PNG": True, "album": True, "texts": False, "lone": False, "none": False}
    meaning |= {"runs/mine": False, "runs/mine/stage4": False, "runs/mine/stage4/weights.caffemodel": False}
    assert {word: is_photo_argument(word) for word in meaning} == meaning


def test_run_and_photos_are_told_apart(run, photo, tmp_path, capsys):
    shutil.copy(photo, "lone")
    shutil.copy(photo, b"caf\xe9.jpg")  # not UTF-8
    for words in (
        [os.fsdecode(b"caf\xe9.jpg"), "-o", "p.npz"],
        ["runs/mine", "photo.jpg"],
        ["photo.jpg", "runs/mine"],
        ["runs/mine/stage4/weights.caffemodel", "photo.jpg"],
        ["--images", "lone", "--run", "runs/mine"],
        ["runs/mine", "--images", "lone"],
    ):
        assert main(words) == 0
        assert capsys.readouterr().out.count("%") == 5


def test_files_are_found_once_and_in_order(photo, tmp_path):
    shutil.copy(photo, tmp_path / "a.jpg")
    assert list(find_photos([photo, tmp_path])) == [photo, tmp_path / "a.jpg"]
    for missing in (tmp_path / "none.jpg", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(MissingError, match="no image"):
            find_photos([photo, missing])


def test_ranking_by_hand():
    assert photos.ranked(np.array([0.0, 2, 2, -1]), "abcd", 3) == [
        ("b", pytest.approx(0.8807970780)),
        ("c", pytest.approx(0.8807970780)),
        ("a", 0.5),
    ]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["none.jpg"], 3, "no image file none.jpg"),
        (["lone"], 2, "lone is neither named as an image file nor as a caffemodel"),
        (["bad.jpg"], 1, "none of 1 files could be read"),
        (["photo.jpg", "lone.caffemodel"], 2, "its labels have no names"),
        (["photo.jpg", "--split", "train"], 2, "not for photos"),
        (["photo.jpg", "--top", "0"], 2, "--top must be at least 1"),
        (["photo.jpg", "--run", "nowhere"], 3, "neither a file nor a folder"),
        (["photo.jpg", "--data", "two"], 1, "predicts 16 labels, two has 2"),
    ],
)
def test_bad_input_is_one_line(run, photo, shapes_model, tmp_path, capsys, words, code, reason):
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    shutil.copy(shapes_model, "lone.caffemodel")
    shutil.copy(photo, "lone")
    samples = [Sample("photo", photo, np.array([1, -1], np.int8))]
    write_pair(samples, tmp_path / "two", "train", ("cat", "dog"), 0, dataset="folder", workers=1)
    capsys.readouterr()
    assert main(words) == code
    said = ("  mend it: ", "not read: ", "with the net of ", "predicting: ")
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(said)]
    assert len(errors) == 1 and reason in errors[0], errors


def test_a_run_of_ones_own_labels(shapes_model, photo, tmp_path, monkeypatch, capsys):
    from dataclasses import replace

    monkeypatch.chdir(tmp_path)
    recipe = RECIPES["folder"]
    names = tuple(f"thing {number}" for number in range(16))
    recipe = replace(recipe, trunk=RECIPES["shapes"].trunk, dataset=replace(recipe.dataset, labels=names))
    run = RunFolder(tmp_path / "runs" / "own")
    run.write_settings(Settings(recipe, "data/gone", None))
    run.stage(4).mkdir()
    shutil.copy(shapes_model, run.weights(4))
    assert main(["photo.jpg", "--top", "99"]) == 0
    assert sorted(line.split("%  ")[1] for line in capsys.readouterr().out.splitlines()[1:]) == sorted(names)
