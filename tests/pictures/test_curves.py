"""Curves of a run's stages: what is drawn is what the logs say."""

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pysrn.pictures.curves import draw_loss_curves, draw_stage, read_log, read_validation

LOG = "iteration,loss,lr,seconds\n" + "".join(f"{i},{10 / i:.4f},{0.1 if i < 30 else 0.01},0.1\n" for i in range(1, 41))
VALIDATION = "iteration,loss,lr\n10,12.5,0.1\n20,6.0,0.1\n30,5.5,0.1\n"


@pytest.fixture
def stage(tmp_path):
    folder = tmp_path / "stage2"
    folder.mkdir()
    (folder / "log.csv").write_text(LOG)
    (folder / "validation.csv").write_text(VALIDATION)
    return folder


def lines(stage):
    """Label -> (x, y) of every named line of a panel and of its right-hand axis."""
    figure = Figure()
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    draw_stage(panel, "stage 2: attention", read_log(stage / "log.csv"), read_validation(stage))
    found = {line.get_label(): line.get_xydata().T.tolist() for axis in figure.axes for line in axis.lines}
    return found, panel, figure


def test_validation_loss_is_drawn_beside_the_training_loss(stage):
    found, panel, _ = lines(stage)
    assert found["validation loss"] == [[10, 20, 30], [12.5, 6, 5.5]]
    assert panel.get_ylim()[1] > 12.5, "the highest of all losses must fit"
    assert {text.get_text() for text in panel.get_legend().get_texts()} == {
        "loss",
        "validation loss",
        "learning rate (right)",
    }


def test_learning_rate_is_that_of_the_log(stage):
    found, _, figure = lines(stage)
    assert sorted(set(found["learning rate (right)"][1])) == [0.01, 0.1]
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == ["0.01", "0.1"]


def test_no_validation_no_line(stage):
    for content in ("iteration,loss,lr\n", "iteration,loss,lr\n10,1"):
        (stage / "validation.csv").write_text(content)
        assert read_validation(stage).shape == (0, 2)
        assert "validation loss" not in lines(stage)[0]
    (stage / "validation.csv").unlink()
    assert read_validation(stage).shape == (0, 2)


def test_picture_of_a_run_holds_the_validation_loss(stage, tmp_path):
    draw_loss_curves(tmp_path, tmp_path / "with.png")
    (stage / "validation.csv").unlink()
    draw_loss_curves(tmp_path, tmp_path / "without.png")
    shown, plain = (cv2.imread(str(tmp_path / name)) for name in ("with.png", "without.png"))
    assert (np.abs(shown.astype(int) - plain).sum(axis=2) > 0).mean() > 0.001
