"""The predictions file: what goes in comes out; damaged and contradictory files are refused by name."""

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.evaluate.predictions import Predictions, load_predictions

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
        ({"scores": {}}, "none of the scores"),
        ({"scores": {"score": np.zeros((2, 4))}}, r"score is \(2, 4\), keys and classes make \(2, 3\)"),
        (
            {"scores": {"score": np.array([[0, 0, 0], [0, np.nan, 0]])}},
            "1 values of score are not finite.*00000001_b, dog",
        ),
        ({"labels": np.zeros((1, 3), np.int8)}, "labels is"),
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
        {"keys": np.array(["a"]), "classes": np.array(["cat"]), "score": np.array([["x"]])},
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
