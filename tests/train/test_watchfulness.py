"""What a stage does when its numbers or its disk give out, and what its logs say: real runs, a real full disk."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import struct
import subprocess

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from pysrn.nets import prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import add_layer
from pysrn.train.stage import snapshots
from pysrn.train.stage.stage_log import EVENTS, EventFile
from pysrn.train.stage.training import LossMeans
from tests.holding import HANG, Hold
from tests.srn import feed as feed_of
from tests.train.conftest import (
    SHORT,
    TRAINER,
    assert_same_weights,
    call_run_stage,
)

PLATEAU = ("--schedule", "plateau", "--validation-fraction", "0.25", "--validate-every", "3", "--patience", "2")


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("rate", "every", "words"),
    [
        ("3e38", "1", "weights of layer"),  # the first loss is fine, the first update is not
        ("1e5", "1", "weights of layer"),  # it takes more than one iteration
        ("1e12", "20", "the loss became nan"),  # no snapshot comes before it
    ],
)
def test_numbers_that_are_none_stop_the_stage_and_are_not_saved(run_stage, tmp_path, rate, every, words):
    done = run_stage("1", "--iterations", "9", "--batch-size", "2", "--snapshot-every", every, "--base-lr", rate)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    failed = int(re.search(r"iteration (\d+);", done.stderr)[1])
    folder = tmp_path / "runs/shapes/stage1"
    saved = snapshots.iterations(folder)
    assert saved == ([n for n in (failed - 1, failed - 2) if n > 0] if every == "1" else [])
    kept = f"the snapshot of iteration {saved[0]} is kept" if saved else "there is no snapshot yet"
    assert kept in done.stderr and "--base-lr" in done.stderr
    assert not (folder / "weights.caffemodel").exists()
    for iteration in saved:
        blobs = read_weights(snapshots.file_of(folder, iteration, snapshots.WEIGHTS)).values()
        assert all(np.isfinite(array).all() for arrays in blobs for array in arrays)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_stops_the_stage_with_its_snapshot_intact(small_disk, small_data, tmp_path):
    arguments = ("1", "--iterations", "15", "--batch-size", "2", "--snapshot-every", "1")
    folder, filler = small_disk / "shapes/stage1", small_disk / "filler"
    with Hold(tmp_path, TRAINER, r"stage1/iter_000002\.json$") as hold:
        process = call_run_stage(*arguments, runs=small_disk, data=small_data, hold=hold)
        hold.wait(process)
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        hold.release()
        said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 1 and "Traceback" not in said, said
    assert "No space left on device" in said and "kept" in said and "run the same command again" in said
    iteration, warnings = snapshots.newest_whole(folder)
    assert iteration >= 2 and not warnings and not list(folder.glob("partial*"))

    filler.unlink()
    done = call_run_stage(*arguments, runs=small_disk, data=small_data)
    assert done.returncode == 0 and f"iterations {iteration}-15" in done.stderr, done.stderr
    assert call_run_stage(*arguments, runs=tmp_path / "straight", data=small_data).returncode == 0
    for name in ("weights.caffemodel", "log.csv"):
        ours, theirs = folder / name, tmp_path / "straight/shapes/stage1" / name
        if name == "log.csv":
            assert [row["loss"] for row in rows(ours)] == [row["loss"] for row in rows(theirs)]
        else:
            assert_same_weights(ours, theirs)


def test_the_loss_of_an_iteration_is_the_mean_of_its_batches(small_data, tmp_path):
    """Three batches of two, one update: the log's loss is the loss of one batch of six."""

    def write(batch_size, **solver):
        folder = tmp_path / str(batch_size)
        net = caffe_pb2.NetParameter(name="small")
        feed = feed_of(small_data, "train", batch_size, workers=0).to_json()
        layer = {"module": "pysrn.data.layer", "layer": "MultiLabelDataLayer", "param_str": feed}
        add_layer(net, "data", "Python", [], python_param=layer)
        net.layer[-1].top.append("label")
        add_layer(net, "pool", "Pooling", "data", pooling_param={"pool": "AVE", "global_pooling": True})
        filler = {"type": "gaussian", "std": 0.01}
        add_layer(net, "fc", "InnerProduct", "pool", inner_product_param={"num_output": 16, "weight_filler": filler})
        add_layer(net, "loss", "SigmoidCrossEntropyLoss", ["fc", "label"])
        prototxt.write_message(net, folder / "net.prototxt")
        message = caffe_pb2.SolverParameter(
            net=str(folder / "net.prototxt"), base_lr=1e-4, lr_policy="fixed", random_seed=3, max_iter=9, **solver
        )
        message.solver_mode = caffe_pb2.SolverParameter.CPU
        prototxt.write_message(message, folder / "solver.prototxt")
        return caffe.get_solver(str(folder / "solver.prototxt"))

    parts, whole = write(2, iter_size=3), write(6)
    means = LossMeans(parts.net, ["loss"])
    for _ in range(3):
        parts.step(1)
        whole.step(1)
        assert means.take() == [pytest.approx(float(whole.net.blobs["loss"].data), rel=1e-5)]
        assert float(parts.net.blobs["loss"].data) != pytest.approx(float(whole.net.blobs["loss"].data), rel=1e-3)


