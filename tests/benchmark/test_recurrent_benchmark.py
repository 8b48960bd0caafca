"""The benchmarks of what is recurrent, at small sizes: that they measure what they say, not how fast anything is."""

import json

import numpy as np
import pytest

from pysrn.benchmark.contender import CAFFE, SEARCH, Job
from pysrn.benchmark.plan import STOCK
from pysrn.benchmark.recurrent import figures as recurrent
from pysrn.benchmark.recurrent.sides import Searches
from pysrn.systems.cnn_rnn.beam_search import Path
from tools import benchmark

SMALL = {
    "recurrent": ["--steps", "3", "--batch", "2", "--width", "8", "--inputs", "4"],
    "search": ["--images", "5", "--batch", "4"],
}


@pytest.mark.parametrize("part", SMALL)
def test_all_compute_the_same_and_are_timed(part, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recurrent, "ROUND_SECONDS", 0.01)
    environments, real = [], recurrent.Contender
    monkeypatch.setattr(recurrent, "Contender", lambda *about: environments.append(about[-1]) or real(*about))
    out = tmp_path / "figures.json"
    assert benchmark.main([part, *SMALL[part], "--threads", "1", "--rounds", "2", "--json", str(out)]) == 0
    found = json.loads(out.read_text())[part]
    names = [recurrent.OLD] * (part == "recurrent") + [recurrent.OURS, recurrent.PEER]
    assert {name: len(seconds) for name, seconds in found["seconds"]["rounds"].items()} == dict.fromkeys(names, 2)
    assert environments == [STOCK] * (part == "recurrent") + [{}, {}]  # nothing is set for the sake of a figure
    assert max(max(differences.values()) for differences in found["agreement"].values()) < 1e-4
    if part == "recurrent":
        assert found["agreement"][recurrent.PEER]["gradients"] > 0  # not compared with itself
    ratio = found["seconds"]["ratio"][recurrent.PEER]
    assert f"{ratio['median']:.3f} ({ratio['least']:.3f} to {ratio['most']:.3f})" in capsys.readouterr().out
    (tmp_path / "b.json").write_text(json.dumps({"machine": {"cpu": "b"}, "step": {}}))
    row = next(
        line for line in recurrent.table(tmp_path).splitlines() if line.startswith(f"| {found['plan']['title']}")
    )
    assert f"{found['seconds']['median'][recurrent.PEER]:.3g}" in row and f"{ratio['median']:.2f}" in row


def test_a_contestant_that_computes_something_else_is_an_error(monkeypatch, capsys):
    real = recurrent.compare
    monkeypatch.setattr(
        recurrent,
        "compare",
        lambda one, other, name: real(one, other | {"states": other["states"] + (name == recurrent.PEER)}, name),
    )
    assert benchmark.main(["recurrent", *SMALL["recurrent"], "--rounds", "1"]) == 4
    assert "PyTorch computes another net" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["recurrent", "--width", "0"], ["search", "--system", "srn"]])
def test_wrong_usage(words):
    assert benchmark.main(words) == 2


def test_every_image_is_searched_once(tmp_path):
    np.savez(tmp_path / "inputs.npz", read=np.arange(5.0), batch=2)
    job = Job(CAFFE, SEARCH, "", str(tmp_path / "inputs.npz"), 1, 0)

    def search(read):
        paths = [[Path(tuple(range(int(value))), ())] for value in read["read"]]
        return {"score": read["read"][:, None] - 2}, paths

    found = Searches(job, search).check()
    np.testing.assert_allclose(found["score"][:, 0], 1 / (1 + np.exp(2 - np.arange(5.0))))
    assert found["labels"].tolist() == [[*range(n), *[-1] * (4 - n)] for n in range(5)]
