"""The cache of trunk features: what it is named after, what damage does, what a disk that is full does."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pysrn.console import SrnError, UsageError
from pysrn.data.feed.batches import BatchMaker
from pysrn.data.feed.settings import FeedSettings
from pysrn.nets.fixed import split
from pysrn.systems.trunks.resnet import TRUNKS
from pysrn.train.fixed import feature_cache
from pysrn.train.fixed.feature_cache import FeatureCache, folder_of, identity
from pysrn.train.fixed.feature_room import FEATURES, announce, room_taken, rows_of
from tests.srn import CROP_SIZE, RECIPES, stages
from tests.srn import feed as feed_of
from tests.train.test_snapshots import largest_file

SHAPE = (4, 3, 2)


def not_needed():
    raise AssertionError("all rows are there")


@pytest.fixture(scope="module")
def parts():
    recipe = RECIPES["shapes"]
    trunk = split(
        stages.stage_net(recipe, 2, stages.DataSource("", workers=0)), TRUNKS[recipe.trunk].features, CROP_SIZE
    ).fixed[0]
    random = np.random.default_rng(0)
    return trunk, {name: [random.random(3).astype(np.float32)] for name in stages.parameter_layers(trunk)}


@pytest.fixture
def about(parts, small_data):
    return identity(*parts, feed_of(small_data, "train", 4), "fp32")


def test_name_follows_all_that_decides_the_features_and_nothing_else(parts, small_data, tmp_path, monkeypatch):
    trunk, weights = parts
    feed = feed_of(small_data, "train", 4)
    own = folder_of(tmp_path, identity(trunk, weights, feed, "fp32"))
    for same in ({"batch_size": 8}, {"first_sample": 9}, {"workers": 3}, {"rank": 1, "ranks": 2}, {"views": 2}):
        assert folder_of(tmp_path, identity(trunk, weights, replace(feed, **same), "fp32")) == own
    others = {"seed": 1}, {"mirror": False}, {"scale_ratios": (1.0,)}, {"records": (0, 9)}, {"train": False}
    names = {folder_of(tmp_path, identity(trunk, weights, replace(feed, **other), "fp32")) for other in others}
    names.add(folder_of(tmp_path, identity(trunk, weights, feed, "fp16")))
    names.add(folder_of(tmp_path, identity(trunk, weights, replace(feed, folder=str(tmp_path)), "fp32")))
    moved = {**weights, "conv1": [weights["conv1"][0] + np.float32(1e-6)]}
    names.add(folder_of(tmp_path, identity(trunk, moved, feed, "fp32")))
    wider = type(trunk).FromString(trunk.SerializeToString())
    wider.layer[1].convolution_param.stride[0] = 1
    names.add(folder_of(tmp_path, identity(wider, weights, feed, "fp32")))
    names.add(folder_of(tmp_path, identity(trunk, weights, feed, "fp32", on_gpu=True)))
    monkeypatch.setenv("CAFFE_TF32", "1")  # rounds factors to 10 bits, on a GPU alone
    assert folder_of(tmp_path, identity(trunk, weights, feed, "fp32")) == own
    names.add(folder_of(tmp_path, identity(trunk, weights, feed, "fp32", on_gpu=True)))
    monkeypatch.setattr(feature_cache, "engine_in_use", lambda: ("grouped",))
    names.add(folder_of(tmp_path, identity(trunk, weights, feed, "fp32")))
    monkeypatch.undo()
    assert len(names | {own}) == len(others) + 8
    later = {**weights, "att_conv1": [np.zeros(1)]}  # of another stage: not the trunk's
    assert folder_of(tmp_path, identity(trunk, later, feed, "fp32")) == own


def test_rows_are_computed_once_and_found_again(about, tmp_path):
    values = np.random.default_rng(1).normal(0, 9, (3, *SHAPE)).astype(np.float32)
    out = np.empty_like(values)
    cache = FeatureCache.make(tmp_path, about, SHAPE)
    cache.reserve(9)
    assert cache.fetch([5, 0, 7], out, lambda: values) == [] and cache.count() == 3
    np.testing.assert_array_equal(out, values)
    out[...] = 0
    again = FeatureCache.make(tmp_path, about, SHAPE)  # another process, with more rows to come
    again.reserve(30)
    assert again.fetch([5, 0, 7], out, not_needed) == []
    np.testing.assert_array_equal(out, values)
    mixed = np.empty((2, *SHAPE), np.float32)
    assert again.fetch([7, 8], mixed, lambda: values[:2]) == [] and again.count() == 4
    np.testing.assert_array_equal(mixed, [values[2], values[1]])  # what is there is not computed anew


def test_half_precision_gives_the_same_when_computed_and_when_read(about, tmp_path):
    values = np.random.default_rng(1).normal(0, 9, (1, *SHAPE)).astype(np.float32)
    first, second = np.empty_like(values), np.empty_like(values)
    cache = FeatureCache.make(tmp_path, about | {"precision": "fp16"}, SHAPE)
    cache.fetch([0], first, lambda: values)
    cache.fetch([0], second, not_needed)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, values, rtol=2**-11)
    assert not np.array_equal(first, values)
    with pytest.raises(SrnError, match="of up to 900000 cannot be kept as float16"):
        cache.fetch([1], first, lambda: np.full_like(values, 9e5))
    with pytest.raises(SrnError, match="features are not finite") as caught:
        cache.fetch([1], first, lambda: np.full_like(values, np.nan))
    assert "--restart" in caught.value.cure


@pytest.mark.parametrize("damage", ["a bit of a row", "a bit of a checksum", "cut off", "zeros"])
def test_a_damaged_row_is_computed_anew_and_named(about, tmp_path, damage):
    values = np.random.default_rng(1).normal(0, 9, (2, *SHAPE)).astype(np.float32)
    cache, out = FeatureCache.make(tmp_path, about, SHAPE), np.empty_like(values)
    cache.fetch([0, 1], out, lambda: values)
    name = feature_cache.CHECKSUMS if damage == "a bit of a checksum" else feature_cache.FEATURES
    content = bytearray((cache.folder / name).read_bytes())
    if damage == "cut off":
        del content[-5:]
    elif damage == "zeros":  # what a machine that lost its power may leave of the last row
        content[len(content) // 2 :] = bytes(len(content) // 2)
    else:
        content[-3] ^= 4
    (cache.folder / name).write_bytes(content)
    out[...] = 0
    cache = FeatureCache(cache.folder)
    assert cache.fetch([0, 1], out, lambda: values) == [1]
    np.testing.assert_array_equal(out, values)
    assert cache.fetch([0, 1], out, not_needed) == []


def test_a_row_in_the_place_of_another_is_damaged(about, tmp_path):
    values = np.random.default_rng(1).normal(0, 9, (2, *SHAPE)).astype(np.float32)
    cache, out = FeatureCache.make(tmp_path, about, SHAPE), np.empty_like(values)
    cache.fetch([0, 1], out, lambda: values)
    for name in (feature_cache.FEATURES, feature_cache.CHECKSUMS):
        content = (cache.folder / name).read_bytes()
        (cache.folder / name).write_bytes(content[len(content) // 2 :] + content[: len(content) // 2])
    assert FeatureCache(cache.folder).fetch([0, 1], out, lambda: values) == [0, 1]
    np.testing.assert_array_equal(out, values)


def test_runs_that_begin_at_once_share_what_the_first_one_makes(about, tmp_path):
    code = f"""import json, sys
