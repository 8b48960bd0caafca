"""Where images lie: in the folder of their split, beside their table, and ids without an ending."""

import os
import re
import subprocess

import pytest

from pysrn.console import MissingError, SrnError, UsageError
from tests.data.own_tables import named, read, touch, write

HEAD = "file,labels\n"


@pytest.mark.parametrize("folder", ["{}", "images/{}", "{}/images", "Images/{}"])
@pytest.mark.parametrize("held_out", ["test", "val", "valid"])
def test_bare_names_in_the_folder_of_their_split(tmp_path, folder, held_out):
    """Both folders have a 1.jpg: each split takes its own."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"{HEAD}1.jpg,cat\n2.jpg,dog\n")
    places = {"train": folder.format("train"), "test": folder.format(held_out)}
    touch(tmp_path, *(f"{place}/{number}.jpg" for place in places.values() for number in (1, 2)))
    for split, found in read(tmp_path).items():
        assert [sample.path for sample in found.samples] == [tmp_path / places[split] / f"{n}.jpg" for n in (1, 2)]


def test_one_table_for_the_folders_of_both_splits(tmp_path):
    (tmp_path / "all.csv").write_text("file,labels,split\n1.jpg,cat,train\n1.jpg,dog,val\n2.jpg,dog,train\n")
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "val/1.jpg")
    splits = read(tmp_path)
    assert [sample.path for sample in splits["test"].samples] == [tmp_path / "val/1.jpg"]
    assert named(splits["train"]) == {"1.jpg": {"cat"}, "2.jpg": {"dog"}}


def test_an_image_in_the_root_itself_comes_first(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"{HEAD}1.jpg,cat\n")
    touch(tmp_path, "1.jpg", "train/1.jpg", "test/1.jpg")
    assert read(tmp_path)["train"].samples[0].path == tmp_path / "1.jpg"


def test_tables_in_both_places_are_refused_with_the_command_that_chooses(tmp_path):
    """`train.csv` beside a folder `train` with `_classes.csv`: either may be a leftover."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_classes.csv").write_text("filename, cat\na b.jpg, 1\n")
        (tmp_path / f"{split}.csv").write_text("file,labels\na b.jpg,dog\n")
    touch(tmp_path, "a b.jpg", "train/a b.jpg", "test/a b.jpg")
    with pytest.raises(UsageError, match=r"both test.csv and train/_classes.csv hold labels") as caught:
        read(tmp_path)
    first, second = re.fullmatch(r"set one kind aside: (.+)  \(or: (.+)\)", caught.value.cure).groups()
    subprocess.run(second, shell=True, check=True)
    assert read(tmp_path)["train"].classes == ("dog",)
    for split in ("train", "test"):
        (tmp_path / split / "_classes.csv.unused").rename(tmp_path / split / "_classes.csv")
    subprocess.run(first, shell=True, check=True)
    assert read(tmp_path)["train"].classes == ("cat",)


@pytest.mark.parametrize("held_out", ["test", "valid"])
def test_a_multi_label_export_of_roboflow(tmp_path, capsys, held_out):
    """`train/_classes.csv` beside its images, with blanks behind the commas."""
    for split, rows in (
        ("train", "a.rf.1f0.jpg, 1, 0, 1\na.rf.2e9.jpg, 0, 0, 0\n"),
        (held_out, "a.rf.1f0.jpg, 0, 1, 0\n"),
    ):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_classes.csv").write_text(f'filename, cat, dog, "cow, brown"\n{rows}')
    touch(tmp_path, "train/a.rf.1f0.jpg", "train/a.rf.2e9.jpg", f"{held_out}/a.rf.1f0.jpg", "a.rf.1f0.jpg")
    splits = read(tmp_path)
    assert splits["train"].classes == ("cat", "dog", "cow, brown")
    assert named(splits["train"]) == {"a.rf.1f0.jpg": {"cat", "cow, brown"}, "a.rf.2e9.jpg": set()}
    assert named(splits["test"]) == {"a.rf.1f0.jpg": {"dog"}}
    assert splits["test"].samples[0].path == tmp_path / held_out / "a.rf.1f0.jpg"
    assert splits["train"].sources == (tmp_path / "train/_classes.csv",)
    if held_out == "test":
        (tmp_path / "valid").mkdir()
        (tmp_path / "valid/_classes.csv").write_text("filename, cat\nx.jpg, 1\n")
        assert named(read(tmp_path)["test"]) == {"a.rf.1f0.jpg": {"dog"}}
        assert "valid/_classes.csv: the split 'val' is not read" in capsys.readouterr().err
    else:
        (tmp_path / "valid/_classes.csv").unlink()
        with pytest.raises(MissingError, match="train/_classes.csv and test/_classes.csv"):
            read(tmp_path)


