"""The table of speed in docs/speed.md: what it says, and that it is what the kept figures say."""

import json
from pathlib import Path

from pysrn.benchmark.plan import CACHED
from pysrn.benchmark.recurrent import figures as recurrent
from pysrn.benchmark.speed_table import BEGIN, END, FIGURES, folder_of, table
from tools import benchmark

PAGE = Path(__file__).resolve().parents[2] / "docs" / "speed.md"


def figures(part, batch, stage=4, **seconds):
    """A report of two rounds, as `tools/benchmark.py` writes it; every contestant took the same in both."""
    ours = seconds["ours"]
    return {
        "machine": {"cpu": "Some CPU", "cores": 2, "versions": {"torch": "2.13.0"}},
        part: {
            "plan": {"part": part, "batch": batch, "stage": stage, "variant": "paper", "threads": 2, "rounds": 2},
            "seconds": {
                "median": seconds,
                "ratio": {
                    name: {"median": ours / value, "least": ours / value - 0.1, "most": ours / value + 0.1}
                    for name, value in seconds.items()
                    if name != "ours"
                },
            },
            "contestants": {name: {"peak_mb": 1000 + number} for number, name in enumerate(seconds)},
        },
    }


def test_by_hand(tmp_path):
    compiled = {"torch.compile": 1.25}
    reports = {
        "b": figures("step", 16, **{"ours": 4.0, "stock Caffe": 8.0, "PyTorch": 5.0}),
        "a": figures("step", 4, **{"ours": 1.0, "stock Caffe": 2.0, "PyTorch": 1.6, **compiled}),
        "c": figures("fixed", 4, 2, **{"ours": 0.5, "stock Caffe": 1.0, "PyTorch, folded": 1.0, CACHED: 0.1}),
    }  # fmt: skip
    for name, report in reports.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    lines = table(tmp_path).splitlines()
    assert lines[0] == BEGIN and lines[-1] == END
    assert lines[1] == "Some CPU, 2 cores; 2 threads; PyTorch 2.13.0; medians of 2 alternating rounds."
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[3:-1]]
    assert {len(row) for row in rows} == {8}
    assert rows[2] == [
        "training step, stage 4, batch 4", "1.00", "2.00", "1.60", "1.25", "0.62 (0.53-0.72)", "0.80 (0.70-0.90)",
        "1,000 / 1,001 / 1,002",
    ]  # fmt: skip
    assert rows[3][0] == "training step, stage 4, batch 16" and rows[3][4] == rows[3][6] == ""
    assert rows[4][:2] == ["training step, stage 2, batch 4", "0.500"]
    assert rows[5] == ["- with cached features", "0.100", "", "", "", "5.0 times as fast as without", "", "1,003"]


def test_each_processor_has_its_own_table(tmp_path):
    for cpu, ours in (("Zeta (R) 9", 3.0), ("Alpha-2", 5.0), ("Alpha-2", 7.0)):
        report = figures("inference", int(ours), ours=ours, PyTorch=8.0)
        report["machine"]["cpu"] = cpu
        folder = tmp_path / folder_of(cpu)
        folder.mkdir(exist_ok=True)
        (folder / f"{ours}.json").write_text(json.dumps(report))
    assert {path.name for path in tmp_path.iterdir()} == {"zeta-r-9", "alpha-2"}
    text = table(tmp_path)
    first, second = text.split("\n\nZeta (R) 9, ")
    assert first.splitlines()[1].startswith("Alpha-2, ") and "| 5.00 |" in first and "| 7.00 |" in first
    assert "| 3.00 |" in second and "| 5.00 |" not in second and text.count("| seconds |") == 2


def test_the_page_has_the_table_of_the_kept_figures(capsys):
    assert benchmark.main(["table"]) == 0
    printed = capsys.readouterr().out.strip()
    text, tables = PAGE.read_text(encoding="utf-8"), []
    for begin, end in ((BEGIN, END), (recurrent.BEGIN, recurrent.END)):
        assert begin in text and end in text, f"docs/speed.md lacks the lines {begin} and {end}"
        tables.append(text[text.index(begin) : text.index(end) + len(end)])
    assert "\n\n".join(tables) == printed, "put what `tools/benchmark.py table` prints in place of these parts"


def test_the_kept_figures_are_whole():
    """Every report tells its machine, versions and rounds, and that all contestants computed the same."""
    files = sorted(FIGURES.rglob("*.json"))
    assert files
    for path in files:
        report = json.loads(path.read_text(encoding="utf-8"))
        assert path.parent.name == folder_of(report["machine"]["cpu"]) and report["machine"]["versions"]["torch"]
        for part in ("step", "fixed", "inference", "recurrent", "search"):
            if part not in report:
                continue
            found = report[part]
            assert found["plan"]["rounds"] >= 7, path
            assert {len(values) for values in found["seconds"]["rounds"].values()} == {found["plan"]["rounds"]}
            assert set(found["agreement"]) == set(found["contestants"]) == set(found["seconds"]["median"])
            assert max(same["scores"] for same in found["agreement"].values()) < 1e-3
