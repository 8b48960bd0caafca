"""Vectors of class names: what is read of a file of words, what is refused, and those made of labels."""

import pickle

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.recipes import class_names
from pysrn.systems.msrn.labels.vectors import NORM, SHIPPED, label_statistics_vectors, read_vectors, shipped_vectors

WORDS = {"dog": 1.0, "traffic": 2.0, "light": 4.0, "teddy_bear": 8.0, "teddy": 16.0, "bear": 32.0, ". .": 9.0}


def lines(width=5, words=WORDS):
    return [f"{word} {' '.join(str(value + k) for k in range(width))}" for word, value in words.items()]


def written(path, text):
    path.write_text("\n".join(text) + "\n")
    return path


def test_words_and_their_means(tmp_path):
    path = written(tmp_path / "words.txt", lines())
    found = read_vectors(path, ("Dog", "traffic light", "teddy bear", "dog-light"), 5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], [1, 3, 8, 2.5])
    np.testing.assert_array_equal(found - found[:, :1], np.tile(np.arange(5), (4, 1)))


def test_head_of_word2vec_is_passed_over(tmp_path):
    path = written(tmp_path / "words.txt", ["7 5", *lines()])
    assert read_vectors(path, ("dog",), 5)[0, 0] == 1


def test_lines_that_nobody_asks_for_may_be_anything(tmp_path):
    path = written(tmp_path / "words.txt", [*lines(), "cat 1 2", "cat", "", "\ufffd x"])
    assert read_vectors(path, ("dog",), 5)[0, 0] == 1


@pytest.mark.parametrize(
    ("text", "classes", "said"),
    [
        (lines(4), ("dog",), "has 4 numbers a word, 5 are wanted"),
        ([*lines(), "cat 1 2 3"], ("cat",), "line 8: cat has 3 numbers, 5 are wanted"),
        (lines(), ("dog", "zebra", "red cat"), "lacks 3 words of the class names: cat, red, zebra"),
        ([*lines(), *lines()], ("dog",), "line 8: the word dog is there twice"),
        ([*lines(), "cat 1 2 x 4 5"], ("cat",), "line 8: cat has something that is no number"),
        ([*lines(), "cat 1 2 nan 4 5"], ("cat",), "line 8: cat has something that is no number"),
        ([*lines(), "cat 1 2 1e99 4 5"], ("cat",), "line 8: cat has something that is no number"),
        ([], ("dog",), "has 0 numbers a word"),
        (lines(), ("dog", "-"), "lacks 1 words of the class names: -"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, classes, said):
    path = written(tmp_path / "words.txt", text)
    with pytest.raises(SrnError, match="words.txt") as caught:
        read_vectors(path, classes, 5)
    assert said in str(caught.value) and "\n" not in str(caught.value) and caught.value.cure


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_not_read(tmp_path, protocol):
    path = tmp_path / "words.pkl"
    path.write_bytes(pickle.dumps({"dog": [1.0] * 5}, protocol))
    with pytest.raises(SrnError, match="pickle" if protocol > 1 else "words.pkl"):
        read_vectors(path, ("dog",), 5)


def test_other_files_are_not_read(tmp_path):
    np.save(tmp_path / "words.npy", np.zeros((3, 5)))
    with pytest.raises(SrnError, match="binary"):
        read_vectors(tmp_path / "words.npy", ("dog",), 5)
    with pytest.raises(MissingError):
        read_vectors(tmp_path / "nowhere", ("dog",), 5)


@pytest.mark.parametrize("dataset", SHIPPED)
def test_shipped_vectors_are_those_of_the_names(shared_data, dataset):
    names = class_names(dataset)
    forms = {"coco": "coco_id_order", "nus_wide": "nuswide_Concepts81_order", "voc2007": "voc2007_alphabetical",
             "apparel": "apparel_msrn_order"}  # fmt: skip
    text = (shared_data / "label_vectors" / f"glove300_{forms[dataset]}.tsv").read_text().splitlines()
    rows = {line.split("\t")[0]: [float(value) for value in line.split("\t")[1].split()] for line in text}
    np.testing.assert_array_equal(shipped_vectors(dataset, names), np.float32([rows[name] for name in names]))


def test_vectors_of_labels_are_their_mutual_information():
    labels = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0]])
    found = label_statistics_vectors(labels, 6)
    p, joint = labels.mean(0), labels.T @ labels / 4
    expected = np.zeros((4, 6))
    for i in range(3):
        for j in range(3):
            if joint[i, j]:
                expected[i, j] = max(0, np.log(joint[i, j] / (p[i] * p[j])))
    expected *= NORM / np.linalg.norm(expected, axis=1).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not found[3].any() and np.isfinite(found).all()  # a label without an image


def test_more_labels_than_numbers_keep_their_nearness():
    labels = (np.random.default_rng(0).random((200, 9)) < 0.3).astype(int)
    whole, short = label_statistics_vectors(labels, 9), label_statistics_vectors(labels, 6)
    assert short.shape == (9, 6)
    near = [(x @ x.T) / np.outer(*[np.linalg.norm(x, axis=1)] * 2) for x in (whole, short)]
    assert np.abs(near[0] - near[1]).max() < 0.5
