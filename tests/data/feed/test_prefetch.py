"""Feeding: the same bytes whatever the number of workers, exact resume, and no process left behind."""

import gc
import hashlib
import json
import os
import select
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
from pysrn.data.feed.augment import CornerCrop, write_view
from pysrn.data.feed.prefetch import Feeder
from pysrn.data.feed.settings import FeedSettings
from pysrn.data.pair.datum import raw_image
from pysrn.data.pair.lmdb_pair import Encoding, PairReader, write_pair
from pysrn.data.readers.records import Sample
from pysrn.recipes import class_names
from tests.holding import HANG, wait_until
from tests.srn import feed

ROOT = Path(__file__).resolve().parents[3]


def settings(folder, **changes):
    return feed(**{"folder": str(folder), "split": "train", "batch_size": 7, "seed": 2} | changes)


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


@pytest.fixture(scope="module")
def raw_shapes(small_shapes, tmp_path_factory):
    """The training images of the small data set once more, stored raw."""
    labels = np.resize(np.array([1, -1], np.int8), 16)
    samples = [Sample(path.stem, path, labels) for path in sorted((small_shapes / "images/train").glob("*.jpg"))]
    folder = tmp_path_factory.mktemp("raw")
    write_pair(samples, folder, "train", class_names("shapes"), 0, dataset="shapes", encoding=Encoding("raw"))
    return folder


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_do_not_change_a_byte(small_shapes, in_process, workers):
    assert_same(batches(settings(small_shapes, workers=workers), 15), in_process)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_do_not_change_a_byte_of_raw_records(raw_shapes, workers):
    assert_same(batches(settings(raw_shapes, workers=workers), 8), batches(settings(raw_shapes, workers=0), 8))


def test_raw_records_are_the_pixels_of_the_files(raw_shapes, small_shapes):
    reader = PairReader(raw_shapes, "train")
    for index in (0, 7, 39):
        file = small_shapes / "images/train" / f"{reader.keys[index].partition('_')[2]}.jpg"
        np.testing.assert_array_equal(reader.image(index), cv2.imread(str(file)))


@pytest.mark.parametrize("first_sample", [0, 23, 40, 1_000_003])
def test_any_sample_can_be_the_first(small_shapes, first_sample):
    """One sample at a time from far away, against batches that run across it."""
    single = batches(settings(small_shapes, first_sample=first_sample, batch_size=1, workers=0), 5)
    ((data, label),) = batches(settings(small_shapes, first_sample=first_sample, batch_size=5, workers=1), 1)
    assert data.tobytes() == b"".join(one.tobytes() for one, _ in single)
    assert label.tobytes() == b"".join(one.tobytes() for _, one in single)


