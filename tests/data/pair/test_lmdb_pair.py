"""The LMDB pair: what goes in comes out, and no damaged or half-written pair passes for a whole one."""

import csv
import filecmp
import hashlib
import json
import os
import shutil
import struct
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.pair import datum, image_writer, lmdb_file
from pysrn.data.pair.lmdb_pair import Encoding, PairReader, pair_paths, write_pair
from pysrn.data.pair.pixels import BadImage, decode_bytes, sample_pixels
from pysrn.data.pair.skipped_images import say_skipped
from pysrn.data.readers.records import Sample
from pysrn.recipes import DATASETS, DatasetSpec

CLASSES = ("one", "two", "three")


def make_samples(folder, count, size=(300, 200)):
    """Smooth colour images (JPEG-friendly) as PNG files, with labels of all three kinds."""
    rng = np.random.default_rng(1)
    samples = []
    for index in range(count):
        pixels = cv2.resize(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), pixels)
        samples.append(Sample(f"img{index}", path, rng.integers(-1, 2, 3).astype(np.int8)))
    return samples


def write(samples, folder, split="train", **options):
    return write_pair(samples, folder, split, CLASSES, options.pop("seed", 0), dataset="own", workers=2, **options)


def contents(folder, split="train"):
    found = []
    for path in pair_paths(folder, split):
        with lmdb_file.open_whole(path).begin() as transaction:
            found.append(list(transaction.cursor()))
    return found


def test_everything_comes_back_in_one_shuffled_order(tmp_path):
    samples = make_samples(tmp_path, 30)
    assert write(samples, tmp_path / "out", encoding=Encoding("raw")) == 30
    reader = PairReader(tmp_path / "out", "train")
    assert (len(reader), reader.classes) == (30, CLASSES)
    by_name = {sample.key_name: sample for sample in samples}
    names = [key.split("_", 1)[1] for key in reader.keys]
    assert sorted(names) == sorted(by_name) and names != list(by_name)  # all, shuffled
    assert [int(key[:8]) for key in reader.keys] == list(range(30))
    for index, name in enumerate(names):
        np.testing.assert_array_equal(reader.labels(index), by_name[name].labels)
        whole = cv2.imread(str(by_name[name].path))
        expected = cv2.resize(whole, (256, 256), interpolation=cv2.INTER_LINEAR)  # 60,000 pixels grow to 65,536
        np.testing.assert_array_equal(reader.image(index), expected)
    np.testing.assert_array_equal(reader.all_labels(), [by_name[name].labels for name in names])


def test_seed_decides_the_order_and_nothing_else_does(tmp_path):
    samples = make_samples(tmp_path, 12)
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write(samples, tmp_path / name, seed=seed)
    write_pair(samples, tmp_path / "d", "train", CLASSES, 5, dataset="own", workers=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "d")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_the_files_hold_the_records_and_nothing_of_the_memory(tmp_path):
    """LMDB writes whole pages: what no record fills must not be what the memory held before."""
    samples, held = make_samples(tmp_path, 9), []
    for folder in (tmp_path / "a", tmp_path / "b"):
        held.append([os.urandom(4096 * pages) for pages in range(1, 200)])  # freed memory that is not zero
        held.clear()
        write(samples, folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("data.mdb"))
    assert len(files) == 2
    assert all(filecmp.cmp(tmp_path / "a" / file, tmp_path / "b" / file, shallow=False) for file in files)


def test_jpeg_is_near_the_pixels_and_smaller(tmp_path):
    samples = make_samples(tmp_path, 4)
    write(samples, tmp_path / "raw", encoding=Encoding("raw"))
    write(samples, tmp_path / "jpeg")
    raw, jpeg = PairReader(tmp_path / "raw", "train"), PairReader(tmp_path / "jpeg", "train")
    for index in range(4):
        assert np.abs(raw.image(index).astype(int) - jpeg.image(index)).mean() < 3
    assert sum(len(v) for _, v in contents(tmp_path / "jpeg")[0]) < 0.5 * 4 * 256 * 256 * 3