from pathlib import Path
from pysrn.train.fixed.feature_cache import FeatureCache
import numpy as np
about = json.loads({json.dumps(about)!r})
for trial in range(20):
    sys.stdin.readline()
    cache = FeatureCache.make(Path({str(tmp_path)!r}) / str(trial), about, {SHAPE})
    cache.fetch([int(sys.argv[1])], np.empty((1, *{SHAPE}), np.float32), lambda: np.ones((1, *{SHAPE}), np.float32))
    print(trial, flush=True)
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    for trial in range(20):
        for process in started:
            print(file=process.stdin, flush=True)
        for process in started:
            assert process.stdout.readline() == f"{trial}\n"
        assert FeatureCache.make(tmp_path / str(trial), about, SHAPE).count() == 3
    for process in started:
        process.stdin.close()
        assert process.wait() == 0
        process.stdout.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write whatever it likes")
def test_what_may_only_be_read_is_read_and_what_may_not_is_not_called_damaged(about, tmp_path):
    values = np.random.default_rng(1).normal(0, 9, (2, *SHAPE)).astype(np.float32)
    cache, out = FeatureCache.make(tmp_path, about, SHAPE), np.empty_like(values)
    cache.fetch([0], out[:1], lambda: values[:1])
    for name in (feature_cache.FEATURES, feature_cache.CHECKSUMS):
        (cache.folder / name).chmod(0o444)
    cache.folder.chmod(0o555)
    shared = FeatureCache.make(tmp_path, about, SHAPE)
    shared.reserve(100)
    assert shared.fetch([0, 1], out, lambda: values) == [] and shared.count() == 1
    np.testing.assert_array_equal(out, values)
    (cache.folder / feature_cache.FEATURES).chmod(0)
    with pytest.raises(SrnError, match="cannot be read: Permission denied") as caught:
        FeatureCache.make(tmp_path, about, SHAPE)
    assert "delete" not in caught.value.cure
    cache.folder.chmod(0o755)


