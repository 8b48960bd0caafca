"""tools/predict.py on a real LMDB pair: scores against a net fed by hand, exit codes, nothing lost."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import without
from pysrn.data.build import build_dataset
from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_pair import PairReader, pair_paths
from pysrn.predict import splits
from pysrn.predict.deploy import DeployNet
from pysrn.predict.predictions import load_predictions
from pysrn.predict.splits import batches, whole_views
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import Settings
from tests.holding import Hold, wait_until
from tests.srn import INPUT, RECIPES, SCORES
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
    views = whole_views(PairReader(shapes_folder, "test"), [3, 1], INPUT)
    assert views.shape == (2, 3, 224, 224) and views.dtype == np.float32
    assert views.min() > -124 and views.max() <= 255 - 104
    assert not np.array_equal(views[0], views[1])


def test_an_interrupted_prediction_goes_on(shapes_folder, shapes_model, tmp_path, capsys, monkeypatch):
    words = [str(shapes_model), "--data", str(shapes_folder), "--batch-size", "2"]
    assert main([*words, "-o", str(tmp_path / "whole.npz")]) == 0
    out, chunks = tmp_path / "p.npz", tmp_path / ".p.npz.chunks"
    read, count = PairReader.image, iter(range(1000))

    def interrupted(pair, index):
        if next(count) == 20:
            raise KeyboardInterrupt
        return read(pair, index)

    monkeypatch.setattr(PairReader, "image", interrupted)
    assert main([*words, "-o", str(out)]) == 130
    monkeypatch.undo()
    first, second = sorted(chunks.glob("chunk_*"))  # of three chunks of 8, 8 and 5 images
    with np.load(first) as archive:
        marked = {name: archive[name] + 100 for name in archive.files}
    np.savez(first, **marked)
    second.write_bytes(second.read_bytes()[:500])
    capsys.readouterr()
    assert main([*words, "-o", str(out)]) == 0
    whole, found = load_predictions(tmp_path / "whole.npz"), load_predictions(out)
    for name in SCORES:
        np.testing.assert_allclose(found.scores[name][:8], whole.scores[name][:8] + 100, atol=1e-4)  # it was used
        np.testing.assert_array_equal(found.scores[name][8:], whole.scores[name][8:])  # damaged: computed again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.npz", "whole.npz"]


def test_what_another_device_computed_is_another_job(shapes_folder, shapes_model, tmp_path, monkeypatch):
    """Half a prediction by the CPU is not finished by a GPU, nor float32 by TF32. The net is the CPU's each time."""
    jobs, net = [], DeployNet(shapes_model)

    def seen(folder, job):
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(splits, "ScoreChunks", seen)
    monkeypatch.setattr(splits, "net_for", lambda *words, **more: net)
    pair = PairReader(shapes_folder, "test")
    for gpu, tf32 in ((None, "0"), (None, "1"), (1, "0"), (1, "1")):
        monkeypatch.setenv("CAFFE_TF32", tf32)
        with pytest.raises(KeyboardInterrupt):
            splits.predict_to(shapes_model, pair, tmp_path / "p.npz", gpu=gpu)
    cpu, same, gpu, rounded = jobs
    assert cpu == same and gpu == {**cpu, "device": "gpu"} and rounded == {**cpu, "device": "gpu, TF32"}


def test_chunks_of_another_job_are_not_used(shapes_folder, shapes_model, tmp_path):
    out, chunks = tmp_path / "p.npz", tmp_path / ".p.npz.chunks"
    chunks.mkdir()
    np.savez(chunks / "chunk_000000.npz", **{name: np.full((8, 16), 7.0) for name in SCORES})
    for job in ("{", "{}", '{"weights": "other"}'):
        (chunks / "job.json").write_text(job)
        assert main([str(shapes_model), "--data", str(shapes_folder), "--batch-size", "2", "-o", str(out)]) == 0
        assert not (load_predictions(out).scores["score"] == 7).any() and not chunks.exists()
        chunks.mkdir()
        np.savez(chunks / "chunk_000000.npz", **{name: np.full((8, 16), 7.0) for name in SCORES})