def test_status_tells_what_is_left(finished, run_stage, tmp_path):
    shutil.copytree(finished[0], tmp_path / "runs")
    folder = tmp_path / "runs/shapes/stage4"
    for name in ("manifest.json", "weights.caffemodel"):
        (folder / name).unlink()
    log = ["iteration,loss,lr,seconds,loss_score,loss_att"]
    log += [f"{i},{20 + i % 2},0.003,7.5,{10 + i % 2},10" for i in range(1, 41)] + ["41,20."]  # being written
    (folder / "log.csv").write_text("\n".join(log))
    (folder / "validation.csv").write_text("iteration,loss,lr\n10,19.5,0.01\n20,18.25,0.01\n30,18.75,0.003\n")
    values = json.loads((tmp_path / "runs/shapes/run.json").read_text())
    values["recipe"]["stages"][3]["iterations"] = 100
    (tmp_path / "runs/shapes/run.json").write_text(json.dumps(values))
    lines = run_stage("--status").stdout.splitlines()
    assert [line.split()[3] for line in lines[1:]] == ["done"] * 3 + ["begun"]
    assert lines[4].split(maxsplit=4)[4] == (
        "40/100, loss 20.5000, lr 0.003, 8 min left at most, saved up to 3, "
        "best validation loss 18.2500 in iteration 20"
    )


def events(folder):
    """Tag, step and value of every scalar in the event files of a folder, read as TFRecords."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.iterdir(), key=os.path.getmtime):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            if event.session_log.status:
                found.append(("purge", event.step, event.session_log.status))
            content = content[16 + length :]
    return found


def test_event_files_hold_what_the_log_holds(run_stage, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    done = run_stage("1", "--iterations", "3", *SHORT, "--tensorboard")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/shapes/stage1"
    scalars = {(tag, step): value for tag, step, value in events(folder / EVENTS)}
    for row in rows(folder / "log.csv"):
        for name in ("loss", "lr"):
            assert scalars[name, int(row["iteration"])] == pytest.approx(float(row[name]), rel=1e-5)


def test_a_resumed_event_file_strikes_out_what_is_done_again(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    for first in (0, 3):
        file = EventFile(tmp_path, first)
        for iteration in range(first + 1, 6):
            file.add(iteration, {"loss": iteration / 2})
        file.close()
    assert ("purge", 4, 1) in events(tmp_path / EVENTS)


def test_plateau_stage_ends_early_and_resumes_bit_for_bit(small_data, tmp_path):
    """An interrupted plateau stage has the same drops, figures and weights; the best snapshot is kept."""
    arguments = ("1", "--iterations", "40", *SHORT, *PLATEAU, "--min-lr", "3e-3", "--keep", "1")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    done = call_run_stage(*arguments, runs=straight, data=small_data)
    assert done.returncode == 0 and "the stage ends here" in done.stderr, done.stderr
    for iteration in (2, 6):
        with Hold(tmp_path, TRAINER, rf"stage1/iter_00000{iteration}\.json$") as hold:
            process = call_run_stage(*arguments, runs=broken, data=small_data, hold=hold)
            hold.wait(process)
            hold.interrupt(process, signal.SIGTERM)
            said = process.communicate(timeout=HANG)[1]
        assert process.returncode == 130, said
    assert call_run_stage(*arguments, runs=broken, data=small_data).returncode == 0

    ours, theirs = broken / "shapes/stage1", straight / "shapes/stage1"
    assert (ours / "validation.csv").read_text() == (theirs / "validation.csv").read_text()
    assert_same_weights(ours / "weights.caffemodel", theirs / "weights.caffemodel")
    manifest = json.loads((ours / "manifest.json").read_text())
    figures = {int(row["iteration"]): float(row["loss"]) for row in rows(ours / "validation.csv")}
    best = min(figures, key=figures.get)
    assert manifest["best_validation"]["iteration"] == best and manifest["iterations"] < 40
    assert set(snapshots.iterations(ours)) == {best, manifest["iterations"]}
    assert snapshots.read_schedule(ours, manifest["iterations"]) == snapshots.read_schedule(
        theirs, manifest["iterations"]
    )
    rates = {int(row["iteration"]): float(row["lr"]) for row in rows(theirs / "log.csv")}
    assert rates[1] == pytest.approx(0.03) and rates[max(rates)] == pytest.approx(3e-3)
