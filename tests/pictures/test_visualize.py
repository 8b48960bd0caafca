"""tools/visualize.py: the pictures show what they should, and bad input is one line."""

import re

import cv2
import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import without
from pysrn.console import SrnError
from pysrn.nets.map_places import Places, Side
from pysrn.pictures.attention import overlay, photo_rows, spread
from pysrn.pictures.curves import figure_of, read_log, running_mean
from pysrn.predict.deploy import DeployNet
from pysrn.report.pictures import jpeg
from tests.srn import STAGE_NAMES
from tools.visualize import main

LOG = "iteration,loss,lr,seconds\n" + "".join(f"{i},{10 / i:.4f},0.01,0.1\n" for i in range(1, 41))
PUBLIC = Places(*[Side(224, 14, 16, 2, 2)] * 2)  # the centres of the public trunk's cells: 16 i + 2.5
BOX = (0.25, 0.5, 0.5, 0.75)


def test_overlay_colours_the_place_of_the_maximum_only():
    image = np.full((56, 56, 3), 100, np.uint8)
    values = np.zeros((14, 14))
    values[3, 10] = 1
    change = np.abs(overlay(image, values, PUBLIC).astype(int) - 100).sum(axis=2)
    assert np.unravel_index(change.argmax(), change.shape) == (12, 40)  # (50.5, 162.5) of 224
    assert change[30:, :30].max() == 0
    np.testing.assert_array_equal(overlay(image, np.ones((14, 14)), PUBLIC), image)  # a flat map points nowhere