def test_two_at_once_are_kept_apart(shapes_folder, shapes_model, tmp_path, capsys):
    chunks = tmp_path / ".p.npz.chunks"
    chunks.mkdir()
    with open(chunks / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert main([str(shapes_model), "--data", str(shapes_folder), "-o", str(tmp_path / "p.npz")]) == 1
    assert "another process is predicting" in capsys.readouterr().err


def test_several_processes_write_the_same_bytes(shapes_folder, shapes_model, tmp_path, capsys):
    words = [str(shapes_model), "--data", str(shapes_folder), "--batch-size", "1"]  # six chunks
    assert main([*words, "-o", str(tmp_path / "one.npz")]) == 0
    assert main([*words, "-o", str(tmp_path / "two.npz"), "--workers", "2"]) == 0
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert "21/21 images" in capsys.readouterr().err.splitlines()[-1]


def test_killed_with_its_workers_it_goes_on(shapes_folder, shapes_model, tmp_path):
    words = [str(shapes_model), "--data", str(shapes_folder), "--batch-size", "1", "-o", str(tmp_path / "p.npz")]
    command = [sys.executable, "-m", "tools.predict", *words, "--workers", "2"]
    chunks = tmp_path / ".p.npz.chunks"
    with Hold(tmp_path, "predict.workers", r"/chunk_000003\.npz$") as hold:  # the second one of the worker
        parent = subprocess.Popen(command, env=os.environ | hold.environment)
        hold.wait(parent)
        assert list(chunks.glob("chunk_*"))
        parent.send_signal(signal.SIGKILL)
        assert parent.wait() == -signal.SIGKILL
    wait_until(lambda: not processes_with(str(chunks)))
    assert main(words) == 0
    assert len(load_predictions(tmp_path / "p.npz").keys) == 21 and not chunks.exists()


def test_a_worker_that_fails_says_why(shapes_folder, shapes_model, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(shapes_folder, folder)
    key = PairReader(shapes_folder, "test").keys[13]
    with lmdb.open(str(pair_paths(folder, "test")[0])) as database, database.begin(write=True) as transaction:
        transaction.put(key.encode(), b"no datum")
    words = [str(shapes_model), "--data", str(folder), "--batch-size", "1", "-o", str(tmp_path / "p.npz")]
    assert main([*words, "--workers", "2"]) == 1
    assert f"broken record {key}" in capsys.readouterr().err
    assert not processes_with(str(tmp_path)) and not (tmp_path / "p.npz").exists()


def test_chosen_scores(shapes_folder, shapes_model, tmp_path, capsys):
    out = tmp_path / "p.npz"
    words = ["--data", str(shapes_folder), "-o", str(out)]
    assert main([str(shapes_model), *words, "--score", "score", "score_att"]) == 0
    assert list(load_predictions(out).scores) == ["score_att", "score"]
    main_only = without(shapes_model, tmp_path / "main.caffemodel", "att_", "conf_", "sr_")
    assert main([str(main_only), *words, "--score", "score"]) == 2
    assert "computes score_cls, not score" in capsys.readouterr().err


def processes_with(text: str) -> list[str]:
    """Command lines of other processes that name `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if text in line and "predict_workers" in line]


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
        (["{model}", "--data", "{data}", "--workers", "0"], 2, "at least 1"),
        (["{model}", "--data", "{data}", "--workers", "2", "--gpu", "0"], 2, "1 with --gpu"),
        (["{model}", "--data", "{data}", "--attention"], 2, "is for photos"),
        (["{model}", "--data", "{data}", "--image-list", "x"], 2, "--from-text"),
        (["{model}", "{empty}", "--data", "{data}"], 2, "more than one run"),
        (["{model}", "--run", "{empty}", "--data", "{data}"], 2, "more than one run"),
        (["{model}", "--data", "{data}", "--gpu", "99"], 3, "CUDA device 99 cannot be used: "),
        (["{model}", "--data", "{cut}"], 1, "is truncated"),
        (["{broken}", "--data", "{data}"], 1, "damaged or no caffemodel"),
    ],
)
def test_bad_input_is_one_line(shapes_folder, shapes_model, tmp_path, capsys, arguments, code, reason):
    places = {name: tmp_path / name for name in ("empty", "cut")} | {"broken": tmp_path / "broken.caffemodel"}
    places["empty"].mkdir()
    shutil.copytree(shapes_folder, places["cut"])
    database = pair_paths(places["cut"], "test")[0] / "data.mdb"
    database.write_bytes(database.read_bytes()[:100_000])
    places["broken"].write_bytes(shapes_model.read_bytes()[:-1000])
    filled = [text.format(model=shapes_model, data=shapes_folder, **places) for text in arguments]
    assert main(filled) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  mend it: ")]
    assert len(errors) == 1 and reason in errors[0], errors
    assert not list(shapes_model.parent.glob("*.npz")) + list(shapes_model.parent.glob(".*"))


def test_a_data_set_with_other_labels_is_refused(shapes_folder, shapes_model, tmp_path, capsys):
    from pysrn.data.pair.lmdb_pair import write_pair
    from pysrn.data.readers.records import Sample

    images = sorted((shapes_folder / "images" / "test").iterdir())[:3]
    samples = [Sample(path.stem, path, np.array([1, -1], np.int8)) for path in images]
    write_pair(samples, tmp_path, "test", ("cat", "dog"), 0, dataset="pets", workers=1)
    assert main([str(shapes_model), "--data", str(tmp_path)]) == 1
    assert "predicts 16 labels" in capsys.readouterr().err


def test_images_stored_in_another_size_than_those_of_training_are_named(shapes_model, tmp_path, capsys):
    build_dataset("shapes", tmp_path / "small", counts={"train": 1, "test": 2}, encoding=Encoding(size=64), workers=1)
    out = tmp_path / "p.npz"
    assert main([str(shapes_model), "--data", str(tmp_path / "small"), "-o", str(out)]) == 0
    assert "stores 64 x 64, training sees 256 x 256" in capsys.readouterr().err


def test_weights_that_give_no_numbers_are_refused_and_the_old_file_stays(shapes_folder, shapes_model, tmp_path, capsys):
    from pysrn.nets.caffemodel import read_layers, write_weights

    layers = read_layers(shapes_model)
    layers["sr_fc"][1][1][2] = np.nan
    write_weights(tmp_path / "nan.caffemodel", "nan", layers)
    (tmp_path / "predictions_test.npz").write_bytes(b"good work")
    assert main([str(tmp_path / "nan.caffemodel"), "--data", str(shapes_folder)]) == 1
    assert "layer sr_fc holds NaN or infinity" in capsys.readouterr().err
    assert (tmp_path / "predictions_test.npz").read_bytes() == b"good work"
