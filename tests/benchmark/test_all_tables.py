"""All figures in one command: that the words of runs are understood, where files go, and what becomes of failures."""

import json

import pytest

from pysrn.benchmark import all_tables
from pysrn.benchmark.all_tables import RUNS, All, make, words_of
from pysrn.benchmark.speed_table import FIGURES, folder_of
from pysrn.console import SrnError
from pysrn.report.setup_report import describe_machine
from tools import benchmark

PEERS = ("OpenVINO", "onnxruntime")


@pytest.mark.parametrize("name", RUNS)
def test_the_words_are_understood(name):
    for peers in ((), PEERS):
        asked = benchmark.parsed([*words_of(name, peers), "--json", "x.json"])
        assert asked.part == RUNS[name][0]
        expected = {"inference": peers, "layers": peers[:1], "photos": peers[:1]}.get(asked.part, ())
        assert tuple(getattr(asked, "peers", ())) == expected


def test_every_kept_figure_of_the_default_system_is_made_anew():
    kept = {path.stem for path in FIGURES.rglob("*.json")}
    assert {name for name in kept if "msrn" not in name} <= set(RUNS)


def test_files_are_of_this_processor_and_failures_are_told(tmp_path):
    ran = []

    def run(words):
        ran.append(words)
        if words[0] == "evaluate":
            raise SrnError("no such thing")

    found = make(All(tmp_path, only=("evaluate", "step-batch4")), run)
    assert found == {"evaluate": "no such thing", "step-batch4": ""}
    folder = tmp_path / folder_of(describe_machine()["cpu"])
    assert [words[-1] for words in ran] == [str(folder / "evaluate.json"), str(folder / "step-batch4.json")]


def test_nothing_is_begun_behind_its_time(tmp_path, monkeypatch):
    """Each run takes a minute; three begin within two and a half."""
    clock = [0.0]
    monkeypatch.setattr(all_tables.time, "monotonic", lambda: clock[0])
    found = make(All(tmp_path, minutes=2.5), lambda words: clock.__setitem__(0, clock[0] + 60))
    assert [name for name, why in found.items() if not why] == list(RUNS)[:3]
    assert set(found) == set(RUNS) and all("left out" in why for why in list(found.values())[3:])


def test_the_command_makes_a_file_and_says_what_it_did_not(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RUNS, "evaluate", ("evaluate", "--images", "50", "--labels", "3", "--rounds", "1"))
    assert benchmark.main(["all", "--only", "evaluate", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.rglob("evaluate.json")
    assert file.parent.name == folder_of(json.loads(file.read_text())["machine"]["cpu"])
    monkeypatch.setitem(RUNS, "evaluate", ("evaluate", "--images", "0"))
    assert benchmark.main(["all", "--only", "evaluate", "--out", str(tmp_path)]) == 1
    assert "all --only evaluate" in capsys.readouterr().err
    assert benchmark.main(["all", "--only", "nothing", "--out", str(tmp_path)]) == 2
