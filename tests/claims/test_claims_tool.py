"""tools/claims.py with the toy system on real Caffe: plan, run, resume, choose, second looks, rows that are broken."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pysrn.data.pair.lmdb_pair import Encoding, write_pair
from pysrn.data.readers.records import Sample
from pysrn.recipes import class_names
from tests.holding import HANG
from tests.systems.conftest import command, environment, place  # noqa: F401 - a fixture
from tests.systems.toy import STORED

ROOT = Path(__file__).resolve().parents[2]
CONVERSION = cv2.COLOR_HSV2BGR
TRAINING = ("--training", "--iterations 400")
# The tool where device 1 works, by its own word: what it calls is said, and done by the CPU.
ON_DEVICE = """
import json, sys
from pysrn.nets import in_caffe
from tools import claims
in_caffe.check_gpu = lambda gpu: None
calls, call = [], claims.call
def called(tool, words):
    calls.append([tool.__name__, "--gpu 1" in " ".join(words)])
    call(tool, [word for word in " ".join(words).replace(" --gpu 1", "").split(" ")])
claims.call = called
code = claims.main(sys.argv[1:])
print(json.dumps(calls))
sys.exit(code)
"""
SEEDS = ("--seeds", "3")


@pytest.fixture(scope="module")
def call(place):  # noqa: F811
    """Calls the tool, which calls others; asserts its exit code and that it never ends in a traceback."""

    def calling(name, *arguments, code=0):
        options = {"capture_output": True, "text": True, "timeout": HANG, "check": False}
        done = subprocess.run(command(name, *arguments), cwd=place, env=environment(), **options)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return calling


@pytest.fixture(scope="module")
def data(place):  # noqa: F811
    """160 training and 80 test pictures: each has one label, and its colour says which."""
    classes, random, root = class_names("shapes"), np.random.default_rng(0), place / "pictures"
    root.mkdir()
    for split, count in (("train", 160), ("test", 80)):
        samples = []
        for number in range(count):
            label = number % len(classes)
            colour = cv2.cvtColor(
                np.uint8([[[180 * label // len(classes), 200 if label % 2 else 90, 200]]]), CONVERSION
            )
            path = root / f"{split}{number}.png"
            cv2.imwrite(str(path), np.clip(colour + random.normal(0, 10, (STORED, STORED, 3)), 0, 255).astype(np.uint8))
            labels = np.full(len(classes), -1, np.int8)
            labels[label] = 1
            samples.append(Sample(path.stem, path, labels))
        write_pair(samples, place / "data/shapes", split, classes, 0, dataset="shapes", encoding=Encoding(size=STORED))
    return place / "data/shapes"


@pytest.fixture(scope="module")
def claimed(call, data, place):  # noqa: F811
    """The true, the false and the tied claim, run."""
    return {
        key: call("claims", key, "--data", "shapes", *SEEDS, *TRAINING, "--out", "out") for key in ("T1", "T2", "T3")
    }


def results(place, out="out"):  # noqa: F811
    return json.loads((place / out / "claims.json").read_text())


def test_plan_trains_nothing_and_records_nothing(call, data, place):  # noqa: F811
    said = call(
        "claims", "T1", "--data", "shapes", *SEEDS, *TRAINING, "--plan", "--out", "planned", "--runs", "planned"
    )
    assert said.stdout.count("missing tools/run_stage.py 1 --system toy") == 6
    assert "about" in said.stdout and not (place / "planned").exists()
    for other in ("--choose", "--shuffle-labels"):
        refused = call("claims", "T1", "--data", "shapes", "--plan", other, "--out", "planned", code=2)
        assert "--plan writes nothing" in refused.stderr and not (place / "planned").exists()


def test_a_true_claim_holds_and_a_false_one_fails(claimed, place):  # noqa: F811
    assert [claimed[key].stdout.strip() for key in claimed] == [
        "T1 on shapes: holds",
        "T2 on shapes: fails",
        "T3 on shapes: holds",
    ]
    found = results(place)["results"]
    true, tie = found["T1 shapes"]["rows"][0], found["T3 shapes"]["rows"][0]
    assert len(true["differences"]) == 3 and true["low"] > 0
    assert tie["differences"] == [0, 0, 0]  # the same seed, the same bytes
    assert true["differences"] == [a - b for a, b in zip(true["favoured_values"], true["other_values"], strict=True)]
    page = (place / "out" / "claims.md").read_text()
    command = "tools/claims.py T1 --data shapes --seeds 3 --training '--iterations 400'"
    assert f"| T1 | shapes | 3 | **holds** | 1 | `{command}` |" in page
    assert "| T1 | training helps | long against short |" in page and "| T4 | counted |  | not run |" in page


def test_labels_dealt_out_anew_fail(call, claimed, place):  # noqa: F811
    """The row that holds, broken on purpose: nothing can be learned of the labels."""
    said = call("claims", "T1", "--data", "shapes", *SEEDS, "--out", "out", "--shuffle-labels")
    assert said.stdout.strip() == "T1 on shapes-shuffled: fails"
    broken = results(place)["results"]["T1 shapes-shuffled"]
    assert broken["command"].endswith("--shuffle-labels")


def test_finished_rows_stay_and_second_looks_are_counted(call, claimed, place):  # noqa: F811
    before = (place / "out" / "claims.json").read_bytes()
    again = call("claims", "T1", "--data", "shapes", *SEEDS, "--out", "out")
    assert "finished before" in again.stdout and (place / "out" / "claims.json").read_bytes() == before
    refused = call("claims", "T1", "--data", "shapes", "--choose", "--out", "out", code=2)
    assert "finished without a choice" in refused.stderr
    refused = call("claims", "T1", "--data", "shapes", "--seeds", "2", "--out", "out", code=2)
    assert "a second look" in refused.stderr and "--again" in refused.stderr
    call("claims", "T1", "--data", "shapes", "--seeds", "2", "--out", "out", "--again")
    found = results(place)["results"]["T1 shapes"]
    assert found["looks"] == 2 and found["verdict"] == "undecided"  # two seeds
    call("claims", "T1", "--data", "shapes", *SEEDS, "--out", "out", "--again")
    assert results(place)["results"]["T1 shapes"]["looks"] == 3


def test_choice_is_made_on_held_out_images_and_taken(call, data, place):  # noqa: F811
    """Also where claims of another system are finished."""
    (place / "chosen").mkdir()
    others = {"S4 shapes": json.loads((ROOT / "docs/claims.json").read_text())["results"]["S4 shapes"]}
    (place / "chosen/claims.json").write_text(json.dumps({"data": {}, "choices": {}, "results": others}))
    said = call("claims", "T1", "--data", "shapes", *TRAINING, "--choose", "--out", "chosen", "--runs", "chosen/runs")
    assert "held-out images" in said.stderr
    found = results(place, "chosen")["choices"]["toy shapes"]
    assert {family: (len(one["tries"]), one["taken"]["name"]) for family, one in found.items()} == {
        "whole": (2, "recipe"),
        "alone": (2, "recipe"),
    }
    runs = [path.name for path in (place / "chosen/runs").iterdir()]
    assert not [name for name in runs if name.startswith("toy-shapes-") and "validation" not in name]
    plan = call("claims", "T1", "--data", "shapes", *SEEDS, "--plan", "--out", "chosen", "--runs", "chosen/runs")
    assert "--iterations 400" in plan.stdout and plan.stdout.count("missing tools/run_stage.py") == 6


def test_a_device_is_for_all_that_computes(call, data, place):  # noqa: F811
    plan = call("claims", "T1", "--data", "shapes", *SEEDS, "--plan", "--gpu", "1", "--out", "planned")
    assert plan.stdout.count(" --gpu 1\n") == 6
    words = ("T1", "--data", "shapes", "--seeds", "2", "--gpu", "1", "--out", "device", "--runs", "device/runs")
    for more in ((), ("--choose", "--out", "device/chosen")):
        command = [sys.executable, "-c", ON_DEVICE, *words, *more]
        done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        calls = json.loads(done.stdout.splitlines()[-1])
        assert all(on_device for _, on_device in calls)
        assert {tool for tool, _ in calls} == {"tools.run_stage", "tools.predict"} and len(calls) == 8
    command = results(place, "device")["results"]["T1 shapes"]["command"]
    assert command == "tools/claims.py T1 --data shapes --seeds 2 --gpu 1"


def test_a_device_that_is_not_there_stops_all_before_it_begins(call, data, place):  # noqa: F811
    words = ("T1", "--data", "shapes", "--gpu", "99", "--out", "none", "--runs", "none")
    for more in ((), ("--choose",)):
        refused = call("claims", *words, *more, code=3)
        assert "device" in refused.stderr.splitlines()[0] and not (place / "none").exists()
    planned = call("claims", "T4", "--facts", "--gpu", "99", "--out", "counted")  # computes nothing
    assert planned.stdout.strip() == "T4 counted: holds"


def test_facts_are_counted(call, place):  # noqa: F811
    assert call("claims", "T4", "--out", "facts").stdout.strip() == "T4 counted: holds"
    assert "| T4 counted | fact | sum | 4.000 | 4 to 4 apples |" in (place / "facts" / "claims.md").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("X9",), 2, "no claim X9"),
        (("T1", "--seeds", "0"), 2, "--seeds"),
        (("T1", "--data", "nothing"), 3, "no LMDB pair in data/nothing"),
        (("T1", "--training", "--iterations 3"), 2, "--training is for one data set"),
        (("T1", "--data", "shapes", "--training", "--colour red"), 2, "--colour"),
        (("T1", "--data", "shapes", "--training", "--iterations 3", "--out", "out"), 2, "T1 shapes"),
    ],
)
def test_mistakes_are_said(call, claimed, words, code, said):
    assert said in call("claims", *words, code=code).stderr
