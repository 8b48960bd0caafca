"""NUS-WIDE as distributed and in the tables that circulate, small and whole."""

import csv
import gzip
import io
import zipfile

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError
from pysrn.data.readers.registry import read_splits
from pysrn.recipes import class_names

CLASSES = class_names("nus_wide")
NAMES = {
    "train": [r"actor\0001_2124494179.jpg", r"actor\0002_174174086.jpg", r"zoo\0003_3.jpg"],
    "test": [r"zoo\0004_4.jpg", r"zoo\0005_5.jpg"],
}
POSITIVES = {"train": [{"sky", "clouds"}, set(), {"zebra"}], "test": [{"person"}, {"airport", "sky"}]}
SPLITS = ("train", "test")


def vectors(sets):
    return np.array([[1 if name in names else -1 for name in CLASSES] for names in sets])


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def write(root, names, matrices, labels="TrainTestLabels", images="Flickr", end="\n"):
    """The genuine files: `matrices` are of 1 and 0, a row an image."""
    for folder in (root / "ImageList", root / labels, root / "ConceptsList"):
        folder.mkdir(parents=True)
    (root / "ConceptsList" / "Concepts81.txt").write_text("\n".join(CLASSES) + "\n")
    for split in SPLITS:
        part = split.capitalize()
        (root / "ImageList" / f"{part}Imagelist.txt").write_bytes((end.join(names[split]) + end).encode())
        touch(root / images / names[split][0].replace("\\", "/"))
        if "All" not in labels:
            for column, name in enumerate(CLASSES):
                digits = np.full((len(matrices[split]), 1 + len(end)), list(b" " + end.encode()), np.uint8)
                digits[:, 0] = matrices[split][:, column] + ord("0")
                (root / labels / f"Labels_{name}_{part}.txt").write_bytes(digits.tobytes())
    if "All" in labels:
        order = [("test", 1), ("train", 2), ("train", 0), ("test", 0), ("train", 1)]
        (root / "ImageList" / "Imagelist.txt").write_text("".join(f"{names[split][row]}\n" for split, row in order))
        for column, name in enumerate(CLASSES):
            text = "".join(f"{matrices[split][row, column]}\n" for split, row in order)
            (root / labels / f"Labels_{name}.txt").write_text(text)


@pytest.fixture
def matrices():
    return {split: (vectors(POSITIVES[split]) == 1).astype(int) for split in SPLITS}


@pytest.mark.parametrize("images", ["Flickr", "images", "Images", "."])
@pytest.mark.parametrize("labels", ["TrainTestLabels", "Groundtruth/Train_Test_Labels", "Groundtruth/AllLabels"])
@pytest.mark.parametrize("end", ["\n", " \r\n"])
def test_the_distributed_files(tmp_path, matrices, labels, images, end):
    write(tmp_path, NAMES, matrices, labels, images, end)
    splits = read_splits("nus_wide", tmp_path)
    train, test = splits["train"], splits["test"]
    assert train.classes == CLASSES
    assert [sample.path for sample in train.samples] == [
        tmp_path / images / "actor/0001_2124494179.jpg",
        tmp_path / images / "zoo/0003_3.jpg",
    ]
    assert [sample.key_name for sample in test.samples] == ["zoo_0004_4", "zoo_0005_5"]
    np.testing.assert_array_equal([s.labels for s in train.samples], vectors([{"sky", "clouds"}, {"zebra"}]))
    np.testing.assert_array_equal([s.labels for s in test.samples], vectors(POSITIVES["test"]))
    assert train.left_out == [(str(tmp_path / images / "actor/0002_174174086.jpg"), "no label")]
    assert len(train.sources) == 82 + ("All" in labels)


