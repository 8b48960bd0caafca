"""Predictions written and read piece by piece: the bytes of the whole, damage by name, memory that does not grow."""

import shutil
import tracemalloc
from functools import partial

import lmdb
import numpy as np
import pytest

from pysrn.console import SrnError
from pysrn.data.pair.datum import label_vector
from pysrn.data.pair.lmdb_file import append, open_growing, pair_paths
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.data.pair.manifest import write_manifest
from pysrn.data.pair.sparse_keys import EVERY
from pysrn.predict.columns import ROWS, Column, checked, in_blocks, read_columns, write_columns
from pysrn.predict.parts import OF_DATA, RECORDS, Part, join
from pysrn.predict.predictions import LISTED, Predictions, load_predictions
from tests.systems.reference import datums
from tools.predict import main


def predictions(count, first=0, **about):
    rng = np.random.default_rng(first)
    keys = tuple(f"{first + number:08d}_photo{'s' * (number % 3)}" for number in range(count))
    scores = {name: rng.normal(size=(count, 3)).astype(np.float32) for name in ("score_cls", "score")}
    labels = rng.integers(-1, 2, (count, 3)).astype(np.int8)
    return Predictions(keys, ("cat", "dog", "é"), scores, labels, {"weights": "w", **about})


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, 2 * ROWS + 5])
def test_the_bytes_are_those_of_the_whole(count, tmp_path):
    found = predictions(count)
    found.save(tmp_path / "whole.npz")
    text = np.array(found.keys).dtype
    columns = {"keys": Column(text, (count,), partial(in_blocks, found.keys, text))}
    columns["classes"] = Column.of(np.array(found.classes))
    for name, values in {**found.scores, "labels": found.labels}.items():
        columns[name] = Column(values.dtype, values.shape, partial(in_blocks, values, values.dtype))
    write_columns(tmp_path / "pieces.npz", found.about, columns)
    assert (tmp_path / "pieces.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    about, again = read_columns(tmp_path / "whole.npz")
    assert about == found.about and LISTED not in about and tuple(again["keys"].texts()) == found.keys
    np.testing.assert_array_equal(np.concatenate(list(again["score"].blocks())), found.scores["score"])


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_flipped_bit_is_named(place, tmp_path):
    path = tmp_path / "p.npz"
    predictions(300).save(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)
    with pytest.raises(SrnError, match=r"p\.npz is damaged"):
        for column in read_columns(path)[1].values():
            list(column.blocks())


def test_a_value_that_is_none_is_named():
    values = np.zeros((2 * ROWS, 3), np.float32)
    values[ROWS + 7, 1] = np.inf
    with pytest.raises(SrnError, match=f"here: a value of score is not finite: row {ROWS + 7}, b"):
        list(checked("score", in_blocks(values, np.float32), "abc", "row {}".format, "here"))
    with pytest.raises(SrnError, match="a value of labels is not 1, -1 or 0: row 1, c"):
        list(checked("labels", [np.array([[0, 1, -1], [0, 0, 2]], np.int8)], "abc", "row {}".format, "here"))


def pair_of(folder, keys):
    """A pair of these keys, its images and labels the same everywhere."""
    for path in pair_paths(folder, "test"):
        environment = open_growing(path)
        append(environment, [(key, label_vector(np.array([1, -1]))) for key in keys])
        environment.close()
    write_manifest(folder, {"dataset": "folder", "classes": ["cat", "dog"], "splits": {"test": {"count": len(keys)}}})
    return folder


@pytest.mark.parametrize("step", [1, 3])  # 3: images were left out, so numbers are no places
@pytest.mark.parametrize("span", [None, range(0, 5), range(EVERY + 3, 3 * EVERY), range(299, 300)])
def test_keys_of_many_records_are_found_again(tmp_path, step, span):
    keys = [b"%08d_%d" % (number * step, number) for number in range(300)]
    folder, words = pair_of(tmp_path, keys), [] if span is None else [lambda _: span]
    expected = [key.decode() for key in (keys if span is None else keys[span.start : span.stop])]
    sparse = PairReader(folder, "test", *words, sparse=True)
    assert list(sparse.keys) == PairReader(folder, "test", *words).keys == expected and len(sparse) == len(expected)
    for index in np.random.default_rng(1).permutation(len(expected))[:50].tolist():
        assert sparse.keys[index] == expected[index] and sparse.labels(index).tolist() == [1, -1]
    with pytest.raises(IndexError):
        sparse.keys[len(expected)]


def test_a_broken_label_costs_no_score(shapes_folder, shapes_model, tmp_path, capsys):
    """It is found when all is predicted; mended, the same command goes on."""
    pair = tmp_path / "pair"
    shutil.copytree(shapes_folder, pair)
    words = [str(shapes_model), "--data", str(pair), "--score", "score_cls", "-o", str(tmp_path / "p.npz")]
    (key, value), *_ = datums(pair / "test_label.lmdb")
    for content, code in ((b"broken", 1), (value.SerializeToString(), 0)):
        with lmdb.open(str(pair / "test_label.lmdb"), lock=False) as labels, labels.begin(write=True) as transaction:
            transaction.put(key if isinstance(key, bytes) else key.encode(), content)
        assert main(words) == code
        assert len(list(tmp_path.glob(".p.npz.chunks/chunk_*"))) == (1 if code else 0)
    assert "broken record" in capsys.readouterr().err and load_predictions(tmp_path / "p.npz").labels.shape == (21, 16)


def join_parts(folder, images, count):
    folder.mkdir()
    for number in range(1, count + 1):
        span = Part(number, count).span(images, 1)
        records = {RECORDS: [span.start, span.stop, images], OF_DATA: "0", "weights_sha256": "1"}
        predictions(len(span), span.start, **records).save(Part(number, count).path(folder / "p.npz"))
    tracemalloc.start()
    try:
        outline = join(folder / "p.npz")
        return outline, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_joining_ten_times_as_many_takes_no_more_memory(tmp_path):
    few, some = join_parts(tmp_path / "few", 2 * ROWS, 2)
    many, more = join_parts(tmp_path / "many", 20 * ROWS, 2)
    assert (few.images, many.images) == (2 * ROWS, 20 * ROWS)
    assert more < 1.1 * some, (some, more)
    assert len(load_predictions(tmp_path / "many/p.npz").keys) == 20 * ROWS