@pytest.mark.parametrize(("ranks", "workers"), [(2, 0), (4, 0), (2, 1)])
def test_ranks_see_together_what_one_process_sees(small_shapes, ranks, workers):
    """Six batches of 12, as three iterations with iter_size 2 would take them, across the border of an epoch."""
    whole = batches(settings(small_shapes, batch_size=12, first_sample=5, workers=workers), 6)
    part = {"batch_size": 12 // ranks, "first_sample": 5, "ranks": ranks, "workers": workers}
    parts = [batches(settings(small_shapes, rank=rank, **part), 6) for rank in range(ranks)]
    joined = [tuple(map(np.concatenate, zip(*batch, strict=True))) for batch in zip(*parts, strict=True)]
    assert_same(joined, whole)


def test_ranks_resume_in_the_middle(small_shapes):
    part = {"batch_size": 3, "rank": 1, "ranks": 2, "workers": 0}
    assert_same(
        batches(settings(small_shapes, first_sample=4 * 6, **part), 4), batches(settings(small_shapes, **part), 8)[4:]
    )


def test_a_range_of_records_is_fed_alone(small_shapes):
    """Images 30 to 39 are held out: they never come in training and are all that comes in validation."""
    reader = PairReader(small_shapes, "train")
    crops = batches(settings(small_shapes, records=(0, 30), scale_ratios=(1.0,), mirror=False, batch_size=30), 2)
    (held_out, _), _ = batches(settings(small_shapes, records=(30, 40), train=False, batch_size=10), 2)
    mean = np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
    views = [cv2.resize(reader.image(n), (224, 224)).transpose(2, 0, 1).astype(np.float32) - mean for n in range(40)]
    for data, _ in crops:
        assert sorted(row.tobytes() for row in data) == sorted(view.tobytes() for view in views[:30])
    np.testing.assert_array_equal(held_out, np.stack(views[30:]))


@pytest.mark.parametrize("workers", [0, 2])
def test_testing_feeds_every_record_once_in_order_then_begins_anew(small_shapes, workers):
    """12 test images in batches of 5: the third batch is filled up with the first images."""
    found = batches(settings(small_shapes, split="test", train=False, batch_size=5, workers=workers), 3)
    images = np.concatenate([data for data, _ in found])
    ((once, labels),) = batches(settings(small_shapes, split="test", train=False, batch_size=12, workers=0), 1)
    np.testing.assert_array_equal(images, np.concatenate([once, once[:3]]))
    np.testing.assert_array_equal(labels, PairReader(small_shapes, "test").all_labels() == 1)
    assert len({image.tobytes() for image in once}) == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_waiting_is_counted(small_shapes, workers, monkeypatch):
    """As much as the waiting itself takes at least, and as the call takes at most; nothing between two calls."""
    real, inside = Feeder._next_batch, []

    def timed(feeder):
        started = time.monotonic()
        batch = real(feeder)
        inside.append(time.monotonic() - started)
        return batch

    monkeypatch.setattr(Feeder, "_next_batch", timed)
    feeder = Feeder(settings(small_shapes, workers=workers))
    try:
        assert feeder.waited == 0
        for number in range(7):
            if workers and number == 6:  # a batch is made meanwhile: nobody is waited for, the worker stands still
                assert select.select([feeder._workers[0].stdout], [], [], HANG)[0]
                os.kill(feeder.worker_ids[0], signal.SIGSTOP)
            before, started = feeder.waited, time.monotonic()
            feeder.next_batch()
            outside = time.monotonic() - started
            assert 0 < inside[-1] <= feeder.waited - before + 1e-9 and feeder.waited - before <= outside + 1e-9
        assert len(inside) == 7
    finally:
        for worker in feeder.worker_ids:
            os.kill(worker, signal.SIGCONT)
        feeder.close()


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
    for good in (
        settings(small_shapes, scale_ratios=(1.0, 0.5)),
        settings(small_shapes, records=(3, 9), rank=1, ranks=2),
    ):
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
        (json.dumps({"folder": "x", "split": "train", "batch_size": 1, "rank": 2, "ranks": 2}), "rank 2 of 2"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": 1, "ranks": 0}), "ranks is 0"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": 1, "records": [4, 4]}), "no range"),
        (json.dumps({"folder": "x", "split": "train", "batch_size": 1, "records": [4]}), "no range"),
    ]:
        with pytest.raises(UsageError, match=words):
            FeedSettings.from_json(text)
    with pytest.raises(MissingError):
        Feeder(settings("nowhere"))
    with pytest.raises(UsageError, match="records 30 to 41: train has 40"):
        Feeder(settings(small_shapes, records=(30, 41)))


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


def wait_for_the_end_of(processes):
    wait_until(lambda: not any(map(is_alive, processes)))
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
import sys, time
from pysrn.data.feed.settings import FeedSettings
from pysrn.data.feed.prefetch import Feeder
from pysrn.data.readers.records import Sample
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
def test_no_process_is_left_however_the_parent_ends(small_shapes, how, send):
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
    _, errors = parent.communicate(timeout=HANG)
    assert wait_for_the_end_of(workers)
    assert errors.count("Traceback") == (how == "raise" or send == signal.SIGINT)  # the parent's own, none of a worker


@pytest.fixture
def copied_pair(small_shapes, tmp_path):
    """A copy of the pair that a test may spoil."""
    folder = tmp_path / "copy"
    shutil.copytree(small_shapes, folder)
    return folder


def test_a_database_that_is_cut_off_while_it_is_read_is_named(copied_pair):
    """LMDB maps its file: reading what is cut off ends a worker with SIGBUS; the net's process says what that means."""
    feeder = Feeder(settings(copied_pair, workers=1))
    feeder.next_batch()
    os.truncate(copied_pair / "train_image.lmdb" / "data.mdb", 2 * 4096)
    with pytest.raises(SrnError, match=r"killed by SIGBUS.*cut off") as caught:
        for _ in range(10):
            feeder.next_batch()
    assert str(copied_pair) in str(caught.value)
    assert "make_lmdb" in caught.value.cure
    assert not feeder.worker_ids


def test_a_database_deleted_while_it_is_read_is_fed_on(copied_pair, in_process):
    feeder = Feeder(settings(copied_pair, workers=2))
    try:
        # a batch of each worker first: then each has opened the database
        found = [tuple(array.copy() for array in feeder.next_batch()) for _ in range(2)]
        shutil.rmtree(copied_pair)
        found += [tuple(array.copy() for array in feeder.next_batch()) for _ in range(8)]
        assert_same(found, in_process[:10])
    finally:
        feeder.close()
    with pytest.raises(MissingError, match="copy"):
        Feeder(settings(copied_pair))


