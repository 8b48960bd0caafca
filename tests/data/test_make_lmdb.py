"""The tool from the outside: its results, exit codes and messages."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pysrn.data.build import unfinished_shapes
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.recipes import class_names

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_lmdb.py"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )


def contents(folder):
    return {
        path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != "lock.mdb"
    }


def test_shapes_are_built_verified_and_not_overwritten(tmp_path):
    out = tmp_path / "deep" / "shapes"
    made = run("shapes", "--out", out, "--train", 8, "--test", 4)
    assert (made.returncode, made.stdout) == (0, f"{out} train: 8 images\n{out} test: 4 images\n")
    assert not list(out.rglob("*.partial"))
    before = contents(out)

    verified = run("shapes", "--out", out, "--verify")
    assert (verified.returncode, verified.stdout) == (0, made.stdout)

    again = run("shapes", "--out", out, "--train", 9)
    assert again.returncode == 2
    assert "already holds a data set" in again.stderr and "--force" in again.stderr
    assert contents(out) == before

    forced = run("shapes", "--out", out, "--train", 5, "--test", 4, "--seed", 1, "--encoding", "raw", "--force")
    assert forced.returncode == 0, forced.stderr
    assert len(PairReader(out, "train")) == 5
    assert len(list((out / "images" / "train").iterdir())) == 5
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 1
    assert manifest["splits"]["train"]["encoding"] == "raw"


def test_a_complete_pair_on_a_read_only_disk_is_kept(tmp_path):
    made = run("shapes", "--out", tmp_path, "--train", 4, "--test", 2)
    tool = f"{sys.executable} {ROOT / 'tools' / 'make_lmdb.py'} shapes --out {tmp_path} --train 4 --test 2"
    remount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*alone, remount], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a folder read-only in a namespace of its own")
    again = subprocess.run([*alone, f"{remount} && exec {tool}"], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (0, made.stdout), again.stderr
    assert again.stderr.count("complete already") == 2


def refusal(code, words, *arguments):
    result = run(*arguments)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_mistakes_are_one_line_and_the_right_code(tmp_path):
    refusal(2, "shapes", "imagenet", "--out", tmp_path / "x")  # lists what there is
    refusal(2, "--root", "coco", "--out", tmp_path / "x")
    refusal(2, "no --root", "shapes", "--root", tmp_path, "--out", tmp_path / "x")
    refusal(2, "--lists is not for shapes", "shapes", "--lists", tmp_path, "--out", tmp_path / "x")
    refusal(2, "a whole number, at least 1", "shapes", "--workers", "two", "--out", tmp_path / "x")
    refusal(2, "at least 1", "shapes", "--train", 0, "--out", tmp_path / "x")
    refusal(3, "no folder", "coco", "--root", tmp_path / "nowhere", "--out", tmp_path / "x")
    refusal(3, "instances_train<year>.json", "coco", "--root", tmp_path, "--out", tmp_path / "x")
    refusal(3, "LMDB folder not found", "shapes", "--verify", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_damaged_manifest_is_named_with_its_cure(tmp_path):
    for content in ("{", '{"classes": 5, "splits": {}}', '{"classes": ["a"], "splits": {"train": []}}'):
        (tmp_path / "manifest.json").write_text(content)
        result = run("shapes", "--verify", "--out", tmp_path)
        assert result.returncode == 1 and f"delete {tmp_path / 'manifest.json'}" in result.stderr, result.stderr
        assert "Traceback" not in result.stderr


def test_what_an_interrupted_drawing_leaves_is_known_from_other_data(small_shapes, tmp_path):
    assert unfinished_shapes(tmp_path / "none") and not unfinished_shapes(small_shapes)
    folder = tmp_path / "shapes"
    (folder / "drawing.partial").mkdir(parents=True)
    assert unfinished_shapes(folder)
    (folder / "holiday.jpg").touch()
    assert not unfinished_shapes(folder)
    manifest = json.loads((small_shapes / "manifest.json").read_text())
    del manifest["splits"]["test"]
    for dataset, unfinished in (("shapes", True), ("coco", False)):
        (folder / "manifest.json").write_text(json.dumps(manifest | {"dataset": dataset}))
        assert unfinished_shapes(folder) is unfinished


def own_data(root, classes):
    """Two images of a user's own, labelled with the first class and with the last."""
    root.mkdir(exist_ok=True)
    for split, labels in (("train", [1] + [0] * (len(classes) - 1)), ("test", [0] * (len(classes) - 1) + [1])):
        cv2.imwrite(str(root / f"{split}.png"), np.full((9, 9, 3), 99, np.uint8))
        rows = (("file", *classes), (f"{split}.png", *map(str, labels)))
        (root / f"{split}.csv").write_text("\n".join(map(",".join, rows)))


