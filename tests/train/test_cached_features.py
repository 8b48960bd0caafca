"""Stages 2 and 3 with cached trunk features: the weights of the stages that compute them, through kills and damage."""

import json
import random
import re
import shutil
import time
from contextlib import suppress

import numpy as np
import pytest

from tests.holding import HANG, Hold, wait_until
from tests.train.conftest import TRAINER, assert_same_weights, call_run_stage
from tests.train.test_kills import children, kill, kill_all
from tests.train.test_parallel import needs_mpi
from tests.train.test_watchfulness import rows, small_disk

__all__ = ["small_disk"]  # a fixture

# 36 images to train with, 12 for validation; batches of 4: an epoch is 9 iterations, two views are seen again after 18.
RECIPE = ("--validation-fraction", "0.25", "--validate-every", "8", "--views", "2", "--batch-size", "4")
RECIPE += ("--iterations", "2,22,24,2", "--snapshot-every", "5")
FP32 = ("--cache-features", "fp32")
ROW = 128 * 14 * 14 * 4  # bytes


@pytest.fixture(scope="module")
def main(small_data, tmp_path_factory):
    """A run with stage 1 done."""
    runs = tmp_path_factory.mktemp("main")
    done = call_run_stage("1", *RECIPE, runs=runs, data=small_data)
    assert done.returncode == 0, done.stderr
    return runs


@pytest.fixture
def call(main, small_data, tmp_path):
    """Calls on a copy of that run, in a folder that is named."""

    def on_copy(name, *arguments, **options):
        if not (tmp_path / name).exists():
            shutil.copytree(main, tmp_path / name)
        return call_run_stage(*arguments, runs=tmp_path / name, data=small_data, **options)

    return on_copy


@pytest.fixture(scope="module")
def computed(main, small_data, tmp_path_factory):
    """Stages 2 and 3 without a cache."""
    runs = tmp_path_factory.mktemp("computed") / "runs"
    shutil.copytree(main, runs)
    done = call_run_stage("3", runs=runs, data=small_data)
    assert done.returncode == 0, done.stderr
    return runs


def caches(runs):
    """Kind -> folder."""
    return {path.name.rpartition("_")[0]: path for path in (runs / "shapes/features").iterdir()}


def assert_same_stage(runs, others, stage):
    """The same weights and figures, bit for bit."""
    ours, theirs = (folder / f"shapes/stage{stage}" for folder in (runs, others))
    assert_same_weights(ours / "weights.caffemodel", theirs / "weights.caffemodel")
    assert [row["loss"] for row in rows(ours / "log.csv")] == [row["loss"] for row in rows(theirs / "log.csv")]
    assert (ours / "validation.csv").read_text() == (theirs / "validation.csv").read_text()


