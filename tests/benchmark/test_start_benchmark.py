"""How long a user waits: when a first step began, by a training that is played; which --help is the slowest."""

import json
import sys
import time
from pathlib import Path

import pytest

from pysrn.benchmark import start
from pysrn.console import SrnError
from pysrn.processes import environment
from pysrn.train.stage.stage_log import COLUMNS, LOG

TRAINING = f"""
import sys, time
from pathlib import Path
stage = Path(sys.argv[sys.argv.index("--runs") + 1]) / "run" / "stage1"
stage.mkdir(parents=True)
head = {",".join(COLUMNS)!r} + "\\n"
(stage / {LOG!r}).write_text(head)
time.sleep(1.5)
(stage / {LOG!r}).write_text(head + "1,0.7,0.1,SECONDS\\n")
time.sleep(60)
"""


def played(seconds: float) -> list[str]:
    return [sys.executable, "-c", TRAINING.replace("SECONDS", str(seconds))]


def test_a_step_begins_before_its_line(tmp_path):
    """The line says that the step took a second, and is there after one and a half."""
    began = time.perf_counter()
    found = start.first_step(played(1.0), tmp_path, environment())
    took = time.perf_counter() - began
    assert 0.5 <= found <= took - 1.0 and took < 40  # it was ended, not waited for


def test_a_training_without_a_step_says_why(tmp_path):
    with pytest.raises(SrnError, match=r"no step: no data"):
        start.first_step([sys.executable, "-c", "import sys; sys.exit('no data')"], tmp_path, environment())


def test_half_a_line_is_none(tmp_path):
    stage = tmp_path / "run" / "stage1"
    stage.mkdir(parents=True)
    head = ",".join(COLUMNS) + "\n"
    for text, seconds in (("", None), (head, None), (head + "1,0.7,0.1,0.", None), (head + "1,0.7,0.1,0.25\n", 0.25)):
        (stage / LOG).write_text(text)
        assert start._step_seconds(tmp_path) == seconds


def test_the_slowest_help_is_said():
    median = {start.PYTHON: 0.02, "a.py --help": 0.1, "b.py --help": 0.2, start.PHOTO: 0.5, start.STEP: 1.5}
    lines = start.report_lines({"median": median, "plan": {"threads": 2, "rounds": 7, "trunk": None, "batch": 4}})
    assert "(b.py)" in lines[2] and [line.split()[-1] for line in lines[1:]] == ["0.020", "0.200", "0.500", "1.500"]


@pytest.mark.slow
def test_all_of_it_is_measured(tmp_path):
    from tools import benchmark

    words = ["start", "--rounds", "1", "--threads", "1", "--batch", "1", "--trunk", "resnet14"]
    assert benchmark.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["start"]["median"]
    tools = {path.name for path in Path(start.TOOLS).glob("*.py")} - {"__init__.py"}
    assert {f"{name} --help" for name in tools} | {start.PYTHON, start.PHOTO, start.STEP} == set(found)
    assert found[start.PYTHON] < found[start.PHOTO] and found[start.PYTHON] < found[start.STEP]
