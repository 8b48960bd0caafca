"""The tables over seeds, on predictions whose figures are known by hand."""

import numpy as np

from pysrn.evaluate.seeds import comparison, side_by_side
from pysrn.predict.predictions import Predictions
from pysrn.systems.registry import system_named
from tests.srn import SYSTEM

LABELS = np.array([[1], [-1], [1], [-1]], np.int8)
PERFECT = np.array([[3.0], [1.0], [2.0], [0.0]], np.float32)  # AP 1
WORST = -PERFECT  # positives on ranks 3 and 4: the envelope of 1/3, 2/4 is 1/2, 1/2


def save(folder, **scores):
    folder.mkdir(parents=True)
    Predictions(("a", "b", "c", "d"), ("x",), scores, LABELS).save(folder / "predictions_test.npz")


def rows(table):
    """Name -> cells of a table's rows, below its head."""
    lines = (line.split("|") for line in table.splitlines() if line.startswith("|"))
    return {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in list(lines)[2:]}


def test_rows_mean_and_spread(tmp_path):
    runs = []
    for seed, final in ((0, PERFECT), (1, WORST)):
        srn, alone = tmp_path / f"srn{seed}", tmp_path / f"alone{seed}"
        save(srn / "stage1", score_cls=WORST)
        save(srn / "stage4", score_cls=WORST, score_att=PERFECT, score_sr=WORST, score=final)
        save(alone / "stage1", score_cls=WORST)
        runs.append((srn, alone))
    lines = comparison(SYSTEM, (0, 1), runs, 7).splitlines()
    assert "7 iterations" in lines[0]
    found = {name: list(map(float, cells)) for name, cells in rows("\n".join(lines[1:])).items()}
    assert found["seed 0"] == [50, 50, 100, 50, 100, 50, 50]
    assert found["seed 1"] == [50, 50, 100, 50, 50, 50, 0]
    assert found["mean"] == [50, 50, 100, 50, 75, 50, 25]
    assert found["standard deviation"] == [0, 0, 0, 0, 35.36, 0, 35.36]  # 50 / sqrt(2)


def test_systems_side_by_side(tmp_path):
    sets = system_named("cnn_rnn")
    runs = []
    for seed, final in ((0, PERFECT), (1, WORST)):
        first, second = tmp_path / f"first{seed}", tmp_path / f"second{seed}"
        save(first / "stage1", score_cls=WORST)
        save(first / "stage4", score=final)
        save(second / "stage2", score_visits=WORST, score=PERFECT - 1.5)
        runs.append((first, second))
    tables = dict(part.split("\n", 1) for part in side_by_side((SYSTEM, sets), (0, 1), runs).split("\n\n"))
    found = {title: rows(table) for title, table in tables.items() if title.startswith("test ")}
    assert tables["test mAP in percent"].splitlines()[0].split("|")[2:-1] == [
        " stage 1 score_cls ", " SRN score ", " CNN-RNN score_visits ", " CNN-RNN score "
    ]  # fmt: skip
    assert found["test mAP in percent"] == {
        "seed 0": ["50.00", "100.00", "50.00", "100.00"],
        "seed 1": ["50.00", "50.00", "50.00", "100.00"],
        "mean": ["50.00", "75.00", "50.00", "100.00"],
        "standard deviation": ["0.00", "35.36", "0.00", "0.00"],
        "above stage 1": ["", "1 of 2", "0 of 2", "2 of 2"],
    }
    # Yes where a logit is above 0. PERFECT: three of four, two rightly; WORST: none; PERFECT - 1.5: the two.
    assert found["test exact sets in percent"]["seed 0"] == ["50.00", "75.00", "50.00", "100.00"]
    assert found["test F1-O in percent"]["seed 0"] == ["0.00", "80.00", "0.00", "100.00"]
    assert found["test F1-C in percent"]["mean"] == ["0.00", "40.00", "0.00", "100.00"]
