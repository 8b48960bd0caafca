"""`--labels-as 0-1`: other tools read 0 and 1, ours read what they read of any pair."""

import json

import numpy as np
import pytest

from pysrn.console import SrnError
from pysrn.data.pair.datum import SIGNED, ZERO_ONE, Datum
from pysrn.data.pair.lmdb_file import open_whole
from pysrn.data.pair.lmdb_pair import Encoding, PairReader, pair_paths
from pysrn.data.verify import verify_here
from tests.data.pair.test_lmdb_pair import make_samples, write
from tools import make_lmdb


def stored(folder, split="train"):
    """The numbers in the label database."""
    with open_whole(pair_paths(folder, split)[1]).begin() as transaction:
        return np.array([Datum.FromString(value).float_data for _, value in transaction.cursor()])


def test_zeros_and_ones_are_stored_and_read_rightly(tmp_path, capfd):
    samples = make_samples(tmp_path, 12)
    for name in (SIGNED, ZERO_ONE):
        for split in ("train", "test"):
            write(samples, tmp_path / name[:2].strip("/"), split, encoding=Encoding("raw", labels_as=name))
    plain, ours = PairReader(tmp_path / "1", "train"), PairReader(tmp_path / "0-", "train")
    assert set(stored(tmp_path / "1").flat) == {1, -1, 0} and ours.keys == plain.keys
    np.testing.assert_array_equal(stored(tmp_path / "0-"), plain.all_labels() > 0)
    expected = np.where(plain.all_labels() == 0, -1, plain.all_labels())
    np.testing.assert_array_equal(ours.all_labels(), expected)
    unspecified = (plain.all_labels() == 0).sum()
    assert f"train: {unspecified} unspecified labels are stored as no" in capfd.readouterr().err
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("1", "0-")]
    first, second = (manifest["splits"]["train"] for manifest in manifests)
    assert "labels_as" not in first and second["labels_as"] == ZERO_ONE
    assert second["positives"] == first["positives"] and first["unspecified"] and not second["unspecified"]
    assert verify_here(tmp_path / "0-") == {"train": 12, "test": 12}


def test_verify_sees_what_is_neither(tmp_path, capfd):
    samples = make_samples(tmp_path, 4)
    for split in ("train", "test"):
        write(samples, tmp_path / "out", split, encoding=Encoding("raw"))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    manifest["splits"]["train"]["labels_as"] = ZERO_ONE
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SrnError, match="train \\("):
        verify_here(tmp_path / "out")
    assert "has a label that is not 1, 0 or -1" in capfd.readouterr().err


def test_on_the_command_line(tmp_path, capsys):
    words = ["shapes", "--train", "4", "--test", "3", "--out", str(tmp_path / "set"), "--workers", "1"]
    assert make_lmdb.main([*words, "--labels-as", "0-1"]) == 0
    assert set(stored(tmp_path / "set").flat) == {0, 1}
    assert set(PairReader(tmp_path / "set", "train").all_labels().flat) == {1, -1}
    assert make_lmdb.main([*words, "--labels-as", "0-1"]) == 0  # complete already
    assert make_lmdb.main(words) == 2  # another way: --force
    assert "--force" in capsys.readouterr().err
