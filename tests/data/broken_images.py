"""Image files for `test_broken_inputs.py`: as downloads and disks spoil them, and unusual ones that are whole."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

COLOUR = (200, 120, 40)  # of every good picture, RGB


def picture(mode="RGB", size=(48, 40)):
    """Noise around COLOUR, so that no format makes it too small to be cut."""
    noise = np.random.default_rng(0).integers(-20, 21, (size[1], size[0], 3))
    return Image.fromarray((noise + COLOUR).astype(np.uint8)).convert(mode)


def saved(kind, image=None, **options):
    stream = io.BytesIO()
    (image or picture()).save(stream, kind, **options)
    return stream.getvalue()


WHOLE = {
    "jpeg": saved("JPEG", quality=95),
    "progressive jpeg": saved("JPEG", quality=95, progressive=True),
    "png": saved("PNG"),
    "bmp": saved("BMP"),
    "tiff": saved("TIFF"),
    "packed tiff": saved("TIFF", compression="tiff_lzw"),
    "webp": saved("WEBP"),
    "lossless webp": saved("WEBP", lossless=True),
    "gif": saved("GIF"),
}


def with_size(kind, width, height):
    """A file whose header promises another size."""
    content = bytearray(WHOLE[kind])
    if "jpeg" in kind:
        start = content.index(b"\xff\xc2" if "progressive" in kind else b"\xff\xc0") + 5
        struct.pack_into(">HH", content, start, height, width)
    elif kind == "png":
        struct.pack_into(">II", content, 16, width, height)
        struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    elif kind == "bmp":
        struct.pack_into("<ii", content, 18, width, height)
    elif "tiff" in kind:
        (start,) = struct.unpack_from("<I", content, 4)
        for number in range(*struct.unpack_from("<H", content, start)):
            entry = start + 2 + 12 * number
            tag = struct.unpack_from("<H", content, entry)[0]
            if tag in (256, 257):  # width, height, as 32 bits
                struct.pack_into("<HII", content, entry + 2, 4, 1, (width, height)[tag - 256])
    elif kind == "webp":
        struct.pack_into("<HH", content, 26, min(width, 16383), min(height, 16383))  # all that it has bits for
    elif kind == "lossless webp":
        bits = struct.unpack_from("<I", content, 21)[0] & 0xF0000000
        packed = (min(width, 16384) - 1) | (min(height, 16384) - 1) << 14
        struct.pack_into("<I", content, 21, bits | packed)
    elif kind == "gif":
        struct.pack_into("<HH", content, 6, width, height)
        frame = content.index(b"\x2c", 13 + 768)
        struct.pack_into("<HH", content, frame + 5, width, height)
    return bytes(content)


PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Flickr: Page Not Found</title></head><body>"
    + b"photo " * 99
    + b"</body></html>"
)


def link_to_itself(path):
    path.symlink_to(path)


def broken_files():
    """Name -> bytes, or what makes the file at a path."""
    made = {}
    for kind, content in WHOLE.items():
        size = len(content)
        for end in (1, 3, 12, size // 10, size // 2, size * 9 // 10, size - 4):
            made[f"{kind} cut behind {end}"] = content[:end]
        made[f"{kind} with a damaged signature"] = bytes([content[0] ^ 0xFF]) + content[1:]
        made[f"{kind} of 60,000 x 60,000"] = with_size(kind, 60000, 60000)
        if kind != "lossless webp":  # stores the size minus one
            made[f"{kind} of no width"] = with_size(kind, 0, 40)
            made[f"{kind} of no height"] = with_size(kind, 48, 0)
        made[f"{kind} behind a line end"] = b"\r\n" + content  # what servers' scripts put in front
        made[f"{kind} sent as text"] = content.decode("latin-1").encode()
    for kind in ("jpeg", "progressive jpeg", "png", "gif"):
        content = WHOLE[kind]
        made[f"{kind} with a tail of zeros"] = content[: len(content) // 2] + bytes(len(content) // 2)
    made["png with a flipped byte"] = WHOLE["png"][:90] + bytes([WHOLE["png"][90] ^ 1]) + WHOLE["png"][91:]
    made["zero bytes"] = b""
    made["one byte"] = b"\0"
    made["a block of zeros"] = bytes(4096)
    made["a page of HTML"] = PAGE
    made["an answer in JSON"] = b'{"stat": "fail", "code": 1, "message": "Photo not found"}'
    made["a text"] = "Foto nicht verf\u00fcgbar".encode("utf-16")
    made["noise"] = np.random.default_rng(1).bytes(5000)
    made["an archive"] = b"PK\x03\x04" + bytes(200)
    made["a film"] = b"\0\0\0\x20ftypisom" + bytes(200)
    made["a pointer to a large file"] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    made["a folder"] = os.mkdir
    made["a pipe"] = os.mkfifo
    made["a link to itself"] = link_to_itself
    made["a dead link"] = lambda path: path.symlink_to("nowhere.jpg")
    made["a device"] = lambda path: path.symlink_to("/dev/zero")
    made["a sparse file of a terabyte"] = lambda path: (path.touch(), os.truncate(path, 1 << 40))
    made["nothing"] = lambda path: None
    return made


def good_files():
    """Name -> bytes of files that are unusual and whole; all show COLOUR."""
    made = dict(WHOLE)
    made["one pixel"] = saved("PNG", picture().crop((0, 0, 1, 1)))
    made["one column"] = saved("PNG", picture().crop((0, 0, 1, 40)))
    made["long and narrow"] = saved("JPEG", picture(size=(900, 8)), quality=95)
    made["cmyk"] = saved("JPEG", picture("CMYK"), quality=95)
    made["palette"] = saved("PNG", picture().quantize(64))
    made["palette of bmp"] = saved("BMP", picture().quantize(64))
    made["alpha"] = saved("PNG", picture("RGBA"))
    made["alpha of tiff"] = saved("TIFF", picture("RGBA"))
    made["alpha of webp"] = saved("WEBP", picture("RGBA"), lossless=True)
    made["interlaced"] = saved("PNG", interlace=1)
    frames = [picture(), picture().transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    made["animated gif"] = saved("GIF", frames[0], save_all=True, append_images=frames[1:])
    made["animated webp"] = saved("WEBP", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    made["animated png"] = saved("PNG", frames[0], save_all=True, append_images=frames[1:])
    made["tiff of two pages"] = saved("TIFF", frames[0], save_all=True, append_images=frames[1:])
    made["jpeg with something behind it"] = WHOLE["jpeg"] + bytes(500)
    made["jpeg with a profile"] = saved("JPEG", quality=95, icc_profile=bytes(3000))
    made["jpeg with a comment"] = saved("JPEG", quality=95, comment=b"\xff\xda \xff\xd9")
    sixteen = np.asarray(picture())[..., ::-1].astype(np.uint16) * 257
    made |= {f"16 bits of {kind}": cv2.imencode(f".{kind}", sixteen)[1].tobytes() for kind in ("png", "tiff")}
    return made
