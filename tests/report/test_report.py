"""report.html: its figures are the run's, a real browser shows it without complaint, and what is missing is said."""

import html
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from pysrn.benchmark.realistic_weights import without, write_realistic
from pysrn.data.pair.lmdb_pair import PairReader, write_pair
from pysrn.data.readers.records import Sample
from pysrn.evaluate.metrics import evaluate
from pysrn.pictures import relations
from pysrn.predict.predictions import Predictions, load_predictions
from pysrn.predict.splits import whole_views
from pysrn.report.images import image_losses
from pysrn.report.results import points
from pysrn.systems.srn.fidelity import against_the_paper
from pysrn.systems.srn.heads import HeadSpec
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import Settings
from tests.report.chromium import Chromium, find
from tests.srn import INPUT, RECIPES, STAGE_NAMES, Architecture, replace
from tools import predict, report

needs_browser = pytest.mark.skipif(
    find() is None, reason="no Chromium on this machine (docker/packages-test.txt names it)"
)
WIDTHS = (390, 1280)  # a phone, a desktop
LOG = "iteration,loss,lr,seconds\n" + "".join(f"{i},{9 / i + 1:.4f},0.01,0.1\n" for i in range(1, 60))
BAD_NAMES = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "$x_1$ & \\frac",
    "雪豹",
    "a" * 90,
)


def make_run(path: Path, data: Path, model: Path, recipe=RECIPES["shapes"]) -> Path:
    """A finished run: real weights, logs and predictions of stages 1 and 4."""
    run = RunFolder(path)
    run.write_settings(Settings(recipe, str(data), None))
    for stage, name in STAGE_NAMES.items():
        run.stage(stage).mkdir()
        if stage == 1:
            without(model, run.weights(stage), "att_", "conf_", "sr_")
        else:
            shutil.copy(model, run.weights(stage))
        made = {"stage": stage, "name": name, "iterations": 59, "seconds": 5.9, "versions": {"numpy": "2.0"}}
        (run.stage(stage) / "manifest.json").write_text(json.dumps(made))
        (run.stage(stage) / "log.csv").write_text(LOG)
    (run.stage(4) / "validation.csv").write_text("iteration,loss,lr\n20,3.5,0.01\n40,3.1,0.01\n")
    for stage in (1, 4):
        assert predict.main([str(path), "--stage", str(stage)]) == 0
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shapes_folder, shapes_model) -> Path:
    """A finished run on `shapes`. Not to be changed."""
    return make_run(tmp_path_factory.mktemp("runs") / "finished", shapes_folder, shapes_model)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, shapes_folder) -> Path:
    """A finished run on own images whose labels, files and folder have names that would break a careless page."""
    folder = tmp_path_factory.mktemp("own")
    random = np.random.default_rng(5)
    samples = []
    for number, source in enumerate(sorted((shapes_folder / "images" / "test").iterdir())[:8]):
        image = folder / f"<svg onload=alert({number})>&amp;'\".jpg"
        shutil.copy(source, image)
        labels = np.where(random.random(len(BAD_NAMES)) < 0.5, 1, -1).astype(np.int8)
        labels[number % len(BAD_NAMES)] = 1
        samples.append(Sample(image.name, image, labels))
    data = folder / "data"
    for split in ("train", "test"):
        write_pair(samples, data, split, BAD_NAMES, 0, dataset="folder", workers=1)
    architecture = Architecture("resnet14", len(BAD_NAMES), HeadSpec(32, 32))
    views = whole_views(PairReader(data, "test"), range(4), INPUT)
    model = write_realistic(folder / "weights.caffemodel", architecture, views)
    dataset = replace(RECIPES["folder"].dataset, labels=BAD_NAMES, train_images=8)
    recipe = replace(RECIPES["folder"], dataset=dataset, trunk="resnet14")
    return make_run(tmp_path_factory.mktemp("runs") / "<b>run & 'co'", data, model, recipe)


@pytest.fixture(scope="module")
def browser():
    with Chromium() as browser:
        yield browser


def write(run: Path, out: Path, *options) -> str:
    """The page of a run as text without markup, of one line."""
    assert report.main([str(run), "-o", str(out), *map(str, options)]) == 0
    return words(out.read_text(encoding="utf-8"))


def words(page: str) -> str:
    """What a reader sees of a page."""
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^<>]*>", " ", body)))