def test_other_classes_replace_the_old_ones_only_with_force(tmp_path):
    out = tmp_path / "out"
    for classes, force, code in ((("a", "b"), [], 0), (("b", "c", "d"), [], 2), (("b", "c", "d"), ["--force"], 0)):
        own_data(tmp_path / "own", classes)
        done = run("folder", "--root", tmp_path / "own", "--out", out, *force)
        assert done.returncode == code, done.stderr
    for split, labels in (("train", [1, -1, -1]), ("test", [-1, -1, 1])):
        reader = PairReader(out, split)
        assert reader.classes == ("b", "c", "d") and reader.labels(0).tolist() == labels


def test_own_tables_with_look_alikes_and_another_separator(tmp_path):
    """Refused in two lines, each with the flag that mends it; with both flags nothing is lost."""
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((9, 9, 3), np.uint8))
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("file,labels\na.png,cat\tdog\nb.png,Cat\nc.png,dog\n")
    words, out = ["folder", "--root", tmp_path, "--out", tmp_path / "out"], tmp_path / "out"
    for flags in ([], ["--separator", r"\t"]):
        made = run(*words, *flags)
        flag = "--merge-alike" if flags else r"--separator '\t'"
        assert made.returncode == 1 and flag in made.stderr and "Traceback" not in made.stderr and not out.exists()
    made = run(*words, "--separator", r"\t", "--merge-alike")
    assert made.returncode == 0, made.stderr
    pair = PairReader(out, "train")
    labels = {key[9:]: vector.tolist() for key, vector in zip(pair.keys, pair.all_labels(), strict=True)}
    assert len(pair.classes) == 2 and pair.classes[1] == "dog"
    assert labels == {"a": [1, 1], "b": [1, -1], "c": [-1, 1]}


def test_another_data_set_is_neither_replaced_nor_verified(small_shapes, tmp_path):
    own_data(tmp_path / "own", "ab")
    before = contents(small_shapes)
    for words in (["--root", tmp_path / "own"], ["--root", tmp_path / "own", "--force"], ["--verify"]):
        refusal(2, "holds the data set shapes, not folder", "folder", "--out", small_shapes, *words)
    assert contents(small_shapes) == before


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("part", ["images", "annotations"])
def test_shapes_are_not_drawn_over_other_peoples_files(tmp_path, part, force):
    (tmp_path / part).mkdir()
    (tmp_path / part / "instances_train2014.json").write_text("{}")
    refusal(2, "was not drawn by this tool", "shapes", "--out", tmp_path, *force)
    assert [path.name for path in tmp_path.rglob("*")] == [part, "instances_train2014.json"]


def test_databases_without_a_manifest_are_named_as_such(tmp_path):
    own_data(tmp_path / "own", "ab")
    command = ("folder", "--root", tmp_path / "own", "--out", tmp_path / "out")
    assert run(*command).returncode == 0
    (tmp_path / "out" / "manifest.json").unlink()
    refusal(2, "manifest.json does not know the databases of train", *command)
    assert run(*command, "--force").returncode == 0


def write_coco(root, images):
    """A COCO folder whose images are not there."""
    content = {
        "images": images,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(class_names("coco"))],
        "annotations": [],
    }
    (root / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        (root / f"{part}2014").mkdir()
        (root / "annotations" / f"instances_{part}2014.json").write_text(json.dumps(content))


def test_empty_and_unreadable_data_sets(tmp_path):
    write_coco(tmp_path / "empty", [])
    refusal(3, "is empty", "coco", "--root", tmp_path / "empty", "--out", tmp_path / "x")
    write_coco(tmp_path / "gone", [{"id": 1, "file_name": "1.jpg"}])
    refusal(3, "1.jpg, No such file", "coco", "--root", tmp_path / "gone", "--out", tmp_path / "y")


def test_verify_finds_a_truncated_database(small_shapes, tmp_path):
    out = tmp_path / "out"
    assert run("shapes", "--out", out, "--train", 6, "--test", 3).returncode == 0
    file = out / "test_image.lmdb" / "data.mdb"
    os.truncate(file, file.stat().st_size - 4096)
    refused = run("shapes", "--out", out, "--verify")
    assert refused.returncode == 1
    assert "truncated" in refused.stderr and str(file) in refused.stderr


def test_genuine_coco(shared_data, tmp_path):
    root = shared_data / "coco_images"
    out = tmp_path / "coco"
    made = run("coco", "--root", root / "coco_mini", "--out", out)
    assert (made.returncode, made.stdout) == (0, f"{out} train: 80 images\n{out} test: 79 images\n"), made.stderr
    rows = {Path(row[0]).stem: row[3:] for row in csv.reader((root / "manifest.csv").open()) if "coco_mini" in row[0]}
    for split in ("train", "test"):
        reader = PairReader(out, split)
        assert reader.classes == class_names("coco")
        for index, key in enumerate(reader.keys):
            expected = [float(value) for value in rows[key.split("_", 1)[1]]]
            assert (reader.labels(index) > 0).tolist() == [value > 0 for value in expected]
        assert reader.image(0).shape == (256, 256, 3)


@pytest.mark.parametrize("argument", ["--help"])
def test_help(argument):
    result = run(argument)
    assert result.returncode == 0 and "--encoding" in result.stdout
