"""A build that is ended at any moment goes on, and ends in the records of an undisturbed one."""

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from pysrn.console import SrnError, UsageError
from pysrn.data import build
from pysrn.data.build import build_dataset, unfinished_shapes
from pysrn.data.pair import image_writer, lmdb_file
from pysrn.data.pair.build_lock import sole_builder
from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_pair import PairReader, pair_paths
from pysrn.recipes import class_names
from tests.holding import HANG, Hold, wait_until

ROOT = Path(__file__).resolve().parents[3]
TOOL = [sys.executable, str(ROOT / "tools" / "make_lmdb.py")]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
BROKEN = (3, 4, 5, 20, 29)


def write_coco(root, counts, size=(64, 48)):
    """A COCO folder of noise JPEGs; those of BROKEN are cut off."""
    rng = np.random.default_rng(0)
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(class_names("coco"))]
    for part, count in counts.items():
        folder = root / f"{part}2014"
        folder.mkdir(parents=True)
        images = []
        for number in range(1, count + 1):
            pixels = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), size, interpolation=cv2.INTER_LINEAR)
            content = cv2.imencode(".jpg", pixels)[1].tobytes()
            name = f"{number:06d}.jpg"
            (folder / name).write_bytes(content[:-40] if number in BROKEN else content)
            images.append({"id": number, "file_name": name})
        annotations = [{"image_id": n, "category_id": int(rng.integers(1, 81)), "bbox": [0, 0, 9, 9], "iscrowd": 0,
                        "area": 81, "id": n} for n in range(1, count + 1)]  # fmt: skip
        (root / "annotations").mkdir(exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{part}2014.json").write_text(json.dumps(content))
    return root


def records(out):
    """All records in key order, the list of skipped images and the manifest."""
    found = {}
    for split in ("train", "test"):
        for path in pair_paths(out, split):
            environment = lmdb.open(str(path), readonly=True, lock=False)
            with environment.begin() as transaction:
                found[path.name] = list(transaction.cursor())
            environment.close()
    found["skipped"] = (out / "skipped.csv").read_text()
    found["manifest"] = json.loads((out / "manifest.json").read_text())
    return found


def is_tidy(out):
    return sorted(path.name for path in out.iterdir() if path.name not in ("images", "annotations")) == sorted(
        ["manifest.json", "skipped.csv", *(path.name for split in ("train", "test") for path in pair_paths(out, split))]
    )


@pytest.fixture(scope="module")
def small_coco(tmp_path_factory):
    root = write_coco(tmp_path_factory.mktemp("small"), {"train": 40, "val": 12})
    build_dataset("coco", root / "whole", root, workers=1)
    return root


KILLED_AT_CALL = """
import os, shutil, signal, sys
from pathlib import Path
import pysrn.data.build as build
from pysrn.data.pair import build_journal, image_writer, lmdb_file, manifest, pair_writer

root, out, force = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "force"
image_writer.TRANSACTION = 8
calls, last = 0, None

def counted(function):
    def call(*arguments, **options):
        global calls
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return function(*arguments, **options)
    return call

def in_child(work):
    child = os.fork()  # before OpenCV has started a thread in this process
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def run(at):
    global last
    last = at
    os.fsync, os.replace, os.mkdir = counted(os.fsync), counted(os.replace), counted(os.mkdir)
    shutil.rmtree, os.unlink = counted(shutil.rmtree), counted(os.unlink)
    for module in (image_writer, pair_writer):
        module.append = counted(module.append)
        module.open_growing = counted(module.open_growing)
    build.build_dataset("coco", out, root, workers=1, force=force)

old, stride = Path(sys.argv[4]), int(sys.argv[5])
for number in range(0, 1000, stride):
    shutil.rmtree(out, ignore_errors=True)
    if force:
        shutil.copytree(old, out)
    code = in_child(lambda: run(number))
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    assert in_child(lambda: run(number % 7 * 3 + 9)) in (0, -signal.SIGKILL)  # and again on the way
    assert in_child(lambda: run(None)) == 0
    kept = out.with_name(f"{out.name}{number}")
    os.rename(out, kept)
print(number)
"""


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["first", "force"])
def test_killed_before_any_step_that_changes_the_disk(small_coco, tmp_path, mode, stride):
    if mode == "force":
        build_dataset("coco", tmp_path / "old", small_coco, seed=9, workers=1)
    words = [sys.executable, "-c", KILLED_AT_CALL, small_coco, tmp_path / "out", mode, tmp_path / "old", str(stride)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    assert steps > 30  # mkdir, transactions, fsyncs, renames of two splits
    whole = records(small_coco / "whole")
    for number in range(0, steps, stride):
        out = tmp_path / f"out{number}"
        assert records(out) == whole and is_tidy(out), number


def start(*words, hold=None):
    environment = ENVIRONMENT | (hold.environment if hold else {})
    return subprocess.Popen(
        [*TOOL, *map(str, words)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def stored(out):
    """Records in the unfinished image database of the training split."""
    try:
        environment = lmdb.open(str(out / "train_image.lmdb.partial"), readonly=True, lock=False, create=False)
    except lmdb.Error:
        return 0
    with environment.begin() as transaction:
        count = transaction.stat()["entries"]
    environment.close()
    return count


OTHER_FILES = 60  # about so many times a build opens, makes or renames something that is no picture
JITTER = 0.1  # seconds, to hit what no file tells of


def kill_until(kills, out, words, rng, check, moments):
    """Kill the tool so often, at moments over its whole work; every build that gets through is checked.

    `moments`: what the tool is held at before it is killed: paths, and how often it comes to one of them at most.
    """
    assert start(*words).wait() == 0
    check(out)
    shutil.rmtree(out)
    killed = 0
    while killed < kills:
        path, most = rng.choice(moments)
        with Hold(out.parent, "make_lmdb.py", path, rng.randint(1, most)) as hold:
            process = start(*words, hold=hold)
            wait_until(lambda: hold.reached or process.poll() is not None)  # noqa: B023 (called here)
            time.sleep(rng.uniform(0, JITTER))  # its other threads and processes are still at work
            hit = process.poll() is None
            killed += hit
            process.kill()
            process.communicate()
        if not hit or rng.random() < 0.3:  # go on from here to the end; otherwise the next kill hits the rest
            before = stored(out)
            end = start(*words)
            _, said = end.communicate()
            assert end.returncode == 0, said
            if before and "train: complete already" not in said and "goes on behind" in said:
                assert int(re.search(r"goes on behind image ([\d,]+)", said)[1].replace(",", "")) >= before
            check(out)
            shutil.rmtree(out)
    assert start(*words).wait() == 0
    check(out)


def same_as(whole, out):
    assert is_tidy(out)
    assert records(out) == whole


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, kills):
    root = write_coco(tmp_path / "coco", {"train": 600, "val": 40}, size=(320, 240))
    build_dataset("coco", tmp_path / "whole", root, workers=3)
    words = ("coco", "--root", root, "--out", tmp_path / "out", "--workers", 2)
    whole = records(tmp_path / "whole")
    moments = [(r"/coco/.*\.jpg$", 640), (r"/out/", OTHER_FILES)]
    kill_until(kills, tmp_path / "out", words, random.Random(kills), partial(same_as, whole), moments)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_shapes_killed_at_random_moments(tmp_path, kills):
    build_dataset("shapes", tmp_path / "whole", seed=4, counts={"train": 60, "test": 20}, workers=1)
    words = ("shapes", "--out", tmp_path / "out", "--train", 60, "--test", 20, "--seed", 4, "--workers", 1)
    whole = records(tmp_path / "whole")

    def check(out):
        same_as(whole, out)
        for path in (tmp_path / "whole" / "images").rglob("*.jpg"):
            assert (out / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()

    moments = [(r"drawing\.partial", 4), (r"/out/images/.*\.jpg$", 80), (r"/out/(?!images)", OTHER_FILES)]
    kill_until(kills, tmp_path / "out", words, random.Random(kills), check, moments)


def test_no_process_outlives_a_killed_drawing(tmp_path):
    process = start("shapes", "--out", tmp_path / "out", "--workers", 2, "--train", 1_000_000)  # without end
    while not any(tmp_path.rglob("*.jpg")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=HANG)  # returns when all that hold its pipes are gone
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("words", [("--train", 100), ("--verify",)])
def test_a_worker_that_starts_while_its_parent_is_killed_ends(tmp_path, words):
    """It has not said yet that it wants to end with its parent, and would wait for work without end."""
    if "--verify" in words:
        build_dataset("shapes", tmp_path / "out", counts={"train": 2, "test": 2}, workers=1)
    with Hold(tmp_path, "multiprocessing.spawn", r"/pysrn/processes\.py$|/processes\.[^/]*pyc$") as hold:
        process = start("shapes", "--out", tmp_path / "out", *words, hold=hold)
        hold.wait(process)
        process.kill()
        process.wait()
    process.communicate(timeout=HANG)


class Ended(Exception):
    pass


def end_after(monkeypatch, transactions):
    """Let a build of this process end in its n-th transaction; returns what counts decoded images."""
    decoded, real_append, real_record = [], image_writer.append, Encoding.record
    left = iter(range(transactions))

    def append(environment, batch):
        if next(left, None) is None:
            raise Ended
        real_append(environment, batch)

    def record(self, sample):
        decoded.append(sample.key_name)
        return real_record(self, sample)

    monkeypatch.setattr(image_writer, "TRANSACTION", 8)
    monkeypatch.setattr(image_writer, "append", append)
    monkeypatch.setattr(Encoding, "record", record)
    return decoded


def begin(monkeypatch, root, out, transactions=3, **options):
    with monkeypatch.context() as patched:
        end_after(patched, transactions)
        with pytest.raises(Ended):
            build_dataset("coco", out, root, workers=1, **options)


def test_finished_records_are_not_done_again(small_coco, tmp_path, monkeypatch, capsys):
    begin(monkeypatch, small_coco, tmp_path / "out")
    decoded = end_after(monkeypatch, 1000)
    build_dataset("coco", tmp_path / "out", small_coco, workers=1)
    assert len(decoded) == 40 - 24 + 12
    assert "goes on behind image 24" in capsys.readouterr().err
    assert records(tmp_path / "out") == records(small_coco / "whole")
    decoded.clear()
    assert build_dataset("coco", tmp_path / "out", small_coco) == {"train": 35, "test": 9}
    assert "complete already" in capsys.readouterr().err and not decoded


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"encoding": Encoding("raw")}, {"encoding": Encoding(interpolation="linear")}, {"root": 2}]
)
def test_other_settings_or_labels_start_anew(small_coco, tmp_path, monkeypatch, capsys, change):
    begin(monkeypatch, small_coco, tmp_path / "out")
    root = small_coco
    if "root" in change:
        root = shutil.copytree(small_coco, tmp_path / "other", ignore=shutil.ignore_patterns("whole"))
        annotation = root / "annotations" / "instances_train2014.json"
        content = json.loads(annotation.read_text())
        content["annotations"][7]["category_id"] = content["annotations"][7]["category_id"] % 80 + 1
        annotation.write_text(json.dumps(content))
    options = {name: value for name, value in change.items() if name != "root"}
    build_dataset("coco", tmp_path / "expected", root, workers=1, **options)
    capsys.readouterr()
    build_dataset("coco", tmp_path / "out", root, workers=1, **options)
    assert "starts anew" in capsys.readouterr().err
    assert records(tmp_path / "out") == records(tmp_path / "expected")
    with pytest.raises(UsageError, match="already holds a data set"):
        build_dataset("coco", tmp_path / "out", small_coco, seed=77)


