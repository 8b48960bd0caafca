"""--precision bf16 in training and prediction: what is recorded, that it repeats, and who is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pysrn.predict.predictions import load_predictions
from tests.holding import HANG
from tests.processor import needs_bf16
from tests.train.conftest import SHORT, assert_same_weights

ROOT = Path(__file__).resolve().parents[2]
BF16 = ("--precision", "bf16")


def call(tool, *words, code=0, **environment):
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, words)]
    path = os.pathsep.join([str(ROOT), *sys.path])
    given = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=given, timeout=HANG)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(small_data, tmp_path_factory):
    """Stage 1 in bf16, five iterations with a snapshot at the fourth."""
    runs = tmp_path_factory.mktemp("bf16")
    words = ("1", "--iterations", "5", *SHORT, "--data", small_data, "--runs", runs)
    said = call("run_stage", *words, *BF16, "--run", "half").stderr
    assert "convolutions multiply bf16" in said
    return runs, words


def record(run, stage=1):
    return json.loads((run / f"stage{stage}/manifest.json").read_text())["precision"]


@needs_bf16
def test_it_is_recorded_and_repeats(trained, small_data, tmp_path):
    runs, words = trained
    call("run_stage", *words, *BF16, "--run", "again")
    call("run_stage", *words, "--run", "plain")
    assert record(runs / "half") == ["bf16"] and record(runs / "plain") == ["fp32"]
    weights = [runs / name / "stage1/weights.caffemodel" for name in ("half", "again", "plain")]
    assert_same_weights(*weights[:2])
    with pytest.raises(AssertionError):
        assert_same_weights(weights[0], weights[2])


@needs_bf16
def test_it_goes_on_bit_for_bit_and_another_precision_is_said(trained):
    runs, words = trained
    stage = runs / "half/stage1"
    whole = (stage / "weights.caffemodel").read_bytes()
    for more in (BF16, ()):  # made again from the snapshot before the last, which are damaged
        for path in (stage / "weights.caffemodel", *stage.glob("iter_000005*")):
            path.write_bytes(b"damaged")
        said = call("run_stage", *words, *more, "--run", "half").stderr
        assert "from the snapshot of iteration 4" in said
        assert ((stage / "weights.caffemodel").read_bytes() == whole) == bool(more)
        assert ("was begun with --precision bf16 and goes on with fp32" in said) == (not more)
    assert record(runs / "half") == ["bf16", "fp32"]


@needs_bf16
def test_predictions_say_it_and_parts_of_another_are_refused(finished, small_data, tmp_path):
    run, out = finished[0] / "shapes", tmp_path / "p.npz"
    words = (run, "--data", small_data, "--batch-size", "1", "-o", out)
    scores = {}
    for name, more in {"plain": (), "half": BF16, "again": BF16}.items():
        call("predict", *words, *more)
        found = load_predictions(out)
        assert found.about.get("precision") == (None if name == "plain" else "bf16")
        scores[name] = found.scores["score"]
    assert np.array_equal(scores["half"], scores["again"])
    difference = np.abs(scores["half"] - scores["plain"]).max()
    assert 0 < difference < 0.05 * np.abs(scores["plain"]).max()
    call("predict", *words, "--part", "1/2", *BF16)
    call("predict", *words, "--part", "2/2")
    refused = call("predict", "--join", "-o", out, code=1)
    assert "in another precision than" in refused.stderr


@pytest.mark.parametrize(
    ("more", "environment", "code", "said"),
    [
        (("--gpu", "0"), {}, 2, "--precision bf16 is for the CPU"),
        ((), {"CAFFE_ENGINE": "stock"}, 2, "CAFFE_ENGINE=stock has none"),
        ((), {"CAFFE_ENGINE": "elementwise"}, 2, "name onednn, or all, too"),
        ((), {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, 3, "this processor has no such arithmetic"),
    ],
)
@pytest.mark.parametrize("tool", ["run_stage", "predict"])
def test_who_cannot_have_it_is_refused(finished, small_data, tmp_path, tool, more, environment, code, said):
    words = ("1", "--runs", tmp_path) if tool == "run_stage" else (finished[0] / "shapes", "-o", tmp_path / "p.npz")
    refused = call(tool, *words, "--data", small_data, *BF16, *more, code=code, **environment)
    assert said in refused.stderr and not list(tmp_path.iterdir())
