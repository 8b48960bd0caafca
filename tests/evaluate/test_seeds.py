"""The comparison of SRN with its main net alone, on predictions whose mAP is known by hand."""

import numpy as np

from pysrn.evaluate.seeds import comparison
from pysrn.predict.predictions import Predictions
from tests.srn import SYSTEM

LABELS = np.array([[1], [-1], [1], [-1]], np.int8)
PERFECT = np.array([[3.0], [1.0], [2.0], [0.0]], np.float32)  # AP 1
WORST = -PERFECT  # positives on ranks 3 and 4: the envelope of 1/3, 2/4 is 1/2, 1/2


def save(folder, **scores):
    folder.mkdir(parents=True)
    Predictions(("a", "b", "c", "d"), ("x",), scores, LABELS).save(folder / "predictions_test.npz")


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
    found = {cells[1].strip(): [float(c) for c in cells[2:-1]] for cells in (line.split("|") for line in lines[3:])}
    assert found["seed 0"] == [50, 50, 100, 50, 100, 50, 50]
    assert found["seed 1"] == [50, 50, 100, 50, 50, 50, 0]
    assert found["mean"] == [50, 50, 100, 50, 75, 50, 25]
    assert found["standard deviation"] == [0, 0, 0, 0, 35.36, 0, 35.36]  # 50 / sqrt(2)