@pytest.mark.parametrize("content", ["{", "[]", '{"identity": {}, "shape": [1]}', '"shape": [1, 1, 1]', None])
def test_a_cache_that_says_something_else_is_refused(about, tmp_path, content):
    folder = FeatureCache.make(tmp_path, about, SHAPE).folder
    manifest = folder / feature_cache.MANIFEST
    foreign = manifest.read_text().replace('"mirror": true', '"mirror": false')
    assert foreign != manifest.read_text()
    if content and content.startswith('"shape"'):
        whole = json.loads(manifest.read_text())
        content = json.dumps(whole | json.loads(f"{{{content}}}"))
    manifest.write_text(foreign if content is None else content)
    with pytest.raises(SrnError, match="is damaged or of another cache") as caught:
        FeatureCache.make(tmp_path, about, SHAPE)
    assert str(folder) in caught.value.cure


@pytest.mark.parametrize("lost", [feature_cache.MANIFEST, feature_cache.FEATURES, feature_cache.CHECKSUMS])
def test_one_file_without_the_others_is_not_trusted(about, tmp_path, lost):
    values = np.ones((1, *SHAPE), np.float32)
    cache = FeatureCache.make(tmp_path, about, SHAPE)
    cache.fetch([0], np.empty_like(values), lambda: values)
    (cache.folder / lost).unlink()
    assert FeatureCache.make(tmp_path, about, SHAPE).count() == 0


def test_a_disk_that_cannot_hold_the_features_is_refused(about, tmp_path):
    cache = FeatureCache.make(tmp_path, about, SHAPE)
    with largest_file(1000), pytest.raises(SrnError, match=r"cannot have the 10 KiB that .*: File too large"):
        cache.reserve(100)
    values = np.ones((1, *SHAPE), np.float32)
    cache.fetch([3], np.empty_like(values), lambda: values)
    assert cache.count() == 1
    with largest_file(1000), pytest.raises(SrnError, match=r"features.bin cannot be written: File too large") as caught:
        cache.fetch([99], np.empty_like(values), lambda: values)
    assert "--cache-folder" in caught.value.cure and cache.count() == 1
    (tmp_path / "file").touch()
    with pytest.raises(SrnError, match="cannot be written: Not a directory"):
        FeatureCache.make(tmp_path / "file", about, SHAPE)


