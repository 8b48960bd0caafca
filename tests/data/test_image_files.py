"""Which files are images: by ending, by their first bytes, and named where nothing here reads them."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from pysrn.data.image_files import images_below, is_image
from pysrn.data.pair.pixels import BadImage, decode_file

PICTURE = Image.fromarray(np.full((30, 40, 3), (200, 120, 40), np.uint8))
KINDS = {"JPEG": ".jfif", "PNG": ".png", "GIF": ".gif", "AVIF": ".avif", "JPEG2000": ".jp2", "WEBP": ".webp",
         "TIFF": ".tif", "PPM": ".pnm", "BMP": ".dib"}  # fmt: skip
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_and_decoded_whatever_it_is_called(kind, tmp_path):
    endings = [KINDS[kind], KINDS[kind].upper(), ".jpe"] + ([] if kind == "BMP" else ["", ".dat", ".txt"])
    names = [f"photo{ending}" if ending else "photo" for ending in endings]
    for name in names:
        PICTURE.save(tmp_path / name, kind)
    assert list(images_below(tmp_path)) == sorted(tmp_path / name for name in names)
    for name in names:
        assert np.abs(decode_file(tmp_path / name).astype(int) - (40, 120, 200)).max() <= 12


def test_what_is_no_image_is_passed_over(tmp_path):
    for name, content in {
        "notes.txt": b"BMW, P5 and GIF are words", "lone": b"BM", "empty": b"", "film.mp4": b"\0\0\0\x20ftypisom" * 9,
        "data.mdb": bytes(5000), "page.html": b"<html>" * 9, "P6": b"P6",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.d").mkdir()
    (tmp_path / ".hidden").mkdir()
    PICTURE.save(tmp_path / ".hidden" / "a.jpg")
    PICTURE.save(tmp_path / "._a", "JPEG")
    assert list(images_below(tmp_path)) == []


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "IMG_1", "IMG_1.jpg"])
def test_heic_is_named_not_passed_over(name, tmp_path):
    (tmp_path / name).write_bytes(HEIC)
    assert is_image(tmp_path / name)
    with pytest.raises(BadImage, match="HEIC, which OpenCV cannot decode"):
        decode_file(tmp_path / name)


def test_the_order_is_that_of_sorted_paths_and_links_are_not_followed(tmp_path):
    for name in (
        "b.jpg",
        "a/z.jpg",
        "a-b.jpg",
        "a.jpg",
        "a b/c/d.jpg",
        "a/a/q.png",
        "a/.h/x.jpg",
        "B/x.jpg",
        "a/b.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "other").symlink_to("a")
    found = list(images_below(tmp_path))
    assert found == sorted(found) == sorted(one for one in tmp_path.rglob("*.[jp][pn]g") if ".h" not in one.parts)
    assert len(found) == 8


def test_names_that_are_no_text_and_links(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((4, 4, 3), np.uint8))
    shutil.copy(tmp_path / "a.jpg", bytes(tmp_path) + b"/caf\xe9.jpg")
    (tmp_path / "link").symlink_to("a.jpg")
    (tmp_path / "dead").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    assert [path.name for path in images_below(tmp_path)] == ["a.jpg", "caf\udce9.jpg", "link"]