def test_cached_in_fp32_is_computed_bit_for_bit_and_stage_3_reuses(call, computed, tmp_path):
    done = call("cached", "2", *FP32)
    assert done.returncode == 0, done.stderr
    assert "98 KiB an image (fp32), 36 images in 2 views, 12 for validation: 8.0 MiB" in done.stderr
    files = sorted((tmp_path / "cached").rglob("features/*/*.bin"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    assert len(files) == 4 and not any(content.count(0) == len(content) for _, content in before.values())
    done = call("cached", "3", *FP32)
    assert done.returncode == 0, done.stderr
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    log = (tmp_path / "cached/shapes/stage3/train.log").read_text()
    assert "regulariser_on_features" in log and "regulariser_trunk" not in log  # nothing of the trunk was left
    for stage in (2, 3):
        assert_same_stage(tmp_path / "cached", computed, stage)
        begun = json.loads((tmp_path / f"cached/shapes/stage{stage}/begun.json").read_text())
        assert begun["features"] == ["fp32"]
    assert len({row["loss"] for row in rows(computed / "shapes/stage3/validation.csv")}) > 1


def test_the_variant_released_is_cached_as_well(small_data, tmp_path):
    arguments = ("1", "--variant", "released", *RECIPE, "--views", "1", "--iterations", "2,11,11,2")
    done = call_run_stage(*arguments, runs=tmp_path / "computed", data=small_data)
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "computed", tmp_path / "cached")
    for name, options in (("computed", ()), ("cached", FP32)):
        done = call_run_stage("3", *options, runs=tmp_path / name, data=small_data)
        assert done.returncode == 0, done.stderr
    for stage in (2, 3):
        assert_same_stage(tmp_path / "cached", tmp_path / "computed", stage)


def test_half_precision_is_close_and_takes_half(call, computed, tmp_path):
    done = call("half", "3", "--cache-features", "fp16")
    assert done.returncode == 0 and "49 KiB an image (fp16)" in done.stderr, done.stderr
    half, full = (
        np.array([float(row["loss"]) for row in rows(runs / "shapes/stage2/log.csv")])
        for runs in (tmp_path / "half", computed)
    )
    np.testing.assert_allclose(half[0], full[0], rtol=1e-4)  # the same weights; then the difference feeds on itself
    np.testing.assert_allclose(half[:6], full[:6], rtol=1e-3)
    np.testing.assert_allclose(half, full, rtol=5e-2)
    assert not np.array_equal(half, full)


def test_killed_while_the_cache_is_filled(call, computed, tmp_path):
    """SIGKILL of the command and the process that trains, then of the latter alone."""
    for iteration in (2, 4):
        with Hold(tmp_path, TRAINER, rf"stage2/iter_00000{iteration}\.json$") as hold:
            process = call("killed", "2", *FP32, "--snapshot-every", "1", hold=hold)
            hold.wait(process)
            victims = [*children(process.pid), process.pid]
            kill_all(process, victims if iteration == 2 else victims[:1])
        sums = np.fromfile(caches(tmp_path / "killed")["train_fp32"] / "checksums.bin", np.uint64)
        assert 4 * iteration <= np.count_nonzero(sums) < len(sums) == 72
    done = call("killed", "3", *FP32)
    assert done.returncode == 0 and "resume" in done.stderr, done.stderr
    for stage in (2, 3):
        assert_same_stage(tmp_path / "killed", computed, stage)


@pytest.mark.slow
def test_ten_kills_while_the_cache_is_filled(call, computed, tmp_path):
    """At files that are opened, and behind any number of rows: a row that counts as there is that of a run without."""

    def kept(name):
        """Kind -> checksums, and rows of bytes; the former are read first, as a process may still write."""
        paths = (tmp_path / name).glob("shapes/features/*/checksums.bin")
        sums = {path.parent: np.fromfile(path, np.uint64) for path in paths}
        rows = {folder: np.fromfile(folder / "features.bin", np.uint8).reshape(-1, ROW) for folder in sums}
        return {folder.name.rpartition("_")[0]: (sums[folder], rows[folder]) for folder in sums}

    def count():
        return sum(np.count_nonzero(sums) for sums, _ in kept("killed").values())

    assert call("straight", "2", *FP32).returncode == 0
    whole, rng, killed = kept("straight"), random.Random(16), 0
    for number in range(10):
        at_files, target = number < 4, rng.randrange(80)
        moment = r"features/[^/]+/" if at_files else r"stage2/manifest\.json$"
        with Hold(tmp_path, "", moment, 1 + 3 * number if at_files else 1) as hold:
            process = call("killed", "2", *FP32, "--snapshot-every", "1", hold=hold)
            wait_until(lambda: hold.reached or process.poll() is not None or count() > target)  # noqa: B023
            time.sleep(rng.uniform(0, 0.03))
            killed += kill(process, rng)
        for kind, (sums, found) in kept("killed").items():
            there = np.flatnonzero(sums)
            assert (sums[there] == whole[kind][0][there]).all() and (found[there] == whole[kind][1][there]).all()
    assert killed == 10
    done = call("killed", "2", *FP32)
    assert done.returncode == 0 and "damaged" not in done.stderr, done.stderr
    for kind, found in kept("killed").items():
        assert all((ours == theirs).all() for ours, theirs in zip(found, whole[kind], strict=True))
    assert_same_stage(tmp_path / "killed", computed, 2)


def test_damage_is_named_and_mended(call, computed, tmp_path):
    assert call("damaged", "2", *FP32).returncode == 0
    folder = caches(tmp_path / "damaged")["train_fp32"]
    with open(folder / "features.bin", "r+b") as file:
        file.seek(3 * ROW + 77)
        file.write(b"damage")
    done = call("damaged", "3", *FP32)
    assert done.returncode == 0 and f"warning: {folder}: damaged rows are computed anew: 3" in done.stderr, done.stderr
    assert_same_stage(tmp_path / "damaged", computed, 3)
    (folder / "manifest.json").write_text("{}")
    done = call("damaged", "3", *FP32, "--restart")
    assert done.returncode == 1 and f"{folder / 'manifest.json'} is damaged or of another" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_stage_1_has_another_cache(call, tmp_path):
    assert call("again", "2", *FP32, "--iterations", "2,3,3,2").returncode == 0
    before = set(caches(tmp_path / "again").values())
    done = call("again", "1", "--restart", "--seed", "7")
    assert done.returncode == 0, done.stderr
    assert call("again", "2", *FP32, "--restart").returncode == 0
    now = list((tmp_path / "again/shapes/features").iterdir())
    assert len(now) == 2 * len(before) and before < set(now)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_computed(call, small_disk, tmp_path):
    done = call("full", "3", *FP32, "--views", "3", "--iterations", "2,30,24,2", "--cache-folder", small_disk / "c")
    assert done.returncode == 2 and "the features need 11.5 MiB in" in done.stderr, done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert "--cache-folder on a larger disk" in done.stderr and not (small_disk / "c").exists()
    assert not (tmp_path / "full/shapes/stage2").exists()
    # Caches of other weights may be what fills the disk: they are of no use.
    (small_disk / "c/of_others").mkdir(parents=True)
    (small_disk / "c/of_others/features.bin").write_bytes(bytes(3 << 20))
    done = call("full", "2", *FP32, "--iterations", "2,15,24,2", "--cache-folder", small_disk / "c")
    assert done.returncode == 2 and re.search(r"the features need 6.9 MiB in .*, where 0 KiB are", done.stderr)
    assert "delete caches of earlier weights" in done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile_is_named_and_spoils_nothing(call, small_disk, tmp_path):
    """At a file of the cache, when the room for it has been found: the same command goes on once there is room."""
    words = ("--views", "1", "--iterations", "2,9,9,2")
    assert call("computed", "2", *words).returncode == 0
    words += (*FP32, "--cache-folder", small_disk / "c")
    for file in ("manifest.json.partial", "features.bin"):
        with Hold(tmp_path, "", rf"c/[^/]+/{re.escape(file)}$") as hold:
            process = call("full", "2", *words, hold=hold)
            hold.wait(process)
            with suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
                while filler.write(bytes(4096)):
                    pass
            hold.release()
            said = process.communicate(timeout=HANG)[1]
        assert process.returncode == 1 and "No space left on device" in said, said
        assert said.count("error:") == 1 and "Traceback" not in said and "0 KiB that" not in said
        (small_disk / "filler").unlink()
    done = call("full", "2", *words)
    assert done.returncode == 0 and "damaged" not in done.stderr, done.stderr
    assert_same_stage(tmp_path / "full", tmp_path / "computed", 2)


def test_wrong_calls_end_with_one_clear_line(call):
    for arguments, words in (
        (("--cache-folder", "x"), "--cache-folder is for --cache-features"),
        (("--whole-net", *FP32), "has no use for --cache-features"),
        (("--views", "0"), "at least 1"),
        (("--cache-features", "fp64"), "invalid choice"),
    ):
        done = call("wrong", "3", *arguments)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


@needs_mpi
def test_two_ranks_share_a_cache(call, tmp_path):
    assert call("computed", "3", "--ranks", "2").returncode == 0
    done = call("cached", "3", "--ranks", "2", *FP32)
    assert done.returncode == 0, done.stderr
    for stage in (2, 3):
        assert_same_stage(tmp_path / "cached", tmp_path / "computed", stage)
