"""Pairs cut out of a pair: which records go where, that they are the same bytes, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from pysrn.console import MissingError, UsageError
from pysrn.data.build import build_dataset
from pysrn.data.cut import cut_pair, shuffle_labels
from pysrn.data.pair.lmdb_pair import PairReader
from tests.systems.reference import datums
from tools.make_lmdb import main


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """40 training and 12 test images."""
    folder = tmp_path_factory.mktemp("pair")
    build_dataset("shapes", folder, counts={"train": 40, "test": 12}, workers=1)
    return folder


def records(folder, split):
    """Key -> image and label record, as bytes."""
    images, labels = (datums(folder / f"{split}_{kind}.lmdb") for kind in ("image", "label"))
    assert [key for key, _ in images] == [key for key, _ in labels]
    return {key: (one.data, tuple(other.float_data)) for (key, one), (_, other) in zip(images, labels, strict=True)}


def test_training_images_are_divided_and_the_test_images_are_nowhere(pair, tmp_path):
    assert cut_pair(pair, tmp_path / "cut", 0.25, seed=1) == {"train": 30, "test": 10}
    whole, test = records(pair, "train"), records(pair, "test")
    train, held_out = (records(tmp_path / "cut", split) for split in ("train", "test"))
    assert not train.keys() & held_out.keys() and train | held_out == whole
    assert not {image for image, _ in test.values()} & {image for image, _ in (train | held_out).values()}
    found = PairReader(tmp_path / "cut", "test")
    assert found.classes == PairReader(pair, "test").classes and found.image(3).shape == (256, 256, 3)
    entry = json.loads((tmp_path / "cut" / "manifest.json").read_text())["splits"]["train"]
    labels = PairReader(tmp_path / "cut", "train").all_labels()
    assert entry["count"] == 30 and list(entry["positives"].values()) == (labels > 0).sum(0).tolist()


def test_seed_decides_and_the_same_cut_is_kept(pair, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cut_pair(pair, tmp_path / name, 0.25, seed)
    a, b, c = (set(records(tmp_path / name, "test")) for name in "abc")
    assert a == b != c
    before = (tmp_path / "a" / "manifest.json").stat().st_mtime_ns
    assert cut_pair(pair, tmp_path / "a", 0.25, 1) == {"train": 30, "test": 10}
    assert (tmp_path / "a" / "manifest.json").stat().st_mtime_ns == before


def test_what_is_there_and_other_is_not_replaced(pair, tmp_path):
    cut_pair(pair, tmp_path / "cut", 0.25, 1)
    with pytest.raises(UsageError, match="holds something else"):
        cut_pair(pair, tmp_path / "cut", 0.5, 1)
    shutil.copytree(pair, tmp_path / "pair")
    with pytest.raises(UsageError, match="holds something else"):
        cut_pair(pair, tmp_path / "pair", 0.25, 1)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.999])
def test_a_part_without_images_is_refused(pair, tmp_path, fraction):
    with pytest.raises(UsageError, match="leaves one part empty"):
        cut_pair(pair, tmp_path / "cut", fraction)
    assert not (tmp_path / "cut").exists()


def test_what_an_interrupted_cut_left_is_no_hindrance(pair, tmp_path):
    (tmp_path / "cut.partial").mkdir()
    (tmp_path / "cut.partial" / "half").write_text("x")
    cut_pair(pair, tmp_path / "cut", 0.25)
    assert not (tmp_path / "cut.partial").exists() and len(PairReader(tmp_path / "cut", "train")) == 30


def test_labels_are_dealt_out_anew_in_training_alone(pair, tmp_path):
    assert shuffle_labels(pair, tmp_path / "dealt") == {"train": 40, "test": 12}
    before, after = records(pair, "train"), records(tmp_path / "dealt", "train")
    assert {key: image for key, (image, _) in before.items()} == {key: image for key, (image, _) in after.items()}
    assert sorted(labels for _, labels in before.values()) == sorted(labels for _, labels in after.values())
    assert np.mean([before[key][1] == after[key][1] for key in before]) < 0.3
    assert records(pair, "test") == records(tmp_path / "dealt", "test")


def test_the_tool_cuts(pair, tmp_path, capsys):
    words = ["shapes", "--cut", str(pair), "--validation-fraction", "0.25", "--out", str(tmp_path / "cut")]
    assert main([*words, "--seed", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/cut train: 30 images",
        f"{tmp_path}/cut test: 10 images",
    ]
    cut_pair(pair, tmp_path / "same", 0.25, 1)
    assert records(tmp_path / "cut", "test") == records(tmp_path / "same", "test")
    assert main(["coco", *words[1:]]) == 2 and "holds shapes, not coco" in capsys.readouterr().err
    assert main(["shapes", "--cut", str(pair), "--out", str(tmp_path / "x")]) == 2  # how much?
    assert main(["shapes", "--validation-fraction", "0.2", "--out", str(tmp_path / "x")]) == 2  # of what?
    assert main([*words[:5], "--out", str(pair)]) == 2
    assert main(["shapes", "--cut", str(tmp_path / "none"), *words[3:]]) == 3


def test_no_pair_is_missing(tmp_path):
    with pytest.raises(MissingError):
        cut_pair(tmp_path, tmp_path / "cut", 0.25)