def test_endings_in_other_letters(tmp_path):
    """As a table of Windows names them."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"{HEAD}a.JPG,cat\nb.jpg,dog\nc.Png,cat\n")
    touch(tmp_path, "images/a.jpg", "images/b.JPG", "images/c.png", "images/c.jpg")
    assert [sample.path.name for sample in read(tmp_path)["train"].samples] == ["a.jpg", "b.JPG", "c.png"]


MARKED = "filename,cat,dog,Unlabeled\na.jpg,1,0,0\nb.jpg,0,0,1\nc.jpg,0,1,0\n"


@pytest.mark.parametrize("head", ["Unlabeled", "unlabelled"])
def test_roboflows_mark_of_images_without_labels_is_no_class(head, tmp_path, capsys):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_classes.csv").write_text(MARKED.replace("Unlabeled", head))
        touch(tmp_path, *(f"{split}/{name}.jpg" for name in "abc"))
    found = read(tmp_path)["train"]
    assert found.classes == ("cat", "dog") and named(found) == {"a.jpg": {"cat"}, "b.jpg": set(), "c.jpg": {"dog"}}
    assert f"column {head} is no class: it marks 1 images without labels" in capsys.readouterr().err
    assert set(named(read(tmp_path, drop_unlabelled=True)["test"])) == {"a.jpg", "c.jpg"}
    (tmp_path / "classes.txt").write_text(f"cat\ndog\n{head}\n")  # who lists it means it
    assert named(read(tmp_path)["train"])["b.jpg"] == {head}
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "train/_classes.csv").write_text(MARKED.replace("b.jpg,0,0,1", "b.jpg,0,1,1"))
    with pytest.raises(SrnError, match="marks images without labels, but line 3 has one"):
        read(tmp_path)


@pytest.mark.parametrize("on_disk", ["caf\u00e9.jpg".encode(), b"caf\xe9.jpg"])
def test_file_names_of_a_table_in_latin_1(on_disk, tmp_path):
    """Written by a spreadsheet; the files themselves may be named in UTF-8, or in the same bytes."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_bytes(
            f"{HEAD}caf\u00e9.jpg,cat\nno\u00e9.jpg,dog\nb.jpg,dog\n".encode("latin-1")
        )
    touch(tmp_path, os.fsdecode(on_disk), "b.jpg")
    found = read(tmp_path)["train"]
    assert [os.fsencode(sample.path.name) for sample in found.samples] == [on_disk, b"b.jpg"]
    assert [reason for _, reason in found.left_out] == ["the file name is not UTF-8: train.csv line 3"]


@pytest.mark.parametrize("name", ["{}", "scan.{}", "2021.03.0{}", "sub/{}"])
def test_ids_find_their_files_whatever_the_ending(tmp_path, name):
    endings = [".JPG", ".webp", ".jpg", ".Png", ".tiff", ".jpeg"]
    rows = "".join(f"{name.format(number)},cat\n" for number in range(len(endings)))
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"image_id,labels\n{rows}")
    files = [f"{name.format(number)}{ending}" for number, ending in enumerate(endings)]
    touch(tmp_path / "images", *files, f"{name.format(0)}.txt")
    assert [sample.path for sample in read(tmp_path)["train"].samples] == [tmp_path / "images" / file for file in files]


def test_of_several_files_of_an_id_the_usual_ending_is_taken_and_said(tmp_path, capsys):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("image_id,labels\na,cat\nb,dog\nc,cat\nd,cat\n")
    touch(tmp_path, "a.png", "b.png", "a.jpg", "c.png")
    found = [sample.path.name for sample in read(tmp_path)["train"].samples]
    assert found == ["a.png", "b.png", "c.png", "d.png"]  # d is not there: `skipped.csv` will say so
    said = capsys.readouterr().err
    assert "train.csv: 1 names without an ending fit several files; the first: a.png is taken, not a.jpg" in said


def test_names_with_and_without_an_ending_in_one_table(tmp_path):
    write(tmp_path, train=f"{HEAD}p1.jpg,cat\np2,dog\np3.jpg,dog\nno.jpg,cat\n", test=f"{HEAD}p2,cat\n")
    found = [sample.path.name for sample in read(tmp_path)["train"].samples]
    assert found == ["p1.jpg", "p2.jpg", "p3.jpg", "no.jpg"]
