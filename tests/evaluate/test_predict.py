"""tools/predict.py on a real LMDB pair: scores against a net fed by hand, exit codes, nothing lost."""

import shutil

import cv2
import numpy as np
import pytest

from pysrn.data.lmdb_pair import PairReader, pair_paths
from pysrn.evaluate.deploy import DeployNet
from pysrn.evaluate.predict import batches, whole_views
from pysrn.evaluate.predictions import load_predictions
from pysrn.nets.stages import SCORES
from pysrn.recipes import RECIPES
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import Settings
from tools.predict import main


def test_scores_are_those_of_each_image_alone(shapes_folder, shapes_model, tmp_path, capsys):
    out = tmp_path / "p.npz"
    arguments = [str(shapes_model), "--data", str(shapes_folder), "-o", str(out), "--batch-size", "4"]
    assert main(arguments) == 0  # 21 images: the last batch is not full
    assert "21 images, 16 labels, score_cls, score_att, score_sr, score" in capsys.readouterr().out
    pair, found = PairReader(shapes_folder, "test"), load_predictions(out)
    assert found.keys == tuple(pair.keys) and found.classes == tuple(pair.classes)
    np.testing.assert_array_equal(found.labels, pair.all_labels())
    assert found.about["split"] == "test"
    net = DeployNet(shapes_model)
    for index in (0, 7, 20):
        view = cv2.resize(pair.image(index), (224, 224), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        blob = (view - np.array([104, 117, 123], np.float32)).transpose(2, 0, 1)[None]
        for name, values in net.forward(blob).items():
            np.testing.assert_allclose(found.scores[name][index], values[0], atol=1e-4, err_msg=name)
    assert set(found.scores) == set(SCORES)
    assert found.scores["score"].std(axis=0).mean() > 0.05  # the images do make a difference


def test_whole_views_shape_and_range(shapes_folder):
    views = whole_views(PairReader(shapes_folder, "test"), [3, 1])
    assert views.shape == (2, 3, 224, 224) and views.dtype == np.float32
    assert views.min() > -124 and views.max() <= 255 - 104
    assert not np.array_equal(views[0], views[1])


def test_batches_cover_everything_once():
    assert [list(part) for part in batches(5, 2)] == [[0, 1], [2, 3], [4]]
    assert list(batches(0, 2)) == []


def test_without_arguments_it_is_the_embedded_run(shapes_folder, shapes_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "runs" / "shapes")
    run.write_settings(Settings(RECIPES["shapes"], str(shapes_folder), None))
    for stage in (1, 4):
        run.stage(stage).mkdir()
        shutil.copy(shapes_model, run.weights(stage))
    assert main([]) == 0
    assert (run.stage(4) / "predictions_test.npz").is_file()
    assert main(["--stage", "1", "--split", "train"]) == 0
    assert len(load_predictions(run.stage(1) / "predictions_train.npz").keys) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["{empty}/none"], 3, "neither a file nor a folder"),
        (["{empty}"], 3, "no finished stage"),
        (["{model}", "--data", "{empty}/none"], 3, "LMDB folder not found"),
        (["{model}", "--data", "{empty}"], 3, "no LMDB pair"),
        (["{model}", "--data", "{data}", "--split", "val"], 3, "no split 'val'"),
        (["{model}", "--data", "{data}", "--batch-size", "0"], 2, "at least 1"),
        (["{model}", "--data", "{data}", "--batch-size", "9999"], 2, "at most 1024"),
        (["{model}", "--data", "{data}", "-o", "{empty}"], 2, "is a folder"),
        (["{model}", "--data", "{data}", "--gpu", "99"], 3, "CUDA device 99 cannot be used: "),
        (["{model}", "--data", "{cut}"], 1, "is truncated"),
        (["{broken}", "--data", "{data}"], 1, "damaged or no caffemodel"),
    ],
)
def test_bad_input_is_one_line(shapes_folder, shapes_model, tmp_path, capsys, arguments, code, reason):
    places = {name: tmp_path / name for name in ("empty", "cut", "broken")}
    places["empty"].mkdir()
    shutil.copytree(shapes_folder, places["cut"])
    database = pair_paths(places["cut"], "test")[0] / "data.mdb"
    database.write_bytes(database.read_bytes()[:100_000])
    places["broken"].write_bytes(shapes_model.read_bytes()[:-1000])
    filled = [text.format(model=shapes_model, data=shapes_folder, **places) for text in arguments]
    assert main(filled) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0], errors
    assert not list(shapes_model.parent.glob("*.npz"))


def test_a_data_set_with_other_labels_is_refused(shapes_folder, shapes_model, tmp_path, capsys):
    from pysrn.data.lmdb_pair import write_pair
    from pysrn.data.records import Sample

    images = sorted((shapes_folder / "images" / "test").iterdir())[:3]
    samples = [Sample(path.stem, path, np.array([1, -1], np.int8)) for path in images]
    write_pair(samples, tmp_path, "test", ("cat", "dog"), 0, dataset="pets", workers=1)
    assert main([str(shapes_model), "--data", str(tmp_path)]) == 1
    assert "predicts 16 labels" in capsys.readouterr().err


def test_weights_that_give_no_numbers_are_refused_and_the_old_file_stays(shapes_folder, shapes_model, tmp_path, capsys):
    from pysrn.nets.caffemodel import read_layers, write_weights

    layers = read_layers(shapes_model)
    layers["sr_fc"][1][1][2] = np.nan
    write_weights(tmp_path / "nan.caffemodel", "nan", layers)
    (tmp_path / "predictions_test.npz").write_bytes(b"good work")
    assert main([str(tmp_path / "nan.caffemodel"), "--data", str(shapes_folder)]) == 1
    assert "21 values of score_sr are not finite" in capsys.readouterr().err
    assert (tmp_path / "predictions_test.npz").read_bytes() == b"good work"