@pytest.mark.parametrize("damage", ["truncated", "a record gone", "journal gone", "journal damaged", "old leftover"])
def test_a_damaged_rest_starts_anew(small_coco, tmp_path, monkeypatch, damage):
    out = tmp_path / "out"
    begin(monkeypatch, small_coco, out)
    database, journal = out / "train_image.lmdb.partial", out / "train_build.partial"
    if damage == "truncated":
        os.truncate(database / "data.mdb", 9000)
    elif damage == "a record gone":
        environment = lmdb.open(str(database), lock=False)
        with environment.begin(write=True) as transaction:
            cursor = transaction.cursor()
            cursor.first()
            cursor.delete()
        environment.close()
    elif damage == "journal damaged":
        journal.write_bytes(journal.read_bytes().replace(b"[", b"{"))
    else:
        journal.unlink()
    build_dataset("coco", out, small_coco, workers=1)
    assert records(out) == records(small_coco / "whole") and is_tidy(out)


def test_force_replaces_a_split_only_when_its_successor_is_complete(small_coco, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build_dataset("coco", out, small_coco, seed=9, workers=1)
    before = records(out)
    begin(monkeypatch, small_coco, out, force=True)
    assert records(out) == before and len(PairReader(out, "train")) == 35
    begin(monkeypatch, small_coco, out, force=True, transactions=4)  # through train, into test
    decoded = end_after(monkeypatch, 1000)
    build_dataset("coco", out, small_coco, force=True, workers=1)
    assert len(decoded) <= 12  # nothing of train
    assert records(out) == records(small_coco / "whole") and is_tidy(out)
    decoded.clear()
    build_dataset("coco", out, small_coco, force=True, workers=1)  # nothing is unfinished: force means all of it
    assert len(decoded) == 52


def test_an_old_manifest_without_fingerprint_is_refused_and_replaced_by_force(small_coco, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(small_coco / "whole", out)
    manifest = json.loads((out / "manifest.json").read_text())
    for split in manifest["splits"].values():
        del split["fingerprint"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="already holds"):
        build_dataset("coco", out, small_coco)
    (out / "manifest.json").unlink()
    with pytest.raises(UsageError, match="already holds"):
        build_dataset("coco", out, small_coco)
    build_dataset("coco", out, small_coco, force=True)
    assert records(out) == records(small_coco / "whole")


def test_a_truncated_finished_split_is_named_and_force_mends_it(small_coco, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(small_coco / "whole", out)
    os.truncate(out / "test_image.lmdb" / "data.mdb", 20000)
    with pytest.raises(SrnError, match="truncated") as caught:
        build_dataset("coco", out, small_coco)
    assert "--force" in caught.value.cure
    build_dataset("coco", out, small_coco, force=True)
    assert records(out) == records(small_coco / "whole")


def test_one_builder_at_a_time(small_coco, tmp_path):
    with sole_builder(tmp_path):
        second = start("coco", "--root", small_coco, "--out", tmp_path)
        out, said = second.communicate()
        assert (second.returncode, out) == (1, "") and "another process is building in" in said, said
        assert "Traceback" not in said
    assert start("coco", "--root", small_coco, "--out", tmp_path).wait() == 0


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_arguments):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    with sole_builder(tmp_path):
        assert "cannot be locked (Bad file descriptor)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line_and_the_build_goes_on(tmp_path, number):
    root = write_coco(tmp_path / "coco", {"train": 700, "val": 5}, size=(320, 240))
    out = tmp_path / "out"
    with Hold(tmp_path, "make_lmdb.py", r"/train2014/.*\.jpg$", 650) as hold:  # in the thread that decodes
        process = start("coco", "--root", root, "--out", out, "--workers", 1, hold=hold)
        hold.wait(process)
        wait_until(lambda: stored(out))  # by the thread that gets the signal
        process.send_signal(number)
        hold.release()
        _, said = process.communicate()
    assert process.returncode == 130, said
    assert "interrupted" in said and "the same command goes on" in said and "Traceback" not in said
    again = start("coco", "--root", root, "--out", out)
    _, said = again.communicate()
    assert again.returncode == 0 and "goes on behind image" in said, said


def test_an_image_that_the_disk_does_not_give_stops_the_build_which_goes_on(tmp_path, small_coco):
    root = shutil.copytree(small_coco, tmp_path / "coco", ignore=shutil.ignore_patterns("whole"))
    photo = root / "train2014" / "000017.jpg"
    photo.rename(kept := tmp_path / "kept.jpg")
    photo.symlink_to("/proc/self/mem")  # EIO
    words = [*TOOL, "coco", "--root", root, "--out", tmp_path / "out"]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"Input/output error ({photo})" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out" / "manifest.json").exists()
    photo.unlink()
    kept.rename(photo)
    assert subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0
    found, whole = records(tmp_path / "out"), records(small_coco / "whole")
    assert found.pop("skipped").count("cut off") == whole.pop("skipped").count("cut off")  # with other paths
    assert found == whole


def test_a_database_that_cannot_be_opened_is_one_line_and_no_damage(tmp_path, monkeypatch, small_coco):
    """What is there already is kept: no file could be opened, which says nothing of the database."""
    begin(monkeypatch, small_coco, tmp_path / "out")
    there = tmp_path / "out" / "train_image.lmdb.partial"
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for most in (free, free + 1):  # none; one, with which it can be looked at but not opened
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
            with pytest.raises(OSError, match="Too many open files"):
                lmdb_file.open_growing(there)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert lmdb_file.open_growing(there).stat()["entries"]


def test_a_full_disk_is_one_line_and_the_build_goes_on(tmp_path, small_coco):
    out = tmp_path / "out"
    words = [*TOOL, "coco", "--root", small_coco, "--out", out, "--encoding", "raw"]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # the kernel's refusal is real
    full = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert full.returncode == 1 and "cannot be written" in full.stderr and "ulimit -f" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr and not (out / "manifest.json").exists()
    assert subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0
    build_dataset("coco", tmp_path / "expected", small_coco, encoding=Encoding("raw"))
    assert records(out) == records(tmp_path / "expected")


def test_a_folder_that_cannot_be_made(small_coco, tmp_path):
    (tmp_path / "file").touch()
    refused = start("coco", "--root", small_coco, "--out", tmp_path / "file" / "out")
    _, said = refused.communicate()
    assert refused.returncode == 1 and "Not a directory" in said and "another --out" in said, said
    assert "Traceback" not in said


def test_pictures_of_somebody_else_are_not_replaced_by_shapes(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.jpg").touch()
    with pytest.raises(UsageError, match="was not drawn by this tool"):
        build_dataset("shapes", tmp_path, counts={"train": 3, "test": 3}, workers=1)
    assert (tmp_path / "images" / "holiday.jpg").exists()


def test_what_a_killed_build_of_shapes_leaves_is_known(tmp_path, monkeypatch):
    for step, name in enumerate(("write_shapes", "write_pair", "discard")):
        out = tmp_path / name
        with monkeypatch.context() as patched:
            if name == "discard":
                patched.setattr("pysrn.data.pair.pair_writer.write_skipped", raise_ended)
            else:
                patched.setattr(build, name, raise_ended)
            with pytest.raises(Ended):
                build_dataset("shapes", out, counts={"train": 3, "test": 3}, workers=1)
        assert unfinished_shapes(out), (step, list(out.iterdir()))
    assert build_dataset("shapes", out, counts={"train": 3, "test": 3}, workers=1) == {"train": 3, "test": 3}
    assert not unfinished_shapes(out)


def raise_ended(*_arguments, **_options):
    raise Ended


def test_workers_do_not_change_a_byte(small_coco, tmp_path):
    build_dataset("coco", tmp_path / "three", small_coco, workers=3)
    assert records(tmp_path / "three") == records(small_coco / "whole")