def replace_text(name, old, new):
    def act(root):
        path = next(root.rglob(name))
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return act


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda root: next(root.rglob("Labels_sky_Test.txt")).unlink(), "no Labels_sky_Test.txt"),
        (lambda root: next(root.rglob("Labels_airport_Train.txt")).unlink(), "no TrainTestLabels/Labels_airport_Train"),
        (lambda root: next(root.rglob("TrainImagelist.txt")).unlink(), "no TrainImagelist.txt"),
        (lambda root: next(root.rglob("TrainImagelist.txt")).write_bytes(b""), "TrainImagelist.txt: the file is empty"),
        (replace_text("Labels_sky_Train.txt", b"1\n", b""), "Labels_sky_Train.txt has 2 lines and .* has 3"),
        (replace_text("Labels_sky_Train.txt", b"1\n", b"1 1\n"), "Labels_sky_Train.txt line"),
        (replace_text("Labels_sky_Train.txt", b"1\n", b"2\n"), "Labels_sky_Train.txt line 1: label 2 .* out of range"),
        (replace_text("Labels_sky_Train.txt", b"1\n0", b"10\n"), "Labels_sky_Train.txt line"),
        (replace_text("Labels_sky_Train.txt", b"1\n", b"\xff\n"), "Labels_sky_Train.txt line 1: .* is not a label"),
        (replace_text("Concepts81.txt", b"zebra", b"okapi"), "Concepts81.txt: not the 81 .* differing: okapi, zebra"),
        (replace_text("TestImagelist.txt", b"zoo\\0004", b"zoo\\00\x004"), None),
        (lambda root: [path.unlink() for path in (root / "Flickr").rglob("*.jpg")], "none of 3 images"),
    ],
)
def test_damaged_files_are_refused_with_file_and_line(tmp_path, matrices, act, words):
    write(tmp_path, NAMES, matrices)
    act(tmp_path)
    if words is None:  # one bad name: the other is kept, and this one told
        touch(tmp_path / "Flickr/zoo/0005_5.jpg")
        test = read_splits("nus_wide", tmp_path)["test"]
        assert len(test.samples) == 1 and "control characters: TestImagelist.txt line 1" in test.left_out[0][1]
        return
    with pytest.raises(SrnError, match=words) as caught:
        read_splits("nus_wide", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_no_part_of_the_whole_one(tmp_path, matrices):
    write(tmp_path, NAMES, matrices, "AllLabels")
    replace_text("TestImagelist.txt", b"0005", b"0006")(tmp_path)
    with pytest.raises(SrnError, match="TestImagelist.txt line 2: .*0006_5.jpg' is not in .*Imagelist.txt"):
        read_splits("nus_wide", tmp_path)
    next(tmp_path.rglob("Imagelist.txt")).unlink()
    with pytest.raises(MissingError, match="no Imagelist.txt"):
        read_splits("nus_wide", tmp_path)


def test_one_table_of_label_names(tmp_path):
    """`filepath,label,split_name` with Python lists; `val` is the test split."""
    rows = [["filepath", "label", "split_name"]]
    for split, name in (("train", "train"), ("test", "val")):
        for file, names in zip(NAMES[split], POSITIVES[split], strict=True):
            rows.append([f"images/{file[-8:]}", str(sorted(names)), name])
    with (tmp_path / "nus_wid_data.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    touch(tmp_path / rows[1][0])
    touch(tmp_path / rows[4][0])
    splits = read_splits("nus_wide", tmp_path)
    np.testing.assert_array_equal([s.labels for s in splits["train"].samples], vectors([{"sky", "clouds"}, {"zebra"}]))
    np.testing.assert_array_equal([s.labels for s in splits["test"].samples], vectors(POSITIVES["test"]))
    assert len(splits["train"].left_out) == 1
    path = tmp_path / "nus_wid_data.csv"
    for old, new, words in [
        ("zebra", "okapi", "differing: okapi"),
        (",val", ",later", "line 5: split 'later'"),
        ("['zebra']", "['zebra'", "line 4: .* no list of label names"),
        ("['zebra']", "[1]", "line 4: .* no list of label names"),
    ]:
        text = path.read_text()
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(SrnError, match=words):
            read_splits("nus_wide", tmp_path)
        path.write_text(text)


def whole(shared_data):
    matrices, ids = {}, {}
    for split in SPLITS:
        with gzip.open(shared_data / "nuswide_labels" / f"nus_wide_{split}_label.txt.gz", "rt") as stream:
            matrices[split] = np.loadtxt(stream, np.int8, comments=None)
        with gzip.open(shared_data / "nuswide_labels" / f"nus_wide_{split}_flickr_id.txt.gz", "rt") as stream:
            ids[split] = stream.read().splitlines()
    return matrices, ids


def sums(split):
    return (np.stack([sample.labels for sample in split.samples]) == 1).sum(0)


@pytest.mark.slow
def test_the_whole_of_nus_wide(shared_data, tmp_path):
    matrices, ids = whole(shared_data)
    # The genuine names are `<folder>\<number>_<Flickr id>.jpg`; the folders are not known here.
    names = {split: [f"all\\{row:06d}_{identity}.jpg" for row, identity in enumerate(ids[split])] for split in SPLITS}
    write(tmp_path, names, matrices)
    splits = read_splits("nus_wide", tmp_path)
    for split, images, labelled in [("train", 161_789, 125_449), ("test", 107_859, 83_898)]:
        assert len(splits[split].samples) == labelled
        assert len(splits[split].left_out) == images - labelled
        np.testing.assert_array_equal(sums(splits[split]), matrices[split].sum(0))
        row = int(splits[split].samples[70_000].key_name.split("_")[1])
        np.testing.assert_array_equal(splits[split].samples[70_000].labels == 1, matrices[split][row] == 1)


@pytest.mark.slow
def test_the_whole_table_that_circulates(shared_data, tmp_path, capsys):
    """Ids for names, about 2,600 of them damaged and repeated, one label out of range, two pairs of headers swapped."""
    for split in SPLITS:
        with zipfile.ZipFile(shared_data / "nuswide_labels" / f"raw_labels_{split}.zip") as archive:
            archive.extract(f"labels_{split}.csv", tmp_path)
    touch(tmp_path / "images/2124494179.jpg")
    touch(tmp_path / "images/174174086.jpg")
    path = tmp_path / "labels_train.csv"
    with pytest.raises(SrnError, match=r"labels_train.csv line 78374: '-1130179' in column 'lake' is no label"):
        read_splits("nus_wide", tmp_path)
    path.write_bytes(path.read_bytes().replace(b"-1130179", b"1"))
    splits = read_splits("nus_wide", tmp_path)
    assert "sun and sunset, water and waterfall are swapped" in capsys.readouterr().err
    matrices, ids = whole(shared_data)  # where the swap is put right
    for split in SPLITS:
        rows_of = {}
        for row, identity in enumerate(ids[split]):
            rows_of.setdefault(identity, []).append(row)
        images = tmp_path / "images"  # a damaged id can hold a backslash
        names = [str(s.path.relative_to(images)).removesuffix(".jpg").replace("/", "\\") for s in splits[split].samples]
        found = np.stack([sample.labels for sample in splits[split].samples]) == 1
        np.testing.assert_array_equal(found, matrices[split][[rows_of[name][0] for name in names]] == 1)
        unique = [
            rows[0] for rows in rows_of.values() if len(rows) == 1 or np.ptp(matrices[split][rows], axis=0).sum() == 0
        ]
        assert len(splits[split].samples) == (matrices[split][unique].sum(1) > 0).sum()
        assert len(splits[split].samples) + len(splits[split].left_out) == len(matrices[split])


def test_only_one_swapped_pair_is_told_and_left(tmp_path, capsys):
    """1,000 rows in which waterfalls are commoner than water, but sunsets commoner than the sun."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", *CLASSES])
    for row in range(1000):
        there = {"sunset", "waterfall"} if row % 2 else {"sky"}
        writer.writerow([f"{row}.jpg", *(int(name in there) for name in CLASSES)])
    for split in SPLITS:
        (tmp_path / f"{split}.csv").write_text(text.getvalue())
    touch(tmp_path / "0.jpg")
    found = read_splits("nus_wide", tmp_path)["train"]
    messages = capsys.readouterr().err
    assert "are two columns swapped?" in messages and "1000 images are in both train and test" in messages
    assert sums(found)[CLASSES.index("waterfall")] == 500
