"""The benchmark of the metrics on a small matrix: that it measures what it says, not how fast anything is."""

import json

import numpy as np
import pytest

from pysrn.benchmark import evaluate
from pysrn.console import SrnError
from tools import benchmark


def test_the_command_prints_and_writes_its_figures(tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert benchmark.main(["evaluate", "--images", "300", "--labels", "6", "--rounds", "3", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())["evaluate"]
    rounds = found["average_precision"]["rounds"]
    assert {name: len(values) for name, values in rounds.items()} == {evaluate.OURS: 3, evaluate.PEER: 3}
    ratios = [a / b for a, b in zip(rounds[evaluate.OURS], rounds[evaluate.PEER], strict=True)]
    assert found["average_precision"]["ratio"][evaluate.PEER]["median"] == pytest.approx(np.median(ratios))
    assert found["largest_difference"] < 1e-3 and found["resamples_per_second"] > 0
    assert "average precision of 300 x 6" in printed and f"{np.median(ratios):.1f}x" in printed


def test_labels_are_as_rare_as_they_should_be():
    logits, labels = evaluate.drawn(4000, 80)
    assert logits.dtype == np.float32 and labels.mean() == pytest.approx(evaluate.POSITIVE_SHARE, rel=0.02)
    assert evaluate.drawn(4000, 80)[0].tobytes() == logits.tobytes()


def test_another_average_precision_is_an_error(monkeypatch):
    monkeypatch.setattr(evaluate, "average_precision", lambda *arguments: (None, np.full(6, 0.5)))
    with pytest.raises(SrnError, match="differ by"):
        evaluate.measure(300, 6, 1)
