"""Feeding: the same bytes whatever the number of workers, exact resume, and no process left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.augment import CornerCrop, write_view
from pysrn.data.batches import FeedSettings
from pysrn.data.lmdb_pair import PairReader, write_pair
from pysrn.data.prefetch import Feeder
from pysrn.data.records import Sample
from pysrn.recipes import class_names

ROOT = Path(__file__).resolve().parents[2]


def settings(folder, **changes):
    return FeedSettings(**{"folder": str(folder), "split": "train", "batch_size": 7, "seed": 2} | changes)


def batches(feed_settings, count):
    feeder = Feeder(feed_settings)
    try:
        return [tuple(values.copy() for values in feeder.next_batch()) for _ in range(count)]
    finally:
        feeder.close()


def assert_same(one, two):
    assert len(one) == len(two)
    for (data, label), (other_data, other_label) in zip(one, two, strict=True):
        assert data.tobytes() == other_data.tobytes()
        assert label.tobytes() == other_label.tobytes()


@pytest.fixture(scope="module")
def in_process(small_shapes):
    """15 batches of 7 of 40 samples: more than two epochs, with batches across the border of epochs."""
    return batches(settings(small_shapes, workers=0), 15)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_do_not_change_a_byte(small_shapes, in_process, workers):
    assert_same(batches(settings(small_shapes, workers=workers), 15), in_process)


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_in_the_middle_of_an_epoch(small_shapes, in_process, workers):
    resumed = batches(settings(small_shapes, first_sample=7 * 8, workers=workers), 7)
    assert_same(resumed, in_process[8:])
    # Another batch size sees the same samples: 3 batches of 14 from number 14 on are 6 of 7.
    large = batches(settings(small_shapes, first_sample=14, batch_size=14, workers=workers), 3)
    joined = [tuple(map(np.concatenate, zip(*in_process[k : k + 2], strict=True))) for k in (2, 4, 6)]
    assert_same(large, joined)


def test_what_is_fed_is_the_augmented_record(small_shapes, in_process):
    """The whole way written out once more: permutation, view, mean, labels."""
    reader = PairReader(small_shapes, "train")
    crop = CornerCrop(256, 224, (1.0, 0.875, 0.75, 0.66, 0.5), 1, True)
    number = 0
    for data, label in in_process:
        for row in range(7):
            epoch, position = divmod(number, 40)
            index = int(np.random.RandomState([2, epoch]).permutation(40)[position])
            expected = np.empty((3, 224, 224), np.float32)
            mean = np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
            write_view(reader.image(index), crop.draw(2, epoch, index), mean, expected)
            np.testing.assert_array_equal(data[row], expected)
            np.testing.assert_array_equal(label[row], reader.labels(index) == 1)
            number += 1


def test_testing_feeds_the_whole_image_in_order(small_shapes):
    (data, label), _ = batches(settings(small_shapes, split="test", train=False, workers=1), 2)
    reader = PairReader(small_shapes, "test")
    for row in range(7):
        image = cv2.resize(reader.image(row), (224, 224), interpolation=cv2.INTER_LINEAR)
        expected = image.transpose(2, 0, 1) - np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
        np.testing.assert_array_equal(data[row], expected)
        np.testing.assert_array_equal(label[row], reader.labels(row) == 1)


def test_unspecified_counts_as_negative(small_shapes, tmp_path):
    labels = np.resize(np.array([1, 0, -1], np.int8), 16)
    sample = Sample("a", small_shapes / "images/test/000000.jpg", labels)
    write_pair([sample], tmp_path, "train", class_names("shapes"), 0, dataset="shapes")
    ((_, label),) = batches(settings(tmp_path, batch_size=2, workers=0), 1)
    np.testing.assert_array_equal(label, np.tile(np.resize([1, 0, 0], 16), (2, 1)))


def test_seeds_differ(small_shapes, in_process):
    other = batches(settings(small_shapes, seed=3, workers=0), 1)
    assert other[0][0].tobytes() != in_process[0][0].tobytes()


def test_settings_are_checked_by_name(small_shapes):
    good = settings(small_shapes, scale_ratios=(1.0, 0.5))
    assert FeedSettings.from_json(good.to_json()) == good
    for text, words in [
        ("{", "not JSON"),
        ("[]", "missing batch_size"),
        (json.dumps({"folder": "x", "split": "train"}), "missing batch_size"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": 1, "sed": 1}), "unknown sed"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": 0}), "batch_size is 0"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": "8"}), "batch_size is '8'"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": 1, "scale_ratios": [2]}), "scale_ratios"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": 1, "mean": [1]}), "mean"),
    ]:
        with pytest.raises(UsageError, match=words):
            FeedSettings.from_json(text)
    with pytest.raises(MissingError):
        Feeder(settings("nowhere"))


@pytest.fixture
def broken_pair(small_shapes, tmp_path):
    """A copy of the pair in which one image record is spoilt; (folder, key)."""
    for path in small_shapes.glob("train_*.lmdb"):
        shutil.copytree(path, tmp_path / path.name)
    shutil.copy(small_shapes / "manifest.json", tmp_path)
    path = str(tmp_path / "train_image.lmdb")
    with lmdb.open(path, lock=False) as environment, environment.begin(write=True) as transaction:
        key = [key for key, _ in transaction.cursor()][17]
        transaction.put(key, b"\xff\xff")
    return tmp_path, key.decode()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_broken_record_is_named_and_ends_the_feed(broken_pair, workers):
    folder, key = broken_pair
    feeder = Feeder(settings(folder, workers=workers, batch_size=4))
    with pytest.raises(SrnError, match=f"broken record {key}"):
        for _ in range(10):
            feeder.next_batch()
    assert not feeder.worker_ids
    if workers:
        with pytest.raises(SrnError, match="closed"):
            feeder.next_batch()


def is_alive(process):
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_the_end_of(processes, seconds=10.0):
    end = time.monotonic() + seconds
    while any(map(is_alive, processes)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(is_alive, processes))


def test_a_killed_worker_is_an_error_at_once(small_shapes):
    feeder = Feeder(settings(small_shapes, workers=2))
    feeder.next_batch()
    workers = feeder.worker_ids
    os.kill(workers[1], signal.SIGKILL)
    with pytest.raises(SrnError, match=r"died \(killed by SIGKILL"):
        for _ in range(20):
            feeder.next_batch()
    assert wait_for_the_end_of(workers)


def test_closing_and_forgetting_end_the_workers(small_shapes):
    for forget in (False, True):
        feeder = Feeder(settings(small_shapes, workers=2))
        workers = feeder.worker_ids
        assert len(workers) == 2 and all(map(is_alive, workers))
        if not forget:
            feeder.close()
            feeder.close()  # twice does no harm
        del feeder
        assert wait_for_the_end_of(workers)


PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
from pysrn.data.batches import FeedSettings
from pysrn.data.prefetch import Feeder
from pysrn.data.records import Sample
from pysrn.recipes import class_names
feeder = Feeder(FeedSettings.from_json(sys.argv[1]))
feeder.next_batch()
print(*feeder.worker_ids, flush=True)
if sys.argv[2] == "raise":
    raise RuntimeError("on purpose")
if sys.argv[2] == "wait":
    while True:
        feeder.next_batch()
"""


@pytest.mark.parametrize(
    ("how", "send"),
    [
        ("end", None),
        ("raise", None),
        ("wait", signal.SIGINT),
        ("wait", signal.SIGTERM),
        ("wait", signal.SIGKILL),
    ],
)
def test_no_process_and_no_memory_is_left_however_the_parent_ends(small_shapes, how, send):
    shared_memory = set(os.listdir("/dev/shm"))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, settings(small_shapes, workers=2).to_json(), how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    if send == signal.SIGINT:
        os.killpg(parent.pid, send)  # Ctrl-C reaches the whole group
    elif send:
        parent.send_signal(send)
    _, errors = parent.communicate(timeout=20)
    assert wait_for_the_end_of(workers)
    assert set(os.listdir("/dev/shm")) <= shared_memory
    assert errors.count("Traceback") == (how == "raise" or send == signal.SIGINT)  # the parent's own, none of a worker


def test_workers_start_light():
    """A worker loads neither Caffe nor Matplotlib nor Torch: it starts in a fraction of a second."""
    code = "import sys, pysrn.data.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"caffe", "matplotlib", "torch", "scipy"} & set(loaded.stdout.split())
