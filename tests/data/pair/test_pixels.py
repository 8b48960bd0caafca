"""Every kind of image file becomes the pixels that an independent reader sees, and every bad one a reason."""

import csv
import io
import os
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image, ImageOps

from pysrn.data.pair import pixels as pixels_module
from pysrn.data.pair.datum import Datum
from pysrn.data.pair.pair_writer import write_pair
from pysrn.data.pair.pixels import LARGEST_FILE, BadImage, decode_bytes, decode_file, sample_pixels, warp
from pysrn.data.readers.records import Sample

ROOT = Path(__file__).resolve().parents[3]
LABELS = np.ones(1, np.int8)


def smooth(height=90, width=120, channels=3):
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 6, channels), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bgr(image):
    return np.asarray(image.convert("RGB"))[..., ::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_exif_orientation_is_applied(kind, options, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(smooth()), kind, exif=exif, **options)
    expected = bgr(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    found = decode_bytes(content)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2  # two JPEG decoders


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "L"), ("PNG", "1"), ("PNG", "P"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"), ("PPM", "RGB"),
     ("TIFF", "L"), ("JPEG", "L"), ("JPEG", "RGB"), ("WEBP", "RGB")],
)  # fmt: skip
def test_grey_and_palettes(kind, mode):
    content = saved(Image.fromarray(smooth()).convert(mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = bgr(Image.open(io.BytesIO(content)))
    assert np.abs(decode_bytes(content).astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)


def test_cmyk_is_converted_without_a_profile():
    pixels = smooth(channels=4)
    content = saved(Image.fromarray(pixels, "CMYK"), "JPEG", quality=100)
    stored = np.asarray(Image.open(io.BytesIO(content))).astype(float)
    by_hand = (255 - stored[..., :3]) * (255 - stored[..., 3:]) / 255
    assert np.abs(decode_bytes(content) - by_hand[..., ::-1]).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("alpha", [0, 7, 255])
def test_alpha_is_dropped_and_the_colour_beneath_shows(kind, alpha):
    pixels = np.dstack([smooth(), np.full((90, 120), alpha, np.uint8)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    expected = pixels[..., 2::-1].astype(int)
    if kind == "TIFF":  # libtiff multiplies by an alpha that is declared
        expected = expected * alpha / 255
    assert np.abs(decode_bytes(saved(Image.fromarray(pixels), kind, **options)) - expected).max() <= (kind == "TIFF")
    grey = Image.fromarray(pixels[..., 0])
    grey.putalpha(alpha)
    if kind == "PNG":
        np.testing.assert_array_equal(decode_bytes(saved(grey, kind)), np.dstack([pixels[..., 0]] * 3))


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_become_eight(kind, channels):
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 30, channels)).astype(np.uint16)
    found = decode_bytes(cv2.imencode(kind, pixels)[1].tobytes())
    assert found.dtype == np.uint8 and found.shape == (40, 30, 3)
    assert np.abs(found - pixels / 257).max() <= 1  # 65535 / 255


def test_the_two_ways_to_resize():
    large, small, narrow = smooth(400, 300), smooth(100, 80), smooth(100, 900)
    by_area = large[:400, :300].reshape(200, 2, 150, 2, 3).astype(float).mean((1, 3))
    assert np.abs(warp(large, 150, 200) - by_area).max() <= 1
    for image in (large, small, narrow):
        linear = cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(warp(image, 256, 256, "linear"), linear)
    np.testing.assert_array_equal(warp(small, 256, 256), cv2.resize(small, (256, 256)))
    assert (warp(large, 256, 256) != warp(large, 256, 256, "linear")).any()


def test_linear_is_what_caffe_stores(shared_data, tmp_path):
    """Pixels of `convert_imageset` with the same resize, stored raw."""
    files = sorted((shared_data / "coco_images" / "coco_mini" / "train2017").iterdir())[:12]
    (tmp_path / "list.txt").write_text("".join(f"{file.name} 0\n" for file in files))
    words = ["convert_imageset", "-resize_width", "256", "-resize_height", "256"]
    try:
        subprocess.run(
            [*words, f"{files[0].parent}/", tmp_path / "list.txt", tmp_path / "db"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("Caffe's convert_imageset is not on PATH")
    with lmdb.open(str(tmp_path / "db"), readonly=True, lock=False).begin() as transaction:
        stored = [np.frombuffer(Datum.FromString(value).data, np.uint8) for _, value in transaction.cursor()]
    assert len(stored) == 12
    for file, planes in zip(files, stored, strict=True):
        theirs = planes.reshape(3, 256, 256).transpose(1, 2, 0).astype(int)
        ours = sample_pixels(Sample("x", file, LABELS), 256, "linear")
        assert np.abs(ours - theirs).mean() < 1  # two builds of libjpeg-turbo
        assert np.abs(ours - theirs).max() < 24


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side):
    """A PNG of side x side black pixels."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side * 3)) for _ in range(200)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BOMBED = """
import resource, sys
from pathlib import Path
from pysrn.data.pair.pixels import BadImage, decode_file
import cv2
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_file(Path(sys.argv[1]))
except BadImage as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_decompression_bomb_costs_no_memory(tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb(30000))
    reason, megabytes = in_a_process_of_its_own(BOMBED, tmp_path / "bomb.png")
    assert reason == "too many pixels" and int(megabytes) < 50  # the pixels would be 2.7 GB


REDUCED = """
import resource, sys
from pathlib import Path
from pysrn.data.pair.pixels import decode_file
import cv2
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = decode_file(Path(sys.argv[1]), 256)
print(image.shape, image[100, 100].tolist(), image[-100, -100].tolist())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def in_a_process_of_its_own(script, path):
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_IO_MAX_IMAGE_PIXELS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", script, path]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_photo_of_200_megapixels_takes_the_memory_of_50(tmp_path):
    pixels = np.zeros((12240, 16320), np.uint8)
    pixels[:, 8160:] = 200
    cv2.imwrite(str(tmp_path / "large.jpg"), pixels)
    shown, megabytes = in_a_process_of_its_own(REDUCED, tmp_path / "large.jpg")
    assert shown == "(6120, 8160, 3) [0, 0, 0] [200, 200, 200]"
    assert int(megabytes) < 250  # 150 of pixels, and the file; whole it would be 600


def test_a_broken_header_is_said_once(tmp_path):
    content = saved(Image.fromarray(smooth()), "TIFF")
    (tmp_path / "a.tif").write_bytes(content[:100])  # within the directory
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-c", BOMBED, tmp_path / "a.tif"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.startswith("not an image that OpenCV can decode")


def test_only_what_is_larger_than_a_limit_is_reduced_and_never_below_what_is_stored(tmp_path, monkeypatch):
    image = smooth(600, 800)
    cv2.imwrite(str(tmp_path / "a.jpg"), image)
    whole = cv2.imread(str(tmp_path / "a.jpg"))
    sample = Sample("a", tmp_path / "a.jpg", LABELS)
    monkeypatch.setattr(pixels_module, "FULL", 600 * 800)
    np.testing.assert_array_equal(sample_pixels(sample, 256), warp(whole, 256, 256))
    for limit, least, height in (
        (600 * 800 - 1, 64, 300), (300 * 400, 64, 300), (300 * 400 - 1, 64, 150), (9, 64, 75), (9, 76, 150),
        (9, 300, 300), (9, 301, 600), (9, None, 600),
    ):  # fmt: skip
        monkeypatch.setattr(pixels_module, "FULL", limit)
        found = decode_file(tmp_path / "a.jpg", least)
        assert found.shape == (height, height * 4 // 3, 3), (limit, least)
        assert np.abs(found.astype(int) - warp(whole, height * 4 // 3, height)).mean() < 2
    boxed = Sample("a", tmp_path / "a.jpg", LABELS, (100, 50, 300, 200))
    np.testing.assert_array_equal(sample_pixels(boxed, 64), warp(whole[50:250, 100:400], 64, 64))


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_limits_for_what_cannot_be_reduced(kind, tmp_path, monkeypatch):
    is_jpeg, progressive = kind in ("JPEG", "progressive"), kind == "progressive"
    options = {"progressive": True} if progressive else {}
    (tmp_path / "a").write_bytes(saved(Image.fromarray(smooth()), "JPEG" if is_jpeg else kind, **options))
    monkeypatch.setattr(pixels_module, "FULL", 1000)
    monkeypatch.setattr(pixels_module, "MOST", 90 * 120)
    assert decode_file(tmp_path / "a", 20).shape[0] == (23 if is_jpeg else 90)
    monkeypatch.setattr(pixels_module, "MOST", 90 * 120 - 1)
    if kind == "JPEG":
        assert decode_file(tmp_path / "a", 20).shape[0] == 23
        monkeypatch.setattr(pixels_module, "MOST_REDUCED", 90 * 120 - 1)
    with pytest.raises(BadImage, match="too many pixels"):
        decode_file(tmp_path / "a", 20)


def pipe(path):
    os.mkfifo(path)


def large(path):
    with path.open("wb") as stream:
        stream.truncate(LARGEST_FILE + 1)


def unreadable_kinds():
    image = Image.fromarray(smooth())
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"):
        content = saved(image, kind)
        for share in (0.02, 0.3, 0.6, 0.9):
            yield f"{kind} cut at {share}", content[: int(len(content) * share)], None
    png = saved(image, "PNG")
    yield "a wrong checksum", png[:60] + bytes([png[60] ^ 255]) + png[61:], None
    yield "no bytes", b"", "empty file"
    yield "text", b"<html>404 Not Found</html>\n" * 30, "not an image that OpenCV can decode"
    yield "a zip", b"PK\x03\x04" + bytes(500), "not an image that OpenCV can decode"
    yield "zeros", bytes(5000), "not an image that OpenCV can decode"
    yield "only a start", b"\xff\xd8\xff\xe0", "the JPEG is cut off"
    yield "a folder", Path.mkdir, "Is a directory"
    yield "a pipe", pipe, "not a plain file"
    yield "a device", lambda path: path.symlink_to("/dev/zero"), "not a plain file"
    yield "a link to itself", lambda path: path.symlink_to(path), "Too many levels of symbolic links"
    yield "a dead link", lambda path: path.symlink_to("nowhere"), "No such file or directory"
    yield "too many bytes", large, "larger than 256 MiB"


def test_every_bad_file_is_skipped_with_its_reason_and_no_good_one_lost(tmp_path):
    good = smooth(256, 256)
    kinds = list(unreadable_kinds())
    samples, reasons = [], {}
    for number, (name, content, reason) in enumerate(kinds):
        for path, made in ((tmp_path / f"bad{number}.jpg", content), (tmp_path / f"good{number}.png", None)):
            samples.append(Sample(path.stem, path, LABELS))
            if made is None:
                cv2.imwrite(str(path), good)
            elif callable(made):
                made(path)
            else:
                path.write_bytes(made)
        reasons[str(samples[-2].path)] = (name, reason)
    for path, reason in (
        (Path("a\0b.jpg"), "no file can have this name"),
        (Path("a\ud800b.jpg"), "no file can have this name"),
        (Path("x" * 5000), "File name too long"),
    ):
        samples.append(Sample("name", path, LABELS))
        reasons[str(path).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()] = (str(path), reason)
    count = write_pair(samples, tmp_path / "out", "train", ("one",), 0, dataset="own", workers=2)
    assert count == len(kinds)
    with (tmp_path / "out" / "skipped.csv").open(newline="", encoding="utf-8") as stream:
        found = {row[1]: row[2] for row in csv.reader(stream)}
    del found["file"]
    assert set(found) == set(reasons)
    for file, (name, reason) in reasons.items():
        assert found[file] and reason in (None, found[file]), (name, found[file])


def test_a_disk_that_fails_is_not_the_image_s_fault(tmp_path):
    """Left out, it would be missing from the database for good, though the next try may read it."""
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(BadImage):
            decode_file(path)
    with pytest.raises(OSError, match="Input/output error") as caught:  # of a real file that the kernel cannot read
        decode_file(Path("/proc/self/mem"))
    assert caught.value.filename == "/proc/self/mem"


def test_huge_files_are_refused_before_they_are_read(tmp_path):
    large(tmp_path / "large.jpg")
    assert stat.S_ISREG((tmp_path / "large.jpg").stat().st_mode)
    with pytest.raises(BadImage, match="larger than 256 MiB"):
        decode_file(tmp_path / "large.jpg")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((200, 0, 10, 10), "no pixel"),
        ((-50, -50, 20, 20), "no pixel"),
        ((5, 5, 0, 10), "no pixel"),
        ((5, 5, -3, 10), "no pixel"),
        ((1e300, 0, 10, 10), "no pixel"),
        ((float("nan"), 0, 10, 10), "not four numbers"),
        ((0, 0, float("inf"), 10), "not four numbers"),
    ],
)
def test_boxes_that_hold_nothing(tmp_path, box, reason):
    cv2.imwrite(str(tmp_path / "a.png"), smooth())
    with pytest.raises(BadImage, match=reason):
        sample_pixels(Sample("a", tmp_path / "a.png", LABELS, box), 256)