def test_room_is_compared_before_anything_starts(tmp_path, capsys):
    recipe = replace(RECIPES["coco"], batch_size=8)
    long = tuple(replace(plan, iterations=10**8, views=10**4) for plan in recipe.stages)
    with pytest.raises(UsageError, match=r"the features need 588009.1 GiB .* 0 KiB are and .* are free") as caught:
        announce(tmp_path / FEATURES, replace(recipe, stages=long), [2, 3], "fp32")  # 786,444,139 rows of 784 KiB
    assert "--cache-folder" in caught.value.cure and not (tmp_path / "features").exists()
    small = replace(recipe, dataset=replace(recipe.dataset, train_images=40))
    announce(tmp_path / FEATURES, small, [3], "fp16")
    said = capsys.readouterr().err
    # 48 iterations of 8 images: 384 rows, and 2 for validation
    assert "392 KiB an image (fp16), 38 images in 11 views, one an epoch (--views K" in said
    assert "2 for validation: 147.8 MiB" in said and f"features: 147.8 MiB in {tmp_path / 'features'}" in said
    seen = tuple(replace(plan, views=3) for plan in small.stages)
    announce(tmp_path / FEATURES, replace(small, stages=seen), [2, 3], "fp32")
    assert "stage 2 features: 784 KiB an image (fp32), 38 images in 3 views, 2 for" in capsys.readouterr().err


def test_only_caches_of_the_same_trunk_count_as_room(about, tmp_path, capsys):
    values = np.ones((1, *SHAPE), np.float32)
    for other in ({}, {"precision": "fp16"}, {"weights": "others"}):
        cache = FeatureCache.make(tmp_path, about | other, SHAPE)
        cache.fetch([0], np.empty_like(values), lambda: values)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / feature_cache.MANIFEST).write_text("[")
    own = folder_of(tmp_path, about)
    blocks = sum((own / name).stat().st_blocks for name in (feature_cache.FEATURES, feature_cache.CHECKSUMS))
    assert room_taken(tmp_path, "fp32", about["weights"]) == 512 * blocks > 0
    assert room_taken(tmp_path, "fp32", "nobody's") == 0
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--cache-folder must name a folder"):
        announce(tmp_path / "file", RECIPES["shapes"], [2], "fp32")


def test_as_many_rows_as_records_and_views():
    recipe = RECIPES["shapes"]  # 130 and 450 iterations of 16 images, of 1500
    for stage, views, rows in ((2, None, 2080), (3, None, 7200), (3, 2, 3000), (2, 2, 2080)):
        assert rows_of(recipe, stage, feed_of("", "train", 16, views=views)) == rows


def test_views_come_again_after_so_many_epochs(small_data):
    """48 images: sample n and its like one round of views later; the order stays new in every epoch."""
    feed = feed_of(small_data, "train", 48, workers=0, views=2, scale_ratios=(1.0, 0.75, 0.5))
    maker, endless = BatchMaker(feed), BatchMaker(replace(feed, views=None))
    data, label = zip(*([np.empty(shape, np.float32) for shape in maker.shapes] for _ in range(4)), strict=True)
    for epoch in range(4):
        maker.write(epoch, data[epoch], label[epoch])
    for number in range(96, 192):
        alike = maker.first_alike(number)
        assert alike // 48 == number // 48 - 2
        there, here = divmod(alike, 48), divmod(number, 48)
        np.testing.assert_array_equal(data[there[0]][there[1]], data[here[0]][here[1]])
        np.testing.assert_array_equal(maker.labels(number), label[here[0]][here[1]])
    assert [maker.first_alike(n) for n in range(96)] == list(range(96))
    assert not np.array_equal(data[0], data[2])
    expected = np.empty_like(data[0])
    endless.write(1, expected, label[0])
    np.testing.assert_array_equal(data[1], expected)  # the first views are those without `views`
    assert endless.first_alike(150) == 150 and '"views"' not in endless.settings.to_json()
    assert FeedSettings.from_json(feed.to_json()) == feed
    with pytest.raises(UsageError, match="views is 0"):
        replace(feed, views=0)


def test_still_records_are_alike_in_every_round(small_data):
    maker = BatchMaker(feed_of(small_data, "train", 5, train=False, records=(36, 48)))
    assert [maker.first_alike(n) for n in (0, 11, 12, 30)] == [0, 11, 0, 6]
