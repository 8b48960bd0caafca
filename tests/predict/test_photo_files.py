"""Photos in tar archives and lists: the same scores as from a folder, and what is no archive or no list."""

import io
import tarfile
import tracemalloc

import cv2
import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.predict.photo_files import Photos, find_photos, members
from pysrn.predict.predictions import load_predictions
from tools.predict import main


def write_tar(path, contents, mode="w", **options):
    """An archive of name -> bytes."""
    with tarfile.open(path, mode, **options) as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def pictures(shapes_folder, tmp_path):
    """A folder of three PNGs, by name."""
    pair, folder = PairReader(shapes_folder, "test"), tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), pair.image(index))
    return folder


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_and_a_list_are_as_the_folder(pictures, shapes_folder, shapes_model, tmp_path, form, capsys):
    contents = {f"{'long/' * 30}{path.name}": path.read_bytes() for path in sorted(pictures.iterdir())}
    contents |= {"0.cls": b"7", "0.json": b"{}", ".hidden.png": b"x", "note.txt": b"0.png"}
    write_tar(tmp_path / "a.tar", contents, format=form)
    (tmp_path / "list.txt").write_text("photos/0.png\n\nphotos/1.png\r\n  photos/2.png\nphotos/0.png\n")
    words = ["--run", str(shapes_model), "--data", str(shapes_folder), "-o", str(tmp_path / "p.npz")]
    found = []
    for source in (pictures, tmp_path / "a.tar", tmp_path / "list.txt"):
        assert main([*words, str(source)]) == 0
        found.append(load_predictions(tmp_path / "p.npz"))
    assert f"a.tar/{'long/' * 30}1.png" in capsys.readouterr().out
    for other in found[1:]:
        assert other.keys == found[0].keys == ("00000000_0", "00000001_1", "00000002_2")
        np.testing.assert_array_equal(other.scores["score"], found[0].scores["score"])


def test_maps_are_drawn_of_members(pictures, shapes_folder, shapes_model, tmp_path):
    archive = write_tar(tmp_path / "a.tar", {"x.png": (pictures / "0.png").read_bytes()})
    words = ["--run", str(shapes_model), "--data", str(shapes_folder), "--attention", "--picture"]
    assert main([*words, str(tmp_path / "tar.png"), str(archive)]) == 0
    (pictures / "0.png").rename(pictures / "x.png")
    assert main([*words, str(tmp_path / "file.png"), str(pictures / "x.png")]) == 0
    assert (tmp_path / "tar.png").read_bytes() == (tmp_path / "file.png").read_bytes()


def test_members_that_cannot_be_read_are_left_out_and_said(pictures, shapes_folder, shapes_model, tmp_path, capsys):
    good = (pictures / "0.png").read_bytes()
    archive = write_tar(tmp_path / "a.tar", {"a.png": good, "b.png": b"no", "c.png": b"", "../../d.png": good})
    assert main(["--run", str(shapes_model), "--data", str(shapes_folder), str(archive)]) == 0
    said = capsys.readouterr()
    assert said.out.count("%") == 10 and "b.png: not an image" in said.err and "c.png: empty file" in said.err
    assert not (tmp_path.parent / "d.png").exists()


def test_what_is_no_archive_or_list(tmp_path, pictures):
    good = {"a.png": (pictures / "0.png").read_bytes(), "b.png": (pictures / "1.png").read_bytes()}
    whole = write_tar(tmp_path / "whole.tar", good).read_bytes()
    for name, content, error, reason in (
        ("cut.tar", whole[:1500], SrnError, "damaged"),
        ("text.tar", b"hello" * 500, SrnError, "damaged or no tar archive"),
        ("empty.tar", b"", SrnError, "damaged"),
        ("none.txt", b"\n\n", MissingError, "lists no image"),
        ("wrong.txt", b"photos/0.png\nphotos/9.png\n", MissingError, "name 2: no image file 'photos/9.png'"),
        ("nul.txt", b"a\0b\n", MissingError, "name 1"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=reason):
            find_photos([tmp_path / name])
    with pytest.raises(MissingError, match="no image in the archive"):
        find_photos([write_tar(tmp_path / "texts.tar", {"a.txt": b"x"})])
    with pytest.raises(UsageError, match="is compressed"):
        find_photos([write_tar(tmp_path / "a.tar.gz", good, "w:gz")])


def test_an_archive_of_many_takes_little_memory(tmp_path):
    archive = write_tar(tmp_path / "a.tar", {f"{number}.png": b"x" for number in range(20000)})
    tracemalloc.start()
    assert sum(1 for _ in members(archive)) == 20000
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_listing_of_many_photos_takes_little_memory(tmp_path):
    """As a list of paths a name took 340 bytes, and 440 at the most; 40 of them are its letters here."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(5000):
        (folder / f"{number:012d}.jpg").touch()
    letters = len(str(folder)) + len("/000000000000.jpg")
    tracemalloc.start()
    try:
        found = find_photos([folder])
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, Photos) and found[4999] == folder / "000000004999.jpg" and len(found[10:20]) == 10
    assert held / len(found) < 80 + letters
    assert most / len(found) < 240 + letters  # with the listing of the folder that is open