def test_boxes_and_kinds_of_files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "c.png"), pixels)
    labels = np.ones(3, np.int8)
    inside = Sample("in", tmp_path / "c.png", labels, (50, 20, 600, 500))
    expected = cv2.resize(pixels[20:520, 50:650], (256, 256), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(sample_pixels(inside, 256), expected)
    over = Sample("over", tmp_path / "c.png", labels, (-30, -10, 286, 266))  # reaches beyond the border
    np.testing.assert_array_equal(sample_pixels(over, 256), pixels[:256, :256])

    grey = pixels[:256, :256, 0]
    cv2.imwrite(str(tmp_path / "g.png"), grey)
    np.testing.assert_array_equal(sample_pixels(Sample("g", tmp_path / "g.png", labels), 256), np.dstack([grey] * 3))
    alpha = np.dstack([pixels[:256, :256], grey])
    cv2.imwrite(str(tmp_path / "a.png"), alpha)
    np.testing.assert_array_equal(sample_pixels(Sample("a", tmp_path / "a.png", labels), 256), alpha[..., :3])


def test_unreadable_images_are_skipped_and_listed(tmp_path):
    samples = make_samples(tmp_path, 6)
    samples[1].path.write_bytes(b"")
    samples[2].path.write_bytes(b"no image at all")
    samples[4].path.unlink()
    samples[5] = Sample("box", samples[5].path, samples[5].labels, (5000, 0, 10, 10))
    assert write(samples, tmp_path / "out") == 2
    write(samples[3:4], tmp_path / "out", "test")
    reader = PairReader(tmp_path / "out", "train")
    assert sorted(key.split("_")[1] for key in reader.keys) == ["img0", "img3"]
    rows = list(csv.reader((tmp_path / "out" / "skipped.csv").open()))
    assert rows[0] == ["split", "file", "reason"]
    reasons = {(split, file.rsplit("/", 1)[1]): reason for split, file, reason in rows[1:]}
    assert reasons["train", "1.png"] == "empty file"
    assert "not an image" in reasons["train", "2.png"]
    assert reasons["train", "4.png"] == "No such file or directory"
    assert "no pixel" in reasons["train", "5.png"]
    assert len(reasons) == 4
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]["train"]["skipped"] == 4


def test_a_jpeg_that_is_cut_off_is_refused_and_one_with_a_tail_is_not(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = cv2.imencode(".jpg", picture)[1].tobytes()
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole  # in a segment of its own, as EXIF has it
    for start in (whole, whole[:2] + thumbnail + whole[2:]):
        np.testing.assert_array_equal(decode_bytes(start + b"\0" * 9), decode_bytes(whole))
        with pytest.raises(BadImage, match="cut off"):
            decode_bytes(start[: -(len(whole) // 4)])


def test_what_the_reader_left_out_is_listed_too(tmp_path, capsys):
    samples = make_samples(tmp_path, 3)
    samples[1].path.write_bytes(b"")
    write(samples, tmp_path / "out", left_out=[("a.jpg", "no label"), ("b\udcff.jpg", "no label")])
    rows = list(csv.reader((tmp_path / "out" / "skipped.csv").open(encoding="utf-8")))
    assert rows[1:] == [
        ["train", "a.jpg", "no label"],
        ["train", "b\\udcff.jpg", "no label"],
        ["train", str(samples[1].path), "empty file"],
    ]
    assert "train: 3 images left out (no label: 2; empty file: 1)" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]["train"]["skipped"] == 3


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("no label", "no label: 10,000"),
        ("the file name is not UTF-8: train.csv line {}", "10,000 like: the file name is not UTF-8: train.csv line 5"),
        ('"annotations" row {} names category 7: not listed', '10,000 like: "annotations" row 5 names category 7'),
        ("n{}.xml: object 1: unknown class 'Cat'", "10,000 like: n5.xml: object 1: unknown class 'Cat'"),
        ("person {}: no valid box: [{}, None]", "10,000 like: person 5: no valid box: [5, None]"),
        ("file_name 'a/../{}.jpg' leads out of the image folder", "10,000 like: file_name 'a/../5.jpg' leads out"),
    ],
)
def test_reasons_of_one_kind_are_one_line_with_the_first_as_example(tmp_path, capsys, reason, shown):
    skipped = [("x.jpg", reason.format(number, number)) for number in range(5, 10_005)]
    say_skipped("train", [*skipped, ("y.jpg", "empty file")], tmp_path)
    line = capsys.readouterr().err
    assert f"train: 10,001 images left out ({shown}" in line and "; empty file: 1);" in line and len(line) < 400


def test_names_that_are_too_long_or_not_utf8_keep_their_image(tmp_path):
    samples = make_samples(tmp_path, 5)
    names = ["n" * 600, "n" * 600 + "2", "\u20ac" * 200, b"caf\xe9".decode("utf-8", "surrogateescape"), "a\0b/c d"]
    files = [os.fsencode(tmp_path) + b"/caf\xe9.png"]
    os.rename(samples[3].path, files[0])
    paths = [sample.path for sample in samples]
    paths[3] = Path(os.fsdecode(files[0]))
    samples = [Sample(name, path, sample.labels) for name, path, sample in zip(names, paths, samples, strict=True)]
    assert write(samples, tmp_path / "out", encoding=Encoding("raw")) == 5
    (images, labels), reader = contents(tmp_path / "out"), PairReader(tmp_path / "out", "train")
    assert [key for key, _ in images] == [key for key, _ in labels]
    assert all(len(key) <= 511 and key.decode("utf-8") for key, _ in images)
    by_path = {sample.path: sample for sample in samples}
    order = image_writer.shuffled(5, "train", 0)
    for index, number in enumerate(order):
        assert reader.keys[index].startswith(f"{index:08d}_{names[number][:1]}")
        np.testing.assert_array_equal(reader.labels(index), by_path[paths[number]].labels)
        np.testing.assert_array_equal(reader.image(index), sample_pixels(samples[number], 256))


def test_the_manifest_says_what_is_there(tmp_path):
    samples = make_samples(tmp_path, 8)
    write(samples, tmp_path / "out", encoding=Encoding("jpeg", 80, "linear"), sources=[samples[0].path])
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]["train"]
    values = np.array([sample.labels for sample in samples])
    assert entry["positives"] == dict(zip(CLASSES, (values == 1).sum(0).tolist(), strict=True))
    assert entry["unspecified"] == {c: n for c, n in zip(CLASSES, (values == 0).sum(0).tolist(), strict=True) if n}
    assert (entry["count"], entry["encoding"], entry["quality"], entry["interpolation"]) == (8, "jpeg", 80, "linear")
    assert entry["sources"] == {"0.png": hashlib.sha256(samples[0].path.read_bytes()).hexdigest()}
    for kind, found in zip(("images", "labels"), contents(tmp_path / "out"), strict=True):
        plain = b"".join(struct.pack("<II", len(key), len(value)) + key + value for key, value in found)
        assert entry["sha256"][kind] == hashlib.sha256(plain).hexdigest()


