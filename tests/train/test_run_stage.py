"""Real stages of the embedded data set through tools/run_stage.py: order, copies, resume, kills, bad input."""

import csv
import json
import shutil
import signal

import numpy as np
import pytest

from pysrn.data.build import build_dataset
from pysrn.data.pair.encoding import Encoding
from pysrn.nets.caffemodel import read_weights
from pysrn.train.stage import snapshots
from tests.holding import HANG, Hold
from tests.train.conftest import COMMAND, SHORT, TRAINER, WITHOUT_END, assert_same_weights, wait_for_iteration
from tests.train.test_kills import children, kill_all


def test_missing_stages_run_first_in_order(finished):
    runs, done = finished
    assert done.stdout.strip() == str(runs / "shapes/stage4/weights.caffemodel")
    said = done.stderr
    places = [said.index(f"stage {n} done") for n in (1, 2, 3, 4)]
    assert places == sorted(places)
    for stage in (1, 2, 3, 4):
        folder = runs / "shapes" / f"stage{stage}"
        with open(folder / "log.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["iteration"]) for row in rows] == [1, 2, 3]
        assert all(np.isfinite(float(row["loss"])) and float(row["lr"]) > 0 for row in rows)


def test_fixed_layers_are_bit_identical_and_learning_ones_move(finished):
    runs, _ = finished
    weights = {n: read_weights(runs / f"shapes/stage{n}/weights.caffemodel") for n in (1, 2, 3, 4)}
    for stage, added in ((2, ("att_", "conf_")), (3, ("sr_",))):
        before, after = weights[stage - 1], weights[stage]
        assert {name for name in after if name not in before} == {n for n in after if n.startswith(added)}
        for name, blobs in before.items():  # res5 and cls_fc, which the stage's net does not hold, included
            assert all(a.tobytes() == b.tobytes() for a, b in zip(blobs, after[name], strict=True)), name
        manifest = json.loads((runs / f"shapes/stage{stage}/manifest.json").read_text())
        assert set(manifest["fixed"]) | set(manifest["carried"]) == set(before)
    moved = [
        name
        for name in weights[4]
        if any((a != b).any() for a, b in zip(weights[3][name], weights[4][name], strict=True))
    ]
    assert {"conv1", "res5a_branch2b", "cls_fc", "att_conv1", "conf_conv1", "sr_conv4", "sr_fc"} <= set(moved)


def test_done_stages_are_kept(finished, run_stage):
    runs, _ = finished
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.caffemodel")}
    again = run_stage("4", runs=runs)
    assert again.returncode == 0 and again.stderr.count("keep") == 4
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("*.caffemodel")}
    status = run_stage("--status", runs=runs)
    assert status.returncode == 0 and status.stdout.count(" done ") == 4 and "3/3" in status.stdout


def test_other_settings_on_a_finished_run_are_refused(finished, run_stage):
    runs, _ = finished
    refused = run_stage("4", "--seed", "5", runs=runs)
    assert refused.returncode == 2 and "other settings" in refused.stderr and "--restart" in refused.stderr
    refused = run_stage("4", "--dataset", "coco", "--run", "shapes", runs=runs)
    assert refused.returncode == 2 and "begun with shapes" in refused.stderr


def test_restart_sets_the_old_stage_aside_and_later_stages_follow(finished, run_stage, tmp_path):
    shutil.copytree(finished[0], tmp_path / "runs")
    again = run_stage("2", "--restart")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "runs/shapes/stage2.old1/weights.caffemodel").is_file()
    assert_same_weights(
        tmp_path / "runs/shapes/stage2/weights.caffemodel", finished[0] / "shapes/stage2/weights.caffemodel"
    )
    plan = run_stage("3", "--dry-run")
    assert "stage 3 (regulariser): keep" in plan.stderr  # the redone stage 2 came out the same
    record = tmp_path / "runs/shapes/stage3/begun.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"source_sha256": "of others"}))
    plan = run_stage("3", "--dry-run")
    assert "stage 3 (regulariser): redo" in plan.stderr


