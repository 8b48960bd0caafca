"""The demo from LMDBs to its table, with a handful of images and iterations."""

import json

import torch

from pysrn.data.build import build_dataset
from pysrn.systems.srn.torch_model import SRN
from tools import demo


def test_demo_walks_the_whole_way_and_keeps_what_is_done(tmp_path, capfd):
    data, runs = tmp_path / "shapes", tmp_path / "runs"
    build_dataset("shapes", data, counts={"train": 20, "test": 12})
    words = ["--data", str(data), "--runs", str(runs), "--iterations", "2"]
    assert demo.main(words) == 0
    said = capfd.readouterr()
    assert said.out.rindex("stage4 score ") > said.out.index("srn-check.npz")  # the table comes last
    run = runs / "shapes-seed0"
    for name in (
        "loss_curves.png",
        "metrics.json",
        "stage4/attention_test.png",
        "stage4/srn-check.npz",
        "report.html",
    ):
        assert (run / name).stat().st_size > 500, name
    assert set(json.loads((run / "metrics.json").read_text()))
    assert torch.load(next((run / "stage4").glob("srn-*.pth")), weights_only=True)
    assert SRN.from_pretrained(next((run / "stage4").glob("srn-*.safetensors"))).class_names[0] == "circle"
    before = (run / "stage4/weights.caffemodel").stat().st_mtime_ns
    assert demo.main(words) == 0
    assert capfd.readouterr().err.count(": keep,") == 4
    assert (run / "stage4/weights.caffemodel").stat().st_mtime_ns == before


def test_a_failing_step_ends_the_demo_with_its_exit_code(tmp_path, capsys):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "mine.txt").write_text("not a data set")
    assert demo.main(["--data", str(tmp_path / "shapes"), "--runs", str(tmp_path / "runs")]) == 3
    assert "the demo stops here: tools/" in capsys.readouterr().err