def test_counts_are_compared_with_the_published_ones(tmp_path, capsys, monkeypatch):
    samples = make_samples(tmp_path, 4)
    write_pair(samples, tmp_path / "coco", "train", CLASSES, 0, dataset="coco")
    assert "train: 4 images, 82,779 fewer than the published 82,783" in capsys.readouterr().err
    entry = json.loads((tmp_path / "coco" / "manifest.json").read_text())["splits"]["train"]
    assert (entry["published"], entry["difference"]) == (82783, -82779)
    monkeypatch.setitem(DATASETS, "coco", DatasetSpec("coco", 3, 4, "small"))
    write_pair(samples, tmp_path / "coco", "test", CLASSES, 0, dataset="coco")
    assert "test: 4 images, as published" in capsys.readouterr().err


def test_nothing_to_write_is_an_error_and_leaves_nothing_that_looks_whole(tmp_path):
    with pytest.raises(MissingError, match="empty"):
        write([], tmp_path / "out")
    samples = make_samples(tmp_path, 2)
    for sample in samples:
        sample.path.unlink()
    with pytest.raises(MissingError, match=r"no image .* can be read"):
        write(samples, tmp_path / "out")
    with pytest.raises(MissingError, match=r"manifest\.json"):
        PairReader(tmp_path / "out", "train")


def test_a_failed_rebuild_leaves_the_old_pair(tmp_path, monkeypatch):
    samples = make_samples(tmp_path, 5)
    write(samples, tmp_path / "out")
    before = contents(tmp_path / "out")

    def full_disk(environment, records):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_writer, "append", full_disk)
    with pytest.raises(OSError):
        write(samples, tmp_path / "out", seed=1)
    assert contents(tmp_path / "out") == before
    assert len(PairReader(tmp_path / "out", "train")) == 5


