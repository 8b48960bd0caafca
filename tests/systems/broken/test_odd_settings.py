"""Flags, data, run.json and predictions that cannot be: the tool that is asked says so, and nothing is lost."""

import copy
import io
import json

import numpy as np
import pytest

from pysrn.predict.predictions import load_predictions
from tests.systems.broken.conftest import put

PATHS = ("run_stage", "--system", "cnn_rnn", "--data", "data", "--run", "new", "--dry-run")
GRAPH = ("run_stage", "--system", "msrn", "--data", "data", "--run", "new", "--dry-run")
PHOTO = ("predict", "runs/path", "data/images/test", "--search")
SEARCH = "beam_width=N from 1 to 1000 and shortest_path=N from 0 to 16"
ASKED = [
    (2, "at least 1", *PATHS, "--longest-path", "0"),
    (2, "a whole number", *PATHS, "--longest-path", "-1"),
    (2, "a path of 200 labels: from 1 to 199", *PATHS, "--longest-path", "200"),
    (2, "a whole number", *PATHS, "--longest-path", "99999999999"),
    (2, "at least 1", *PATHS, "--beam-width", "0"),
    (2, "--beam-width 1001 is more than 1000", *PATHS, "--beam-width", "1001"),
    (2, "--shortest-path 17: there are 16 labels", *PATHS, "--shortest-path", "17"),
    (2, "from 0 to below 1", *PATHS, "--dropout", "1"),
    (2, "from 0 to below 1", *PATHS, "--dropout", "nan"),
    (2, "invalid choice: 'gru'", *PATHS, "--cell", "gru"),
    (2, "CNN-RNN has no --fusion", *PATHS, "--fusion", "flatten"),
    (2, "CNN-RNN has no --edge-threshold", *PATHS, "--edge-threshold", "0.5"),
    (2, "CNN-RNN has no --label-vectors", *PATHS, "--label-vectors", "words.txt"),
    (3, "no file Frequent", *PATHS, "--label-order", "Frequent"),
    (2, "invalid choice: 'resnet101_preact'", *PATHS, "--trunk", "resnet101_preact"),
    (2, "CNN-RNN has no stage 3", "run_stage", "3", *PATHS[1:]),
    (2, "MSRN has no --cell", *GRAPH, "--cell", "lstm"),
    (2, "MSRN has no --beam-width", *GRAPH, "--beam-width", "3"),
    (2, "MSRN has no --label-order", *GRAPH, "--label-order", "rare"),
    (2, "from 0 to below 1", *GRAPH, "--edge-threshold", "1.5"),
    (2, "from 0 to below 1", *GRAPH, "--edge-threshold", "-0.1"),
    (2, "from 0 to below 1", *GRAPH, "--edge-threshold", "nan"),
    (2, "from 0 to below 1", *GRAPH, "--pool-ratio", "1"),
    (2, "invalid choice: 'sum'", *GRAPH, "--fusion", "sum"),
    (2, "MSRN has no trunk vgg16", *GRAPH, "--trunk", "vgg16"),
    (2, "other has the 16 labels sort 0, sort 1, sort 2", *PATHS, "--data", "other"),
    (2, "few has the 3 labels cat, dog, teddy bear", *GRAPH, "--data", "few"),
    (2, "not those of shapes", "run_stage", "--run", "graph", "--data", "other", "--dry-run"),
    (3, "no LMDB pair in runs", *GRAPH, "--data", "runs"),
    (2, "was begun with CNN-RNN, not MSRN", "run_stage", "--system", "msrn", "--run", "path", "--dry-run"),
    (2, "other settings", "run_stage", "--run", "path", "--cell", "paper", "--dry-run"),
    (2, "other settings", "run_stage", "--run", "path", "--label-order", "rare", "--dry-run"),
    (2, "other settings", "run_stage", "--run", "path", "--longest-path", "2", "--dry-run"),
    (2, "other settings", "run_stage", "--run", "graph", "--edge-threshold", "0.01", "--dry-run"),
    (2, "--search x=1", *PHOTO, "x=1"),
    (2, "--search beam_width=0", *PHOTO, "beam_width=0"),
    (2, "--search beam_width=1001", *PHOTO, "beam_width=1001"),
    (2, "--search shortest_path=17", *PHOTO, "shortest_path=17"),
    (2, "--search =3", *PHOTO, "=3"),
    (2, "NAME=N, not 'beam_width'", *PHOTO, "beam_width"),
    (2, "NAME=N, not 'beam_width=-1'", *PHOTO, "beam_width=-1"),
    (2, "NAME=N, not 'beam_width=1.5'", *PHOTO, "beam_width=1.5"),
    (2, "nothing to search", "predict", "runs/graph", "--search", "beam_width=2"),
    (2, "nothing to search", "predict", "runs/path", "--stage", "1", "--search", "beam_width=2"),
    (1, "number 0 is sort 0, not circle", "predict", "runs/path", "--data", "other"),
    (1, "number 0 is sort 0, not circle", "predict", "runs/graph", "--data", "other"),
    (1, "number 0 is sort 0, not circle", "visualize", "labels", "runs/graph", "--data", "other"),
    (1, "number 0 is sort 0, not circle", "visualize", "steps", "runs/path", "--data", "other"),
    (1, "number 0 is sort 0, not circle", "predict", "runs/path", "data/images/test", "--data", "other"),
    (1, "predicts 16 labels, few has 3", "predict", "runs/path", "--data", "few"),
    (1, "predicts 16 labels, few has 3", "visualize", "attention", "runs/graph", "--data", "few"),
    (1, "wrong classes", "evaluate", "runs/path", "--labels", "other"),
    (1, "wrong classes", "evaluate", "runs/graph", "--labels", "few"),
    (2, "MSRN has no steps to draw", "visualize", "steps", "runs/graph"),
    (2, "CNN-RNN has no neurons to draw", "visualize", "neurons", "runs/path"),
    (2, "MSRN has no map att_map", "visualize", "attention", "runs/graph", "--maps", "att_map"),
    (2, "has no label graph yet", "visualize", "labels", "runs/graph", "--stage", "1"),
    (2, "has no embedding of labels yet", "visualize", "labels", "runs/path", "--stage", "1"),
    (2, "searches no paths yet", "visualize", "steps", "runs/path", "--stage", "1"),
    (2, "no sample zebra", "visualize", "steps", "runs/path", "--images", "zebra"),
    (2, "not score_sr", "predict", "runs/path", "--score", "score_sr"),
    (2, "not score_visits", "predict", "runs/graph", "--score", "score_visits"),
    (2, "CNN-RNN has no names of its authors", "to_torch", "runs/path", "--authors"),
    (2, "CNN-RNN has no stage 7", "make_prototxt", "--run", "runs/path", "--stage", "7"),
    (3, "no run.json", "make_prototxt", "--run", "runs/nowhere"),
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: " ".join(asked[2:])[-60:])
def test_what_cannot_be_asked_for(refused, place, asked):
    refused(*asked)
    assert not (place / "runs/new").exists()