@pytest.mark.parametrize("stage", [1, 4])
def test_interrupted_run_goes_on_bit_for_bit(finished, run_stage, tmp_path, stage):
    """Ctrl-C, then SIGKILL of parent and child, then the end: the same weights as without a break."""
    if stage == 4:
        shutil.copytree(finished[0] / "shapes", tmp_path / "runs/shapes")
        shutil.rmtree(tmp_path / "runs/shapes/stage4")
    iterations = ",".join(["3"] * (stage - 1) + ["12"] * (5 - stage))
    arguments = (stage, "--iterations", iterations, *SHORT)
    straight = tmp_path / "straight"
    if stage == 4:
        shutil.copytree(tmp_path / "runs", straight)
    assert run_stage(*arguments, runs=straight).returncode == 0
    folder = tmp_path / "runs/shapes" / f"stage{stage}"

    with Hold(tmp_path, TRAINER, rf"stage{stage}/iter_000004\.json$") as hold:
        process = run_stage(*arguments, hold=hold)
        hold.wait(process)
        hold.interrupt(process, signal.SIGINT)
        said = process.communicate(timeout=HANG)[1]
        assert process.returncode == 130 and "iteration 5 is saved" in said, said

    with Hold(tmp_path, TRAINER, rf"stage{stage}/iter_000008\.json$") as hold:
        process = run_stage(*arguments, hold=hold)
        hold.wait(process)
        kill_all(process, [*children(process.pid), process.pid])
    done = run_stage(*arguments)
    assert done.returncode == 0 and "going on from the snapshot of iteration 6" in done.stderr, done.stderr
    assert_same_weights(folder / "weights.caffemodel", straight / f"shapes/stage{stage}/weights.caffemodel")
    with open(folder / "log.csv", newline="") as file:
        resumed = [row["loss"] for row in csv.DictReader(file)]
    with open(straight / f"shapes/stage{stage}/log.csv", newline="") as file:
        assert resumed == [row["loss"] for row in csv.DictReader(file)]


def test_caffes_last_fatal_line_becomes_the_error(finished, tmp_path):
    from pysrn.console import SrnError
    from pysrn.train.stage_process import run_child

    folder = tmp_path / "stage1"
    shutil.copytree(finished[0] / "shapes/stage1", folder)
    solver, net = folder / "solver.prototxt", folder / "net.prototxt"
    solver.write_text(solver.read_text().replace(str(finished[0] / "shapes"), str(tmp_path)))
    classifier = net.read_text().index('name: "cls_fc"')  # 17 scores, 16 labels:
    net.write_text(net.read_text()[:classifier] + net.read_text()[classifier:].replace("output: 16", "output: 17"))
    with pytest.raises(SrnError, match=r"Check failed.*killed by SIGABRT") as caught:
        run_child(folder, "stage 1", 3, 0)
    assert "train.log" in caught.value.cure


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("0",), 2, "at least 1"),
        (("x",), 2, "whole number"),
        (("1", "--dataset", "coco"), 3, "ImageNet weights"),
        (("1", "--weights", "nowhere.caffemodel"), 3, "nowhere.caffemodel"),
        (("1", "--data", "no/such/folder"), 3, "mend it: --data FOLDER, or "),
        (("--status",), 3, "no run"),
        (("1", "--gpu", "99"), 3, "CUDA device 99 cannot be used"),
        (("1", "--seed", "-5"), 2, "a whole number from 0"),
        (("1", "--seed", "4294967295"), 2, "a whole number from 0"),
        (("1", "--base-lr", "nan"), 2, "positive number"),
        (("1", "--iterations", "many"), 2, "positive whole number"),
        (("1", "--epochs", "1e9"), 2, "more than Caffe can count"),
        (("1", "--batch-size", "9" * 20), 2, "a whole number up to"),
        (("1", "--workers", "-1"), 2, "a whole number up to"),
        (("1", "--gpu", "first"), 2, "a whole number up to"),
        (("1", "--momentum", "much"), 2, "from 0 to below 1"),
        (("1", "--gamma", "2"), 2, "would raise the rate"),
        (("1", "--schedule", "plateau", "--min-lr", "1"), 2, "is above the rate 0.03 that stage 1"),
        (("1", "--train-bn", "4"), 2, "no BN statistics to keep"),
        (("1", "--train-bn", "2"), 2, "none, or of the stages 1, 4"),
    ],
)
def test_wrong_calls_end_with_one_clear_line(run_stage, tmp_path, arguments, code, words):
    data = {"data": arguments[2]} if "--data" in arguments else {}
    done = run_stage(*arguments[: 1 if data else None], **data)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())  # no trace of a refused start


def test_a_pair_of_another_size_is_refused(run_stage, tmp_path):
    small = {"counts": {"train": 8, "test": 2}, "encoding": Encoding(size=64), "workers": 1}
    build_dataset("shapes", tmp_path / "small", **small)
    done = run_stage("1", data=tmp_path / "small")
    assert done.returncode == 2 and "stores images of 64 x 64, SRN wants 256" in done.stderr
    assert "--image-size 256" in done.stderr


