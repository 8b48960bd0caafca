"""`--verify` finds what is wrong with a pair, and says which record it is."""

import json
import shutil

import cv2
import lmdb
import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.pair import datum
from pysrn.data.verify import verify_dataset, verify_here
from tools import make_lmdb


@pytest.fixture
def pair(small_shapes, tmp_path):
    out = tmp_path / "pair"
    shutil.copytree(small_shapes, out)
    return out


def change(out, kind, index, edit):
    """Replace (or with None delete) a record of the training split; returns its key."""
    environment = lmdb.open(str(out / f"train_{kind}.lmdb"), lock=False)
    with environment.begin(write=True) as transaction:
        key, value = list(transaction.cursor())[index]
        transaction.put(key, edit(bytes(value)))
    environment.close()
    return key.decode()


def jpeg(height, width):
    pixels = np.full((height, width, 3), 90, np.uint8)
    return datum.encoded_image(cv2.imencode(".jpg", pixels)[1].tobytes(), height, width)


def faults(out, capsys, workers=2):
    with pytest.raises(SrnError, match="damaged: train") as caught:
        verify_here(out, workers)
    assert caught.value.exit_code == 1 and "--force" in caught.value.cure
    return [line for line in capsys.readouterr().err.splitlines() if "train_" in line]


def test_a_whole_pair(pair, capsys):
    assert verify_here(pair) == {"train": 40, "test": 12}
    assert "not checked" not in capsys.readouterr().err


def test_images_that_cannot_be_decoded_or_have_another_shape_are_named(pair, capsys):
    cut = change(pair, "image", 7, lambda value: value[:-60])
    small = change(pair, "image", 11, lambda _: jpeg(256, 255))
    first, second, third = faults(pair, capsys)
    assert f"broken record {cut}" in first
    assert f"record {small} is (256, 255, 3), not (256, 256, 3)" in second
    assert "train_image.lmdb: its records are not those that were written (SHA-256)" in third


def test_an_exchanged_image_is_found_by_its_hash_alone(pair, capsys):
    change(pair, "image", 3, lambda _: jpeg(256, 256))
    (line,) = faults(pair, capsys)
    assert "train_image.lmdb" in line and "SHA-256" in line


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda labels: labels * 0.5, "a label that is not 1, 0 or -1"),
        (lambda labels: labels[:-1], "labels instead of"),
        (lambda labels: np.full_like(labels, np.nan), "a label that is not 1, 0 or -1"),
    ],
)
def test_labels_that_cannot_be_are_named(pair, capsys, edit, words):
    def spoil(value):
        return datum.label_vector(edit(np.array(datum.Datum.FromString(value).float_data, np.float32)))

    key = change(pair, "label", 5, spoil)
    assert any(key in line and words in line for line in faults(pair, capsys))


def test_exchanged_labels_are_found_by_their_sums(pair, capsys):
    def negate(value):
        return datum.label_vector(-np.array(datum.Datum.FromString(value).float_data, np.float32))

    change(pair, "label", 0, negate)
    sums, hashes = faults(pair, capsys)
    assert "positives of" in sums and "train_label.lmdb" in sums and "SHA-256" in hashes


def test_a_key_out_of_order(pair, capsys):
    for kind in ("image", "label"):
        environment = lmdb.open(str(pair / f"train_{kind}.lmdb"), lock=False)
        with environment.begin(write=True) as transaction:
            key, value = list(transaction.cursor())[4]
            transaction.delete(key)
            transaction.put(b"00000004x" + key[9:], value)
        environment.close()
    assert any("does not start with its place" in line for line in faults(pair, capsys))


@pytest.mark.parametrize("where", ["classes", "positives"])
def test_a_label_that_no_picture_has_is_checked_by_its_name(pair, capsys, where):
    """Sums alone did not find its other name: both are zero."""
    path = pair / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["classes"].append("yeti")
    for entry in manifest["splits"].values():
        entry["positives"]["yeti"] = 0
    if where == "classes":
        manifest["classes"][-1] = "yeta"
    else:
        sums = manifest["splits"]["train"]["positives"]
        sums["yeta"] = sums.pop("yeti")
    path.write_text(json.dumps(manifest))
    with pytest.raises(SrnError, match="damaged: train"):
        verify_here(pair)
    assert 'manifest.json: the labels of train have other names in "positives"' in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_hash_that_has_lost_its_name_is_a_fault(pair, capsys, kind):
    """It was a KeyError."""
    path = pair / "manifest.json"
    manifest = json.loads(path.read_text())
    sums = manifest["splits"]["train"]["sha256"]
    sums["other"] = sums.pop(kind)
    path.write_text(json.dumps(manifest))
    assert any(f"train_{kind[:-1]}.lmdb: its records are not those" in line for line in faults(pair, capsys))


def test_an_old_manifest_says_what_was_not_checked(pair, capsys):
    path = pair / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["splits"].values():
        for name in ("sha256", "positives", "unspecified", "fingerprint"):
            del entry[name]
    path.write_text(json.dumps(manifest))
    assert verify_here(pair) == {"train": 40, "test": 12}
    assert "train: not checked, because its manifest.json does not have them: positives, sha256" in (
        capsys.readouterr().err
    )
    change(pair, "image", 7, lambda value: value[:-60])
    assert len(faults(pair, capsys)) == 1


def test_the_tool_says_it_and_ends_with_1(pair, capfd):
    change(pair, "image", 7, lambda value: value[:-60])
    assert make_lmdb.main(["shapes", "--out", str(pair), "--verify"]) == 1
    said = capfd.readouterr()
    assert said.out == "" and "broken record" in said.err and "is damaged: train (2 faults)" in said.err


def test_a_split_that_is_not_there(pair):
    path = pair / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["splits"]["test"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(MissingError, match="no split 'test'"):
        verify_here(pair)


@pytest.mark.parametrize("seed", range(6))
def test_overwritten_records_never_pass(pair, seed):
    rng = np.random.default_rng(seed)
    kind = ("image", "label")[seed % 2]
    file = pair / f"train_{kind}.lmdb" / "data.mdb"
    environment = lmdb.open(str(file.parent), readonly=True, lock=False)
    with environment.begin() as transaction:
        value = list(transaction.cursor())[int(rng.integers(40))][1]
    environment.close()
    content = bytearray(file.read_bytes())
    place = content.index(value) + int(rng.integers(len(value) - 8))
    content[place : place + 8] = rng.bytes(8)
    file.write_bytes(content)
    with pytest.raises(SrnError):
        verify_here(pair)


def test_a_tree_that_ends_the_process_is_damage_too(pair):
    """Every page but the first two, whose pointers then lead out of the file."""
    file = pair / "train_label.lmdb" / "data.mdb"
    content = bytearray(file.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 + 16 : page * 4096 + 200] = b"\xf1" * 184
    file.write_bytes(content)
    with pytest.raises(SrnError):
        verify_dataset("shapes", pair)
