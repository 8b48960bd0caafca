"""Where images lie: in the folder of their split, beside their table, and ids without an ending."""

import pytest

from pysrn.console import MissingError
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


@pytest.mark.parametrize("name", ["{}", "scan.{}", "2021.03.0{}", "sub/{}"])
def test_ids_find_their_files_whatever_the_ending(tmp_path, name):
    endings = [".JPG", ".webp", ".jpg", ".Png", ".tiff", ".jpeg"]
    rows = "".join(f"{name.format(number)},cat\n" for number in range(len(endings)))
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"image_id,labels\n{rows}")
    files = [f"{name.format(number)}{ending}" for number, ending in enumerate(endings)]
    touch(tmp_path / "images", *files, f"{name.format(0)}.txt")
    assert [sample.path for sample in read(tmp_path)["train"].samples] == [tmp_path / "images" / file for file in files]


def test_of_several_files_of_an_id_the_usual_ending_is_taken(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("image_id,labels\na,cat\nb,dog\nc,cat\nd,cat\n")
    touch(tmp_path, "a.png", "b.png", "a.jpg", "c.png")
    found = [sample.path.name for sample in read(tmp_path)["train"].samples]
    assert found == ["a.png", "b.png", "c.png", "d.png"]  # d is not there: `skipped.csv` will say so


def test_names_with_and_without_an_ending_in_one_table(tmp_path):
    write(tmp_path, train=f"{HEAD}p1.jpg,cat\np2,dog\np3.jpg,dog\nno.jpg,cat\n", test=f"{HEAD}p2,cat\n")
    found = [sample.path.name for sample in read(tmp_path)["train"].samples]
    assert found == ["p1.jpg", "p2.jpg", "p3.jpg", "no.jpg"]