def test_weights_of_another_net_are_refused(run_stage, finished, tmp_path):
    done = run_stage("1", "--weights", finished[0] / "shapes/stage1/weights.caffemodel", "--trunk", "resnet50")
    assert done.returncode == 1 and "does not hold the weights of this net" in done.stderr
    assert not (tmp_path / "runs/shapes/run.json").exists()  # nothing has begun: other weights may follow
    damaged = tmp_path / "damaged.caffemodel"
    damaged.write_bytes((finished[0] / "shapes/stage1/weights.caffemodel").read_bytes()[:-1000])
    done = run_stage("1", "--weights", damaged, "--run", "second")
    assert done.returncode == 1 and "damaged" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["stage2/manifest.json", "stage2/begun.json", "run.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"recipe": {"trunk": "vgg"}, "data": 1, "weights": null}'])
def test_a_damaged_record_is_named_and_nothing_is_touched(finished, run_stage, tmp_path, name, content):
    shutil.copytree(finished[0], tmp_path / "runs")
    damaged = tmp_path / "runs/shapes" / name
    damaged.write_text(content)
    done = run_stage("2")
    assert done.returncode == 1 and f"{damaged} is damaged" in done.stderr and "Traceback" not in done.stderr
    assert damaged.read_text() == content and not list(tmp_path.rglob("*.old*"))


@pytest.mark.parametrize("suffix", ["caffemodel", "solverstate", "json"])
def test_a_damaged_snapshot_is_named_and_the_one_before_goes_on(finished, run_stage, tmp_path, suffix):
    shutil.copytree(finished[0], tmp_path / "runs")
    folder = tmp_path / "runs/shapes/stage1"
    (folder / "manifest.json").unlink()
    damaged = folder / f"iter_000003.{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    done = run_stage("1")
    assert done.returncode == 0, done.stderr
    assert f"warning: the snapshot {damaged} is damaged or gone; the one before it" in done.stderr
    assert "going on from the snapshot of iteration 2" in done.stderr
    assert_same_weights(folder / "weights.caffemodel", finished[0] / "shapes/stage1/weights.caffemodel")
    assert snapshots.newest_whole(folder) == (3, [])  # done again


def test_a_stage_without_a_whole_snapshot_begins_anew(finished, run_stage, tmp_path):
    shutil.copytree(finished[0], tmp_path / "runs")
    folder = tmp_path / "runs/shapes/stage1"
    (folder / "manifest.json").unlink()
    for path in folder.glob("iter_*.solverstate"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = run_stage("1")
    assert done.returncode == 0, done.stderr
    assert "and none before it is whole" in done.stderr and "redo, 3 iterations (no snapshot of it" in done.stderr
    assert len(list((tmp_path / "runs/shapes/stage1.old1").glob("iter_*"))) == 6  # set aside, not lost
    assert_same_weights(folder / "weights.caffemodel", finished[0] / "shapes/stage1/weights.caffemodel")


def test_status_and_plan_live_with_what_is_lost(finished, run_stage, tmp_path):
    folder = tmp_path / "runs/shapes"
    shutil.copytree(finished[0], tmp_path / "runs")
    (folder / "stage1/log.csv").write_bytes(b"iteration,loss\n1,\xff\n")
    assert run_stage("--status").stdout.count(" done ") == 4
    (folder / "stage2/begun.json").unlink()
    assert run_stage("4", "--dry-run").stderr.count("keep") == 4  # manifest.json knows the same
    (folder / "stage1/weights.caffemodel").unlink()  # its last snapshot is there
    plan = run_stage("2", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "stage 1 (main): resume" in plan.stderr and "stage 2 (attention): keep" in plan.stderr
    for record in (folder / "stage1").glob("iter_*.json"):
        record.unlink()
    plan = run_stage("2", "--dry-run")
    assert "stage 1 (main): run" in plan.stderr and "stage 2 (attention): redo" in plan.stderr


def test_damaged_final_weights_are_made_again_and_later_stages_stay(finished, run_stage, tmp_path):
    shutil.copytree(finished[0], tmp_path / "runs")
    weights = tmp_path / "runs/shapes/stage2/weights.caffemodel"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])  # or a user's own: it is not overwritten
    done = run_stage("4")
    assert done.returncode == 0, done.stderr
    assert f"warning: {weights} is not the file" in done.stderr and done.stderr.count("keep") == 3
    assert weights.read_bytes() == whole
    assert weights.with_name("weights.old1.caffemodel").read_bytes() == whole[:-1000]


def test_settings_that_later_finished_stages_have_otherwise_are_refused(finished, run_stage, tmp_path):
    shutil.copytree(finished[0], tmp_path / "runs")
    before = (tmp_path / "runs/shapes/run.json").read_bytes()
    refused = run_stage("1", "--base-lr", "0.03,9,9,9")
    assert refused.returncode == 2 and "stage2 was done with other settings" in refused.stderr
    assert "base_lr of stage 2: 0.003, asked for 9.0" in refused.stderr
    assert (tmp_path / "runs/shapes/run.json").read_bytes() == before
    refused = run_stage("1", "--weights", "nowhere.caffemodel")
    assert refused.returncode == 3 and "nowhere.caffemodel" in refused.stderr


def test_the_released_variant_trains_through_all_four_stages(run_stage, tmp_path):
    done = run_stage("4", "--variant", "released", "--train-bn", "1,4", "--iterations", "2", *SHORT)
    assert done.returncode == 0, done.stderr
    folders = {stage: tmp_path / f"runs/shapes/stage{stage}" for stage in (1, 2, 3, 4)}
    weights = {stage: read_weights(folder / "weights.caffemodel") for stage, folder in folders.items()}
    for stage in (2, 3):
        kept = weights[stage - 1].items()
        assert all(
            a.tobytes() == b.tobytes() for name, blobs in kept for a, b in zip(blobs, weights[stage][name], strict=True)
        )
    for name, blobs in weights[4].items():
        assert any((a != b).any() for a, b in zip(weights[3][name], blobs, strict=True)), name
    assert (folders[4] / "log.csv").read_text().startswith("iteration,loss,lr,seconds,loss_cls,loss_sr,loss_att")


def test_sigterm_before_a_stage_begins_is_an_interruption(run_stage, tmp_path):
    with Hold(tmp_path, COMMAND, r"shapes/run\.json") as hold:
        process = run_stage("1", "--iterations", "2", *SHORT, hold=hold)
        hold.wait(process)
        assert (tmp_path / "runs/shapes/lock").is_file()
        hold.interrupt(process, signal.SIGTERM)
        said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("program", "path", "words"),
    [
        pytest.param(COMMAND, r"stage1/job\.json$", "interrupted", id="before the child starts"),
        pytest.param(TRAINER, r"caffe/.*pycaffe", "before anything new was saved", id="while it starts"),
        pytest.param(TRAINER, r"stage1/net\.prototxt$", "iteration 1 is saved", id="before the first iteration"),
        pytest.param(TRAINER, r"stage1/iter_000001\.json$", "iteration 2 is saved", id="in the middle"),
        pytest.param(TRAINER, r"stage1/iter_000002\.json$", "stage 1 is done", id="before the last iteration"),
        pytest.param(TRAINER, r"stage1/iter_000003\.json$", "stage 1 is done", id="in the last iteration"),
        pytest.param(TRAINER, r"stage1/weights\.caffemodel$", "stage 1 is done", id="behind it"),
        pytest.param(COMMAND, r"stage1/manifest\.json", "interrupted", id="when the child has ended"),
        pytest.param(COMMAND, r"stage2/job\.json$", "interrupted", id="between the stages"),
    ],
)
def test_ctrl_c_stops_the_run_at_every_moment(run_stage, tmp_path, program, path, words):
    """While the child starts, in the middle, in the last iteration: always 130, never the next stage."""
    with Hold(tmp_path, program, path) as hold:
        process = run_stage("2", "--iterations", "3", *SHORT, "--snapshot-every", "1", hold=hold)
        hold.wait(process)
        hold.interrupt(process, signal.SIGINT)
        said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 130 and "interrupted" in said and words in said and "Traceback" not in said, said
    assert not (tmp_path / "runs/shapes/stage2/log.csv").exists()


def test_two_processes_on_one_run_are_kept_apart(run_stage, tmp_path):
    first = run_stage("1", *WITHOUT_END, *SHORT, wait=False)
    wait_for_iteration(tmp_path / "runs/shapes/stage1", 2)
    second = run_stage("1")
    assert second.returncode == 1 and "another process" in second.stderr
    first.terminate()
    first.communicate(timeout=HANG)
    assert first.returncode == 130