@needs_browser
@pytest.mark.parametrize("name", ["finished", "hostile", "bare"])
def test_a_browser_shows_the_page(request, browser, tmp_path, name):
    if name == "bare":
        run = tmp_path / "bare"
        RunFolder(run).write_settings(Settings(RECIPES["coco"], str(tmp_path / "none"), None))
    else:
        run = request.getfixturevalue(name)
    out = tmp_path / "report.html"
    write(run, out)
    for width in WIDTHS:
        browser.open(out, width)
        assert browser.complaints() == []
        assert browser.requests() == [out.as_uri()], "the page must hold everything itself"
        assert browser.evaluate("document.title") == f"SRN: {run.name}"
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        widths = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert all(widths) and (len(widths) > 20 or name == "bare")
        assert browser.evaluate("document.querySelectorAll('script, link, iframe').length") == 0
        # nothing is cut off: what is wider than the window lies in a box that scrolls
        outside = "[...document.querySelectorAll('main *')].filter(part => !part.closest('.scroll') && "
        outside += "part.getBoundingClientRect().right > innerWidth + 1).length"
        assert browser.evaluate(outside) == 0
    if name == "hostile":
        shown = browser.evaluate("document.querySelector('.bars').textContent")
        assert all(label in shown for label in BAD_NAMES)
    if name == "finished":
        matrix = "document.querySelector('.matrix image').getBoundingClientRect().width"
        assert browser.evaluate(matrix) == 16 * 30


@needs_browser
def test_the_browser_test_sees_what_it_should(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><meta charset=utf-8><div style='width:2000px'>x</div><img src='data:image/png;base64,AAAA'>"
        "<img src='https://example.invalid/x.png'><script>console.error('bad')</script>"
    )
    browser.open(page, 390)
    assert any("bad" in text for text in browser.complaints())
    assert "https://example.invalid/x.png" in browser.requests()
    assert browser.evaluate("document.documentElement.scrollWidth") > 390
    assert browser.evaluate("[...document.images].map(image => image.naturalWidth)") == [0, 0]