def test_a_record_of_another_size_is_named(copied_pair):
    path = str(copied_pair / "train_image.lmdb")
    with lmdb.open(path, lock=False) as environment, environment.begin(write=True) as transaction:
        key = [key for key, _ in transaction.cursor()][3]
        transaction.put(key, raw_image(np.zeros((8, 9, 3), np.uint8)))
    with pytest.raises(SrnError, match=rf"train_image.lmdb: broken record {key.decode()}: 8 x 9 x 3 is not 256"):
        batches(settings(copied_pair, workers=1), 6)


def test_workers_leave_sigterm_to_the_net(small_shapes, in_process):
    """Batch systems send it to all processes of a job; the net's process still ends its iteration."""
    feeder = Feeder(settings(small_shapes, workers=2))
    try:
        found = [tuple(array.copy() for array in feeder.next_batch()) for _ in feeder.worker_ids]  # both are at work
        for worker in feeder.worker_ids:
            os.kill(worker, signal.SIGTERM)
        found += [tuple(array.copy() for array in feeder.next_batch()) for _ in range(6)]
        assert_same(found, in_process[:8])
        workers = feeder.worker_ids
    finally:
        feeder.close()
    assert not any(map(is_alive, workers))


def test_shared_memory_has_no_name_that_could_be_left(small_shapes):
    """The ring is a memfd: it goes with the last process that has it, so the test above is the test of memory too."""
    feeder = Feeder(settings(small_shapes, workers=2))
    try:
        for process in feeder.worker_ids:
            feeder.next_batch()  # made by this worker, so it has mapped the memory
            maps = Path(f"/proc/{process}/maps").read_text()
            assert "/memfd:pysrn-batches (deleted)" in maps
            assert "/dev/shm/" not in maps
    finally:
        feeder.close()


def count_open_files():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def mapped_rings():
    """How many rings this process has mapped."""
    gc.collect()
    return Path("/proc/self/maps").read_text().count("pysrn-batches")


@pytest.mark.parametrize("how", ["close", "forget", "killed worker", "broken record"])
def test_no_file_and_no_shared_memory_leaks(small_shapes, broken_pair, how):
    def feed():
        folder = broken_pair[0] if how == "broken record" else small_shapes
        feeder = Feeder(settings(folder, workers=1, batch_size=4))
        feeder.next_batch()
        if how == "close":
            feeder.close()
        if how == "killed worker":
            os.kill(feeder.worker_ids[0], signal.SIGKILL)
        if how in ("killed worker", "broken record"):
            with pytest.raises(SrnError):
                for _ in range(10):
                    feeder.next_batch()

    feed()  # what is opened once and kept
    files, rings = count_open_files(), mapped_rings()
    for _ in range(2):
        feed()
    assert (count_open_files(), mapped_rings()) == (files, rings)


def resident(process):
    """Private memory of a process in MB."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private")) / 1024


def test_memory_does_not_grow_over_many_epochs(small_shapes):
    feeder = Feeder(settings(small_shapes, workers=1, batch_size=20, records=(0, 4)))
    try:
        processes = [os.getpid(), *feeder.worker_ids]
        sizes = []
        for _ in range(2):
            for _ in range(20):  # 100 epochs
                feeder.next_batch()
            sizes.append([resident(process) for process in processes])
        assert all(after - before < 1 for before, after in zip(*sizes, strict=True)), sizes
    finally:
        feeder.close()


def test_two_processes_read_the_same_database(small_shapes, in_process):
    code = """
import hashlib, sys
from pysrn.data.feed.settings import FeedSettings
from pysrn.data.feed.prefetch import Feeder
feeder, digest = Feeder(FeedSettings.from_json(sys.argv[1])), hashlib.sha256()
for _ in range(15):
    for array in feeder.next_batch():
        digest.update(array.tobytes())
print(digest.hexdigest())
"""
    command = [sys.executable, "-c", code, settings(small_shapes, workers=1).to_json()]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    expected = hashlib.sha256(b"".join(array.tobytes() for batch in in_process for array in batch)).hexdigest()
    assert [process.communicate(timeout=HANG)[0].strip() for process in both] == [expected] * 2


def test_workers_start_light():
    """A worker loads neither Caffe nor Matplotlib nor Torch: it starts in a fraction of a second."""
    code = "import sys, pysrn.data.feed.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"caffe", "matplotlib", "torch", "scipy"} & set(loaded.stdout.split())