@pytest.mark.parametrize(("height", "width"), [(448, 448), (448, 149), (75, 300), (14, 14)])
def test_maps_are_spread_over_images_of_any_proportions(height, width):
    """Between the cells' centres straight lines, beyond the outer ones level; rows and columns apart."""
    values = np.random.default_rng(0).normal(0, 1, (14, 14))
    found = spread(values, PUBLIC, height, width)
    assert found.shape == (height, width)
    rows, columns = (((np.arange(size) + 0.5) * 224 / size - 2.5) / 16 for size in (height, width))
    expected = cv2.remap(
        values.astype(np.float32),
        *(grid.astype(np.float32) for grid in np.meshgrid(columns, rows)),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    np.testing.assert_allclose(found, expected, atol=0.1)  # OpenCV rounds places to a 32nd of a cell
    last = round((13 * 16 + 2.5) / 224 * height)
    assert np.ptp(found[last:], axis=0).max() < 1e-12 and np.ptp(found[: last - height // 10], axis=0).max() > 0.1


def test_a_photo_of_any_proportions_has_its_maps_in_place(shapes_model, tmp_path):
    """What one cell sees is brightened in a photo that is not square: the map's change is drawn there."""
    net = DeployNet(shapes_model)
    grey = np.full((300, 700, 3), 128, np.uint8)
    row, column = 9, 4
    y, x = (centres[at] for centres, at in zip(net.places("conf_map").centres(), (row, column), strict=True))
    spot = grey.copy()
    spot[round(300 * y) - 6 : round(300 * y) + 6, round(700 * x) - 14 : round(700 * x) + 14] = 255
    for name, image in (("grey", grey), ("spot", spot)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    classes = [str(label) for label in range(net.architecture.classes)]
    paths = [tmp_path / "grey.png", tmp_path / "spot.png"]
    before, after = photo_rows(net, paths, classes, "score", ["conf_map"], len(classes))
    assert after.image.shape == (192, 448, 3)
    old, new = ({label: values for label, _, values in row.panels} for row in (before, after))
    change = sum(np.abs(new[label] - old[label]) for label in old)
    drawn = spread(change, after.places, *after.image.shape[:2])
    found = np.array(np.unravel_index(drawn.argmax(), drawn.shape)) / drawn.shape
    np.testing.assert_allclose(found, (y, x), atol=0.5 * 16 / 224)  # within half a cell


def test_the_report_draws_maps_and_boxes_where_they_are():
    values = np.zeros((14, 14))
    values[3, 10] = 1
    image = np.full((256, 256, 3), 128, np.uint8)
    plain, mapped, framed = (
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).astype(int)
        for content in (jpeg(image, (), (0 * values, PUBLIC)), jpeg(image, (), (values, PUBLIC)), jpeg(image, [BOX]))
    )
    change = cv2.GaussianBlur(np.abs(mapped - plain).sum(axis=2).astype(np.float32), (9, 9), 0)
    np.testing.assert_allclose(np.unravel_index(change.argmax(), change.shape), (50, 162), atol=1)
    dark = np.argwhere(framed.sum(axis=2) < 200)
    np.testing.assert_allclose(dark.min(axis=0), (112, 56), atol=1)
    np.testing.assert_allclose(dark.max(axis=0), (224 * 3 // 4, 112), atol=1)


def test_running_mean():
    at, mean = running_mean(np.arange(1.0, 8.0), np.array([1.0, 2, 3, 4, 5, 6, 7]))
    assert at.tolist() == pytest.approx([3, 4, 5]) and mean.tolist() == pytest.approx([3, 4, 5])


def test_curves_have_a_panel_a_stage_and_a_line_a_loss(tmp_path):
    (tmp_path / "log.csv").write_text("iteration,loss,lr,seconds,loss_score,loss_att\n1,3,0.1,1,1,2\n2,2,0.1,1,1,1\n")
    log = read_log(tmp_path / "log.csv")
    figure = figure_of({1: {name: log[name] for name in ("iteration", "loss", "lr")}, 4: log}, STAGE_NAMES)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["stage 1: main", "stage 4: joint"]
    assert [line.get_label() for line in panels[1].lines][1::2] == ["loss", "loss_score", "loss_att"]
    assert panels[1].lines[0].get_ydata().tolist() == [3, 2]


def test_a_line_that_is_still_written_is_left_out(tmp_path):
    (tmp_path / "log.csv").write_text(LOG + "41,0.2")
    assert len(read_log(tmp_path / "log.csv")["loss"]) == 40
    for damaged in (LOG.replace("\n7,", "\nseven,"), LOG.replace("10.0000", "nan"), LOG.replace("\n7,", "\n7,7,")):
        (tmp_path / "log.csv").write_text(damaged)
        with pytest.raises(SrnError, match="log.csv is damaged"):
            read_log(tmp_path / "log.csv")
    for empty in ("", "iteration,loss,lr,seconds\n", "a,b\n1,2\n"):
        (tmp_path / "log.csv").write_text(empty)
        with pytest.raises(SrnError, match="holds no losses"):
            read_log(tmp_path / "log.csv")


def test_curves_tool(tmp_path, capsys):
    for stage in (1, 3):
        (tmp_path / f"stage{stage}").mkdir()
        (tmp_path / f"stage{stage}" / "log.csv").write_text(LOG)
    assert main(["curves", str(tmp_path)]) == 0
    assert "stages 1, 3" in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / "loss_curves.png"))
    assert picture.shape[1] > 2 * picture.shape[0] and picture.std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss_curves.png", "stage1", "stage3"]


def test_attention_tool(shapes_folder, shapes_model, tmp_path, capsys):
    out = tmp_path / "grid.png"
    arguments = ["attention", str(shapes_model), "--data", str(shapes_folder), "-o", str(out)]
    assert main([*arguments, "--count", "2", "--pointing"]) == 0
    printed = capsys.readouterr().out
    assert "pointing accuracy of att_map" in printed and "pointing accuracy of sr_map" in printed
    assert f"pointing accuracy of {shapes_model}'s class-activation map" in printed
    assert len(re.findall(r"; objects [\d.]+ %, chance [\d.]+ %; relations .*; faint things ", printed)) == 3
    wide = cv2.imread(str(out)).shape
    assert main([*arguments, "--images", "4", "--labels", "circle", "--maps", "conf_map"]) == 0
    narrow = cv2.imread(str(out)).shape
    assert narrow[0] * 3 < wide[0] and narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["curves", "{empty}"], 3, "no log.csv of any stage"),
        (["attention", "{empty}"], 3, "no finished stage"),
        (["attention", "{model}", "--data", "{empty}"], 3, "no LMDB pair"),
        (["attention", "{model}", "--data", "{data}", "--count", "0"], 2, "at least 1"),
        (["attention", "{model}", "--data", "{data}", "-o", "{empty}"], 2, "empty is a folder"),
        (["attention", "{model}", "--data", "{data}", "--images", *["0"] * 99], 2, "198 rows of 7 panels are too many"),
        (["neurons", "{model}", "--data", "{data}", "--label", "star", "--count", "99"], 2, "99 rows of 5 panels"),
        (["attention", "{model}", "--data", "{data}", "--images", "21"], 2, "no sample 21"),
        (["attention", "{model}", "--data", "{data}", "--images", "\u00b2"], 2, "no sample \u00b2"),
        (["attention", "{model}", "--data", "{data}", "--labels", "unicorn"], 2, "no label unicorn"),
        (
            ["attention", "{model}", "--data", "{data}", "--annotations", "{empty}/x.json"],
            3,
            "annotation file not found",
        ),
        (["attention", "{main}", "--data", "{data}"], 2, "does not compute att_map, sr_map"),
    ],
)
def test_bad_input_is_one_line(shapes_folder, shapes_model, tmp_path, capsys, arguments, code, reason):
    (tmp_path / "empty").mkdir()
    main_only = without(shapes_model, tmp_path / "main", "att_", "conf_", "sr_")
    places = {"empty": tmp_path / "empty", "model": shapes_model, "data": shapes_folder, "main": main_only}
    assert main([text.format(**places) for text in arguments]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0], errors
    assert not list(tmp_path.rglob("*.png")) + list(shapes_model.parent.glob("*.png"))


def test_annotations_of_another_split_are_refused(shapes_folder, shapes_model, tmp_path, capsys):
    words = [
        "attention",
        str(shapes_model),
        "--data",
        str(shapes_folder),
        "--split",
        "train",
        "-o",
        str(tmp_path / "a"),
    ]
    boxes = ["--annotations", str(shapes_folder / "annotations" / "test.json")]
    boxes += ["--image-folder", str(shapes_folder / "images" / "test")]
    assert main([*words, *boxes]) == 1
    assert "has other labels" in capsys.readouterr().err and not list(tmp_path.iterdir())