def test_same_inputs_same_bytes(finished, tmp_path):
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    for page in pages:
        write(finished, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert pages[0].stat().st_size < 3e6


def test_figures_are_those_of_the_predictions(finished, tmp_path):
    text = write(finished, tmp_path / "report.html")
    first, last = (load_predictions(finished / f"stage{stage}" / "predictions_test.npz") for stage in (1, 4))
    before, after = evaluate(first.scores["score_cls"], first.labels), evaluate(last.scores["score"], last.labels)
    assert f"mAP {100 * after.mean_ap:.1f}" in text
    assert f"gain over the main net {points(after.mean_ap - before.mean_ap)}" in text
    block = after.decisions["threshold"]
    names = ("F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")
    row = " ".join(f"{100 * value:.1f}" for value in (after.mean_ap, *(block[name] for name in names)))
    assert f"stage 4: score {row}" in text
    # the bars: highest first, each with its gain
    page = (tmp_path / "report.html").read_text()
    bars = [words(f"<body>{bar}").split() for bar in re.findall(r'<div class="bar">.*?</div>', page)]
    order = np.argsort(-after.average_precision, kind="stable")
    assert len(bars) == len(last.classes)
    for bar, label in zip(bars, order, strict=True):
        change = after.average_precision[label] - before.average_precision[label]
        count = f"({after.positives[label]})"
        ending = [count, f"{100 * after.average_precision[label]:.1f}", points(change)]
        assert bar == [*last.classes[label].split(), *ending]


def test_most_improved_and_most_harmed_images(finished, tmp_path):
    text = write(finished, tmp_path / "report.html")
    first, last = (load_predictions(finished / f"stage{stage}" / "predictions_test.npz") for stage in (1, 4))
    yes = last.labels == 1
    losses = []
    for scores in (first.scores["score_cls"], last.scores["score"]):
        chances = expit(scores.astype(np.float64))
        losses.append(
            [log_loss(a, b, normalize=False, labels=[False, True]) for a, b in zip(yes, chances, strict=True)]
        )
    change = np.subtract(losses[1], losses[0])
    ranked = [int(i) for i in np.argsort(change)]
    best = [last.keys[i] for i in ranked if change[i] < 0][:6]
    worst = [i for i in ranked[::-1] if change[i] > 0][:6]
    improved, harmed = text[text.index("Most improved") : text.index("Of the images (")].split("Most harmed")
    assert re.findall(r"\d{8}_\S+", improved) == best
    assert re.findall(r"\d{8}_\S+", harmed) == [last.keys[i] for i in worst]
    assert f"loss {losses[0][worst[0]]:.2f} → {losses[1][worst[0]]:.2f}" in harmed


def test_image_losses():
    logits = np.array([[0.5, -2.0, 800.0], [-800.0, 1.0, 3.0]], np.float32)
    labels = np.array([[1, -1, 1], [-1, 0, -1]])
    p = expit(logits.astype(np.longdouble))
    expected = [-np.log(p[0, 0]) - np.log(1 - p[0, 1]), -np.log(1 - p[1, 2])]
    np.testing.assert_allclose(image_losses(logits, labels, zero_is_unspecified=True), np.float64(expected), rtol=1e-12)
    expected[1] -= np.log(1 - p[1, 1])
    np.testing.assert_allclose(
        image_losses(logits, labels, zero_is_unspecified=False), np.float64(expected), rtol=1e-12
    )


def test_conditional_shares_and_strongest_relations():
    random = np.random.default_rng(2)
    yes = random.random((60, 6)) < 0.3
    yes[:, 1] |= yes[:, 0]  # 0 implies 1
    yes[:, 5] = False
    found = relations.conditional(yes)
    for given in range(6):
        for also in range(6):
            images = [row for row in yes if row[given]]
            share = sum(bool(row[also]) for row in images) / len(images) if images else np.nan
            np.testing.assert_equal(found[given, also], share)
    pairs = relations.strongest(yes, 3)
    assert (pairs[0].given, pairs[0].also, pairs[0].conditional) == (0, 1, 1.0)
    assert pairs[0].share == yes[:, 1].mean() and pairs[0].images == yes[:, 0].sum()
    assert len({frozenset((pair.given, pair.also)) for pair in relations.strongest(yes, 99)}) == len(
        relations.strongest(yes, 99)
    )
    assert relations.strongest(np.zeros((4, 3), bool), 5) == []


def test_what_is_missing_is_said_with_its_command(finished, shapes_folder, tmp_path, capsys):
    run = tmp_path / "run 1"
    RunFolder(run).write_settings(Settings(RECIPES["shapes"], str(tmp_path / "nowhere"), None))
    text = write(run, tmp_path / "report.html")
    assert f"tools/run_stage.py 4 --run 'run 1' --runs {tmp_path}" in text
    assert f"tools/predict.py '{run}' --stage 1" in text
    assert "LMDB folder not found" in text and "nothing is measured" in text and "No log.csv of any stage" in text
    assert "left out: predictions of stage 1" in capsys.readouterr().err

    shutil.copytree(finished / "stage1", run / "stage1")  # stage 1 is done: there is something to show, no gains yet
    text = write(run, tmp_path / "report.html", "--data", shapes_folder)
    assert "stages that are not finished: 2 (attention), 3 (regulariser), 4 (joint)" in text
    assert "stage 1: score_cls" in text and "gain over the main net" not in text
    assert "no stage with attention maps is finished" in text and "LMDB folder not found" not in text

    for stage in (2, 3, 4):
        shutil.copytree(finished / f"stage{stage}", run / f"stage{stage}")
    (run / "stage1" / "predictions_test.npz").unlink()
    text = write(run, tmp_path / "report.html", "--data", shapes_folder)
    assert "predictions of stage 1, test" in text and "the main net is that of stage 4" in text
    assert "not finished" not in text and "Maps of attention A of stage 4" in text


def test_other_weights_and_other_images_are_noticed(finished, shapes_folder, shapes_model, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    without(shapes_model, run / "stage1" / "weights.caffemodel", "att_", "conf_")
    text = write(run, tmp_path / "report.html")
    assert "up-to-date predictions of stage 1: those there are of other weights" in text
    assert "of stage 4: those" not in text

    found = load_predictions(run / "stage4" / "predictions_test.npz")
    for stage in (1, 4):
        path = run / "stage4" / "predictions_test.npz" if stage == 4 else run / "stage1" / "predictions_test.npz"
        one = load_predictions(path)
        replace(one, keys=(*one.keys[:-1], "99999999_other")).save(path)
    text = write(run, tmp_path / "report.html")
    assert f"{shapes_folder}, test, is not what was predicted" in text and found.keys[-1] not in text


def test_labels_that_changed_since_the_prediction_are_noticed(finished, shapes_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert "today's labels" not in write(run, tmp_path / "report.html")
    for stage in (1, 4):
        path = run / f"stage{stage}" / "predictions_test.npz"
        one = load_predictions(path)
        one.labels[[0, 1, 1], [3, 3, 5]] *= -1
        one.save(path)
    text = write(run, tmp_path / "report.html")
    assert f"today's labels: 3 were others in {shapes_folder}, test" in text
    assert f"predict again: tools/predict.py {run}" in text


def test_predictions_of_other_classes_than_the_runs_are_named(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = run / "stage4" / "predictions_test.npz"
    one = load_predictions(path)
    replace(one, classes=one.classes[::-1]).save(path)
    assert report.main([str(run), "-o", str(tmp_path / "report.html")]) == 1
    assert f"{path}: wrong classes: in another order" in capsys.readouterr().err


def test_predictions_without_labels(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for stage, expected in ((4, "stage 1: score_cls"), (1, "nothing is measured")):
        path = run / f"stage{stage}" / "predictions_test.npz"
        replace(load_predictions(path), labels=None).save(path)
        text = write(run, tmp_path / "report.html")
        assert f"labels in {path.name} of stage {stage}: tools/predict.py {run} --stage {stage}" in text
        assert expected in text and "gain over the main net" not in text and "Maps of attention A of stage 4" in text


def test_boxes(finished, shapes_folder, tmp_path):
    known = write(finished, tmp_path / "with.html")
    assert "Frames: the boxes of its objects" in known
    data = tmp_path / "data"
    shutil.copytree(shapes_folder, data, ignore=shutil.ignore_patterns("annotations"))
    assert "Boxes are not known; --annotations FILE" in write(finished, tmp_path / "none.html", "--data", data)
    given = ["--annotations", shapes_folder / "annotations/test.json", "--image-folder", shapes_folder / "images/test"]
    assert "Frames: the boxes of its objects" in write(finished, tmp_path / "given.html", "--data", data, *given)
    pictures = [
        re.findall(r'<img src="([^"]*)" alt="attention', (tmp_path / name).read_text())
        for name in ("with.html", "none.html", "given.html")
    ]
    assert pictures[0] == pictures[2] and len(pictures[0]) == len(pictures[1])
    assert pictures[0] != pictures[1], "the boxes must be drawn"


def test_comparison_with_the_paper(tmp_path):
    run = RunFolder(tmp_path / "coco")
    run.write_settings(
        Settings(replace(RECIPES["coco"], variant="released"), str(tmp_path / "none"), "resnet101.caffemodel")
    )
    names = RECIPES["coco"].dataset.classes
    random = np.random.default_rng(0)
    labels = np.where(random.random((300, len(names))) < 0.05, 1, -1).astype(np.int8)
    keys = tuple(f"{i:08d}_x" for i in range(len(labels)))
    for stage, scores in ((1, ("score_cls",)), (4, ("score_cls", "score_att", "score_sr", "score"))):
        logits = {name: (random.normal(-2, 2, labels.shape) + stage * labels).astype(np.float32) for name in scores}
        Predictions(keys, names, logits, labels).save(run.stage(stage) / "predictions_test.npz")
    text = write(run.path, tmp_path / "report.html")
    ours = 100 * evaluate(load_predictions(run.stage(4) / "predictions_test.npz").scores["score"], labels).mean_ap
    assert "ResNet-SRN of the paper and stage 4: score" in text
    difference, verdict = f"{ours - 77.1:+.1f}".replace("-", "\N{MINUS SIGN}"), "above" if ours > 77.1 else "below"
    assert f"mAP 77.1 {ours:.1f} {difference} {verdict}" in text
    assert "ResNet-101 of the paper and stage 1: score_cls" in text and "mAP 75.2" in text
    assert "300 images, the paper's are 40,504: not the same figure" in text
    assert "The paper has no figures" not in text


def test_settings_against_the_paper():
    coco = Settings(replace(RECIPES["coco"], variant="released"), "data/coco", "resnet101.caffemodel")
    verdicts = {what: verdict for what, _, _, verdict in against_the_paper(coco.recipe, coco.weights)}
    assert verdicts["data set"] == verdicts["training images"] == verdicts["trunk"] == "as published"
    assert verdicts["first learning rates"] == verdicts["crops, pixels of 256"] == "as published"
    assert verdicts["losses of stage 4"] == verdicts["heads"] == "differs"
    assert verdicts["schedule"] == verdicts["batch"] == "not published"
    shapes = {row[0]: row for row in against_the_paper(RECIPES["shapes"], None)}
    assert shapes["trunk"][3] == shapes["data set"][3] == shapes["first weights"][3] == "differs"
    assert shapes["losses of stage 4"][3] == "as published" and "training images" not in shapes
    changed = replace(coco.recipe, augmentation=replace(coco.recipe.augmentation, scale_ratios=(1.0,)))
    rows = {row[0]: row for row in against_the_paper(changed, coco.weights)}
    assert rows["crops, pixels of 256"][1:] == ("256", "256, 224, 192, 168, 128", "differs")


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["{empty}/none"], 3, "run not found"),
        (["{empty}"], 3, "is no run"),
        (["{run}", "-o", "{empty}"], 2, "is a folder"),
        (["{run}", "--annotations", "{empty}/x.json"], 3, "annotation file not found"),
        (["{damaged}"], 1, "damaged or no predictions file"),
    ],
)
def test_bad_input_is_one_line_and_keeps_the_old_page(finished, tmp_path, capsys, arguments, code, reason):
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(finished, damaged)
    with open(damaged / "stage4" / "predictions_test.npz", "r+b") as file:
        file.truncate(os.path.getsize(file.name) // 2)
    (damaged / "report.html").write_text("the old page")
    places = {"empty": tmp_path / "empty", "run": finished, "damaged": damaged}
    capsys.readouterr()
    assert report.main([text.format(**places) for text in arguments]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and reason in errors[0]
    assert (damaged / "report.html").read_text() == "the old page"
    assert not list(tmp_path.rglob("*.part"))