def test_another_data_set_in_the_folder_is_not_mixed_in(tmp_path):
    samples = make_samples(tmp_path, 2)
    write(samples, tmp_path / "out")
    with pytest.raises(SrnError, match="another data set"):
        write_pair(samples, tmp_path / "out", "test", CLASSES, 0, dataset="other")
    with pytest.raises(SrnError, match="with other classes"):
        write_pair(samples, tmp_path / "out", "test", ("x", "y", "z"), 0, dataset="own")
    assert PairReader(tmp_path / "out", "train").classes == CLASSES


def test_the_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_file, "FIRST_MAP_SIZE", 1 << 16)
    assert write(make_samples(tmp_path, 9), tmp_path / "out", encoding=Encoding("raw")) == 9
    assert PairReader(tmp_path / "out", "train").image(8).shape == (256, 256, 3)


@pytest.fixture
def pair(tmp_path):
    write(make_samples(tmp_path, 5), tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("keep", [0, 10, 150, 4096, 5000, 0.5, 0.99, -1])
def test_a_truncated_database_is_one_clear_line(pair, keep):
    file = pair / "train_image.lmdb" / "data.mdb"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(int(size * keep) if isinstance(keep, float) else keep if keep >= 0 else size + keep)
    with pytest.raises(SrnError, match="truncated") as caught:
        PairReader(pair, "train")
    assert str(file) in str(caught.value) and "--force" in caught.value.cure


def test_what_is_missing_is_named(pair, tmp_path):
    with pytest.raises(MissingError, match="no folder"):
        PairReader(tmp_path / "nowhere", "train")
    with pytest.raises(MissingError, match=r"no split 'val'.*there: train"):
        PairReader(pair, "val")
    shutil.rmtree(pair / "train_label.lmdb")
    with pytest.raises(MissingError, match=r"train_label\.lmdb"):
        PairReader(pair, "train")


def test_a_foreign_file_is_no_lmdb(pair):
    (pair / "train_label.lmdb" / "data.mdb").write_bytes(b"something else " * 1000)
    with pytest.raises(SrnError, match="not an LMDB file"):
        PairReader(pair, "train")


@pytest.mark.parametrize("text", ["{", "[]", '{"splits": {}}'])
def test_a_damaged_manifest(pair, text):
    (pair / "manifest.json").write_text(text)
    with pytest.raises(SrnError, match=r"manifest\.json"):
        PairReader(pair, "train")


def change(pair, kind, edit):
    environment = lmdb.open(str(pair / f"train_{kind}.lmdb"), lock=False)
    with environment.begin(write=True) as transaction:
        keys = [key for key, _ in transaction.cursor()]
        edit(transaction, keys)
    environment.close()
    return keys


def test_pairs_out_of_step(pair):
    keys = change(pair, "label", lambda txn, keys: txn.delete(keys[-1]))
    with pytest.raises(SrnError, match="5 images but 4 label vectors"):
        PairReader(pair, "train")
    change(pair, "label", lambda txn, _: txn.put(b"00000004_other", b""))
    with pytest.raises(SrnError, match=f"out of step: record 4 is {keys[4].decode()} and 00000004_other"):
        PairReader(pair, "train")
    change(pair, "label", lambda txn, _: txn.delete(b"00000004_other"))
    change(pair, "image", lambda txn, keys: txn.delete(keys[-1]))
    with pytest.raises(SrnError, match=r"holds 4 records, its manifest\.json says 5"):
        PairReader(pair, "train")


def test_broken_records_are_named(pair):
    def spoil(transaction, keys):
        transaction.put(keys[1], b"\xff")
        transaction.put(keys[2], b"")
        transaction.put(keys[3], datum.encoded_image(jpeg[:-100], 256, 256))
        transaction.put(keys[4], datum.Datum(channels=3, height=256, width=256, data=b"12").SerializeToString())

    jpeg = cv2.imencode(".jpg", np.zeros((256, 256, 3), np.uint8))[1].tobytes()
    keys = change(pair, "image", spoil)
    change(pair, "label", lambda txn, keys: txn.put(keys[3], b""))
    reader = PairReader(pair, "train")
    for index in (1, 2, 3, 4):
        with pytest.raises(SrnError, match=f"broken record {keys[index].decode()}"):
            reader.image(index)
    with pytest.raises(SrnError, match=f"broken record {keys[3].decode()}: 0 labels instead of 3"):
        reader.labels(3)
    assert reader.image(0).shape == (256, 256, 3)


def test_two_readers_in_one_process(pair):
    one, two = PairReader(pair, "train"), PairReader(pair, "train")
    del one
    assert two.image(0).shape == (256, 256, 3)
