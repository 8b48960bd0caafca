"""The predictions file: what goes in comes out; damaged and contradictory files are refused by name."""

import zipfile

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.predict.predictions import Predictions, check_same_images, load_predictions

CLASSES = ("cat", "dog", "bird")


def predictions(**changes):
    random = np.random.default_rng(0)
    values = {
        "keys": ("00000000_a", "00000001_b"),
        "classes": CLASSES,
        "scores": {name: random.normal(size=(2, 3)).astype(np.float32) for name in ("score_cls", "score")},
        "labels": np.array([[1, -1, 0], [-1, 1, 1]], np.int8),
        "about": {"split": "test"},
    }
    return Predictions(**(values | changes))


def test_what_goes_in_comes_out(tmp_path):
    given = predictions(keys=("00000000_ä b", "00000001_b"))
    given.save(tmp_path / "new" / "p.npz")
    found = load_predictions(tmp_path / "new" / "p.npz", CLASSES)
    assert (found.keys, found.classes, dict(found.about)) == (given.keys, given.classes, given.about)
    assert list(found.scores) == ["score_cls", "score"]
    for name, values in given.scores.items():
        np.testing.assert_array_equal(found.scores[name], values)
    np.testing.assert_array_equal(found.labels, given.labels)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.npz"]


def test_labels_are_optional(tmp_path):
    predictions(labels=None).save(tmp_path / "p.npz")
    assert load_predictions(tmp_path / "p.npz").labels is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keys": ("same", "same")}, "duplicate keys: same is there 2 times"),
        ({"classes": ("cat", "cat", "dog")}, "duplicate classes: cat"),
        ({"scores": {}}, "no scores"),
        ({"scores": {"score": np.zeros((2, 4))}}, r"score is \(2, 4\), keys and classes make \(2, 3\)"),
        (
            {"scores": {"score": np.array([[0, 0, 0], [0, np.nan, 0]])}},
            "1 values of score are not finite.*00000001_b, dog",
        ),
        ({"scores": {"score": np.full((2, 3), -np.inf)}}, "6 values of score are not finite.*00000000_a, cat"),
        ({"scores": {"score": np.zeros((2, 3), int)}}, "score is of type int64, expected floating-point numbers"),
        ({"scores": {"score": np.zeros((2, 3), complex)}}, "score is of type complex128"),
        ({"scores": {"score": np.full((2, 3), "1")}}, "score is of type <U1"),
        ({"labels": np.zeros((1, 3), np.int8)}, "labels is"),
        ({"labels": np.ones((2, 3))}, "labels is of type float64, expected whole numbers"),
        ({"labels": np.array([[1, 0, 0], [4, 0, 4]])}, "2 labels are not 1, -1 or 0, the first: 00000001_b, cat"),
        ({"keys": (), "scores": {"score": np.zeros((0, 3))}, "labels": None}, "no image"),
    ],
)
def test_contradictions_are_not_written(tmp_path, changes, reason):
    predictions().save(tmp_path / "p.npz")
    before = (tmp_path / "p.npz").read_bytes()
    with pytest.raises(SrnError, match=reason):
        predictions(**changes).save(tmp_path / "p.npz")
    assert (tmp_path / "p.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_contradictions_are_not_read_either(tmp_path):
    np.savez(tmp_path / "p.npz", keys=["a", "a"], classes=["cat"], score=np.zeros((2, 1), np.float32))
    with pytest.raises(SrnError, match="p.npz: duplicate keys: a"):
        load_predictions(tmp_path / "p.npz")


def test_missing_and_doubled_arrays_are_named(tmp_path):
    predictions().save(tmp_path / "p.npz")
    for lost in ("keys", "classes", "score", "labels"):
        with np.load(tmp_path / "p.npz") as archive:
            np.savez(tmp_path / "less.npz", **{name: archive[name] for name in archive.files if name != lost})
        with pytest.raises(SrnError, match=f"less.npz is damaged.*: {lost}$"):
            load_predictions(tmp_path / "less.npz")
    np.savez(tmp_path / "less.npz", classes=np.array(["cat"]), score=np.zeros((1, 1)))
    with pytest.raises(SrnError, match="less.npz is damaged.*it holds no keys"):
        load_predictions(tmp_path / "less.npz")
    with zipfile.ZipFile(tmp_path / "p.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("score.npy", archive.read("score_cls.npy"))
    with pytest.raises(SrnError, match="p.npz is damaged.*two arrays of one name"):
        load_predictions(tmp_path / "p.npz")


def test_numbers_too_large_for_float32_are_refused(tmp_path):
    content = {"keys": np.array(["a"]), "classes": np.array(["cat"])}
    np.savez(tmp_path / "p.npz", **content, score=np.full((1, 1), 1e300))
    with pytest.raises(SrnError, match="p.npz: 1 values of score are not finite"):
        load_predictions(tmp_path / "p.npz")
    np.savez(tmp_path / "p.npz", **content, score=np.full((1, 1), 1.5))
    assert load_predictions(tmp_path / "p.npz").scores["score"].dtype == np.float32
    np.savez(tmp_path / "p.npz", **content, score=np.full((1, 1), 16.000001))  # it would become 16.00000095
    assert load_predictions(tmp_path / "p.npz").scores["score"].tolist() == [[16.000001]]


def test_files_of_other_images_or_labels_are_named():
    first = predictions()
    turned = predictions(keys=first.keys[::-1], labels=first.labels[::-1])
    check_same_images(turned, first, "b.npz", "a.npz")
    check_same_images(predictions(labels=None), first, "b.npz", "a.npz")
    with pytest.raises(SrnError, match="b.npz and a.npz are of different images: 2 keys .* 00000001_b is not in b.npz"):
        check_same_images(predictions(keys=("00000000_a", "00000001_c")), first, "b.npz", "a.npz")
    other = first.labels[::-1].copy()
    other[1, 2] = 1
    with pytest.raises(
        SrnError, match="b.npz and a.npz have other labels for the same images: 1, .*: 00000000_a, bird"
    ):
        check_same_images(predictions(keys=first.keys[::-1], labels=other), first, "b.npz", "a.npz")


def test_other_classes_are_refused_by_name(tmp_path):
    predictions().save(tmp_path / "p.npz")
    with pytest.raises(SrnError, match="another order: class 0 is cat, expected dog"):
        load_predictions(tmp_path / "p.npz", ("dog", "cat", "bird"))
    with pytest.raises(SrnError, match="3, expected 2; differing: bird, cat, dog, fish, tree"):
        load_predictions(tmp_path / "p.npz", ("fish", "tree"))


def test_missing_file(tmp_path):
    with pytest.raises(MissingError, match="no file"):
        load_predictions(tmp_path / "p.npz")


def test_every_truncation_is_refused(tmp_path):
    predictions().save(tmp_path / "p.npz")
    whole = (tmp_path / "p.npz").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(SrnError, match="cut.npz is damaged"):
            load_predictions(tmp_path / "cut.npz")


def test_flipped_bits_are_refused_or_harmless(tmp_path):
    """A flip in data fails the archive's checksum; one in its unused fields changes nothing."""
    given = predictions()
    given.save(tmp_path / "p.npz")
    whole = (tmp_path / "p.npz").read_bytes()
    refused = 0
    for position in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        (tmp_path / "flip.npz").write_bytes(damaged)
        try:
            found = load_predictions(tmp_path / "flip.npz")
        except SrnError:
            refused += 1
            continue
        assert found.keys == given.keys
        for name, values in found.scores.items():
            np.testing.assert_array_equal(values, given.scores[name])
    assert refused > 50


@pytest.mark.parametrize(
    "arrays",
    [
        {"keys": np.array(["a"]), "score": np.zeros((1, 1))},
        {"keys": np.array(["a"], dtype=object), "classes": np.array(["cat"]), "score": np.zeros((1, 1))},
        {"keys": np.array([b"a"]), "classes": np.array(["cat"]), "score": np.zeros((1, 1))},
        {"keys": np.array(["a"]), "classes": np.array([["cat"]]), "score": np.zeros((1, 1))},
        {"keys": np.array([7]), "classes": np.array(["cat"]), "score": np.zeros((1, 1))},
        {"keys": np.array("a"), "classes": np.array(["cat"]), "score": np.zeros((1, 1))},
        {
            "keys": np.array(["a"]),
            "classes": np.array(["cat"]),
            "score": np.zeros((1, 1)),
            "about": np.array("{"),
        },
    ],
)
def test_foreign_archives_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(SrnError, match="p.npz is damaged or no predictions file"):
        load_predictions(tmp_path / "p.npz")


def test_a_single_array_or_text_is_refused(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("keys, classes\n")
    for name in ("array.npy", "text.npz"):
        with pytest.raises(SrnError, match=f"{name} is damaged"):
            load_predictions(tmp_path / name)