def damaged(content: bytes, **changes) -> bytes:
    """A predictions file with other arrays; None: without one."""
    arrays = dict(np.load(io.BytesIO(content)))
    arrays |= {name: np.asarray(change(arrays[name]) if callable(change) else change)
               for name, change in changes.items() if change is not None}  # fmt: skip
    np.savez(file := io.BytesIO(), **{name: a for name, a in arrays.items() if changes.get(name, a) is not None})
    return file.getvalue()


PREDICTIONS = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a bit": lambda content: content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
    "page not found": lambda content: b"<html>404</html>",
    "no classes": lambda content: damaged(content, classes=None),
    "a class less": lambda content: damaged(content, classes=lambda names: names[:-1]),
    "a class twice": lambda content: damaged(content, classes=lambda names: names[[0, *range(15)]]),
    "a row less": lambda content: damaged(content, score=lambda values: values[:-1]),
    "NaN": lambda content: damaged(content, score=lambda values: values * np.nan),
    "whole numbers": lambda content: damaged(content, score=lambda values: values.astype(int)),
    "a score less": lambda content: damaged(content, score=None),
    "objects": lambda content: damaged(content, keys=lambda names: names.astype(object)),
    "labels of 5": lambda content: damaged(content, labels=lambda values: values + 5),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_damaged_predictions(refused, place, name):
    path = place / "runs/path/stage2/predictions_test.npz"
    put(path, PREDICTIONS[name](path.read_bytes()))
    refused(1, "runs/path/stage2/predictions_test.npz", "evaluate", "runs/path")


def test_good_predictions_are_what_they_were(doors, place):
    """The same door without a fault."""
    done = doors.call(place, "evaluate", "runs/path")
    assert done.code == 0 and "exact sets" in done.out
    assert list(load_predictions(place / "runs/path/stage2/predictions_test.npz").scores)[-1] == "score"


RECORDS = {
    "empty": ("", 1, "run.json is damaged"),
    "half": ('{"recipe": {', 1, "run.json is damaged"),
    "a list": ("[]", 1, "run.json is damaged"),
    "UTF-16": ('{"recipe": {}}'.encode("utf-16"), 1, "run.json is damaged"),
    "binary": (bytes(range(256)), 1, "run.json is damaged"),
    "nothing of it": ("{}", 1, "run.json is damaged"),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("tool", ["predict", "run_stage", "make_prototxt"])
def test_a_damaged_record_of_a_run(refused, place, name, tool):
    content, code, said = RECORDS[name]
    put(place / "runs/path/run.json", content)
    words = {
        "predict": ("runs/path",),
        "run_stage": ("--run", "path", "--dry-run"),
        "make_prototxt": ("--run", "runs/path"),
    }
    refused(code, said, tool, *words[tool])


def spoiled(values, change):
    """All copies of JSON values with one value of them replaced; the place of each."""
    for key in values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ():
        other = copy.copy(values)
        other[key] = change
        yield str(key), other
        if isinstance(values[key], dict | list):
            for where, inner in spoiled(values[key], change):
                other = copy.copy(values)
                other[key] = inner
                yield f"{key}.{where}", other


@pytest.mark.parametrize("run", ["path", "graph"])
@pytest.mark.parametrize(
    "change",
    [None, -1, *(pytest.param(value, marks=pytest.mark.slow) for value in ("x", 10**30, [], {}, [0, 0, 99], True))],
    ids=str,
)
def test_any_value_of_the_record_may_be_wrong(doors, place, run, change):
    """What is right by chance is taken; of the rest no value ends in more than a line, at two doors."""
    path = place / f"runs/{run}/run.json"
    good = json.loads(path.read_text())
    for where, values in spoiled(good, change):
        put(path, json.dumps(values))
        for tool, *words in (("run_stage", "--run", run, "--dry-run"), ("make_prototxt", "--run", f"runs/{run}")):
            done = doors.call(place, tool, *words)
            assert done.code in (0, 1, 2, 3) and "Check failed" not in done.err, (where, done.code, done.err[-900:])
            errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
            assert len(errors) == (done.code != 0), (where, done.err[-900:])
