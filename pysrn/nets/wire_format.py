"""Protocol Buffers' wire format, read from a file in place: where each field lies, and runs of numbers as arrays.

Under `caffemodel.py`. A parser that builds the whole message would need a file's size several times over, and believes
what a file says about itself. Here nothing is read that is not asked for, nothing is allocated before the file has been
found to hold it, and no field reaches beyond the one around it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are in no message of Caffe
WIDTHS = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10  # bytes: 64 bits, 7 in each
LONGEST_HEAD = 2 * LONGEST_VARINT
# A snapshot of a ResNet-101 SRN has 6,026 fields at the depth that is looked into. assumed: some seven times that
# bounds the time and the memory (some MB) that a file of nothing but tiny fields can cost.
MOST_FIELDS = 40_000
CHUNK = 1 << 18  # numbers converted at a time


class WireError(Exception):
    """The bytes are no well-formed message; the text says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field, or a run of equal unpacked numbers' fields: its bytes are `start` (of the tag) to `end`.

    `value` is where its content starts; `count` how many fields of the same tag and width follow each other.
    """

    number: int
    wire: int
    start: int
    value: int
    end: int
    count: int = 1


class WireFile:
    """An open file, read as a message; `texts` counts the bytes of what the reader keeps beside numbers."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.texts = 0
        self._fields_left = MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in bytes `start` to `end`; WireError where they are not well formed."""
        while start < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise WireError(f"it has more than {MOST_FIELDS:,} fields")
            head = self.read(start, min(start + LONGEST_HEAD, end))
            tag, used = _varint(head, 0)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise WireError(f"byte {start:,} is no field")
            value, count = start + used, 1
            if wire == VARINT:
                stop = start + _varint(head, used)[1]
            elif wire == BYTES:
                length, used = _varint(head, used)
                value = start + used
                stop = value + length
            elif wire in WIDTHS:
                stop = value + WIDTHS[wire]
            else:
                raise WireError(f"byte {start:,} is no field")
            if stop > end:
                raise WireError(f"the field at byte {start:,} ends {stop - end:,} bytes beyond what it is in")
            if wire in WIDTHS:
                count = self._run(head[:used], start, stop - start, end)
                stop = start + count * (stop - start)
            yield Field(number, wire, start, value, stop, count)
            start = stop

    def read(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end`."""
        self.file.seek(start)
        content = self.file.read(end - start)
        if len(content) < end - start:
            raise WireError("it shrinks while it is read")
        return content

    def count(self, field: Field, width: int) -> int:
        """How many numbers of `width` bytes a field holds, packed or not."""
        if field.wire != BYTES:
            return field.count
        count, rest = divmod(field.end - field.value, width)
        if rest:
            raise WireError(f"the numbers at byte {field.start:,} are not a multiple of {width} bytes")
        return count

    def numbers(self, field: Field, into: np.ndarray, stored: np.dtype) -> None:
        """Fill `into` (contiguous float32) with a field's numbers, in the file of type `stored`."""
        if field.wire == BYTES and stored == into.dtype:
            self._fill(field.value, into)
            return
        gap = 0 if field.wire == BYTES else field.value - field.start  # the tag before each
        row = np.dtype([("tag", np.uint8, (gap,)), ("number", stored)])
        start = field.value if field.wire == BYTES else field.start
        buffer = np.empty(min(CHUNK, len(into)), row)
        for done in range(0, len(into), CHUNK):
            part = buffer[: len(into) - done]
            self._fill(start + done * row.itemsize, part)
            with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 is infinite, as in Caffe
                into[done : done + len(part)] = part["number"]

    def _fill(self, start: int, array: np.ndarray) -> None:
        """Read an array's bytes from `start` on, straight into it."""
        self.file.seek(start)
        if self.file.readinto(memoryview(array.view(np.uint8))) < array.nbytes:
            raise WireError("it shrinks while it is read")

    def _run(self, tag: bytes, start: int, step: int, end: int) -> int:
        """How many fields of the same tag and width begin at `start`: old writers gave every number its own tag."""
        expected, count, look = np.frombuffer(tag, np.uint8), 1, 16
        while look := min(look, (end - start) // step - count):
            at = start + count * step
            rows = np.frombuffer(self.read(at, at + look * step), np.uint8).reshape(look, step)
            same = (rows[:, : len(tag)] == expected).all(axis=1)
            if not same.all():
                return count + int(same.argmin())
            count += look
            look = min(2 * look, CHUNK)
        return count


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `content[at]`, and where it ends."""
    number = 0
    for i, byte in enumerate(content[at : at + LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at + i + 1
    raise WireError(
        "it ends in the middle of a number" if len(content) - at < LONGEST_VARINT else "a number is too long"
    )


def varint(number: int) -> bytes:
    """A number that is not negative, as it is written."""
    content = bytearray()
    while number > 0x7F:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)


def head(number: int, length: int) -> bytes:
    """What is written before the `length` bytes of field `number`."""
    return varint(number << 3 | BYTES) + varint(length)
