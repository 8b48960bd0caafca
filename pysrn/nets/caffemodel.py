"""Caffe's weight files: `.caffemodel` to NumPy arrays and back, with Protocol Buffers alone: neither net nor Caffe.

Used wherever weights are looked at before Caffe may touch them (a mismatch inside Caffe aborts the process): by the
strict weight copy, by prediction and by the conversions. A file is judged field by field before anything is allocated
for it, and its numbers go straight into the arrays: reading takes about the memory that the arrays need.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError, Message

from pysrn.console import SrnError, existing_file
from pysrn.nets.messages import V1_TYPES, BlobProto, LayerParameter, NetParameter, V1LayerParameter, fork_layer
from pysrn.nets.wire_format import BYTES, FIXED32, FIXED64, Field, WireError, WireFile, head
from pysrn.whole_files import written_beside

MOST_AXES = 32  # Caffe, blob.hpp, kMaxBlobAxes
MOST_NUMBERS = 2**31 - 1  # of a blob: Caffe counts them in an int
# Bytes of a layer's names or of a blob's shape, and of all of them in a file (a ResNet-101 SRN's: 39 kB); assumed. As
# messages they can take eight times as much.
MOST_TEXT, MOST_TEXTS = 1 << 16, 1 << 19
MOST_LAYERS = 4_000  # a ResNet-101 SRN in training has 508; assumed. Each takes about 1 kB, be it ever so empty
MOST_RUNS = 100  # pieces that a blob's numbers may be in; writers use one; assumed
DESCRIPTION = ("name", "type", "bottom", "top", "convolution_param", "pooling_param", "bn_param")  # that are read
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
LEGACY = ("num", "channels", "height", "width")
FLOAT, DOUBLE = np.dtype("<f4"), np.dtype("<f8")


@dataclass(frozen=True)
class StoredLayer:
    """A layer as a caffemodel has it; `kind` of a V1 layer is its enum name.

    `message` is the layer itself, its blobs and all but DESCRIPTION left out.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: list[np.ndarray]
    message: Message


def read_weights(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Return layer name -> its blobs (float32, stored shape) of every layer that has blobs, in file order.

    Reads the present layer format and the older V1 format, blob shapes as `shape` or as the legacy
    num x channels x height x width (always four axes; `fits` compares such a shape with a net's).

    Raises:
        MissingError: there is no such file.
        SrnError: the file is truncated, no caffemodel, without weights, or contradicts itself.
    """
    return {name: blobs for name, (_, blobs) in read_layers(path).items()}


def read_layers(path: str | Path) -> dict[str, tuple[str, list[np.ndarray]]]:
    """As `read_weights`, with each layer's type (V1: its enum name): layer name -> (type, blobs)."""
    return {layer.name: (layer.kind, layer.blobs) for layer in read_net(path) if layer.blobs}


def read_net(path: str | Path) -> list[StoredLayer]:
    """As `read_layers`, but all layers with their wiring, also those without weights; V1 layers last."""
    path = existing_file(path, "caffemodel")
    with open(path, "rb") as file:
        try:
            layers = _layers(WireFile(file))
        except (WireError, DecodeError) as error:
            from_torch = "PyTorch weights become a caffemodel with tools/from_torch.py"
            cure = from_torch if path.suffix in TORCH_SUFFIXES else f"get {path.name} again"
            raise SrnError(f"{path} is damaged or no caffemodel: {error}", cure) from None
        except _Contradiction as error:
            raise SrnError(f"{path}: {error}", f"get {path.name} again") from None
    if not any(layer.blobs for layer in layers):
        raise SrnError(f"{path} holds no weights: empty, or no caffemodel", f"get {path.name} again")
    return layers


def write_weights(path: str | Path, name: str, layers: Mapping[str, tuple[str, Sequence[np.ndarray]]]) -> None:
    """Write a caffemodel of net `name` with `layers`: layer name -> (type, blobs), as float32.

    The bytes are those that Caffe's own messages would give. The file appears complete or not at all: it is written
    beside its place and renamed.
    """
    with written_beside(Path(path)) as partial, open(partial, "wb") as file:
        file.write(NetParameter(name=name).SerializeToString())
        for layer_name, (kind, blobs) in layers.items():
            blobs = [_blob_bytes(blob) for blob in blobs]
            rest = LayerParameter(name=layer_name, type=kind).SerializeToString()
            size = len(rest) + sum(len(part) for parts in blobs for part in parts)
            file.write(head(_number(NetParameter, "layer"), size) + rest)
            for parts in blobs:
                file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def fits(stored: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a blob of shape `stored` may fill one of shape `wanted`.

    Equal, or a legacy shape of four axes that is `wanted` behind ones (Caffe, Blob::ShapeEquals).
    """
    stored, wanted = tuple(stored), tuple(wanted)
    return stored == wanted or (len(wanted) < len(stored) == 4 and stored == (1,) * (4 - len(wanted)) + wanted)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Contradiction(Exception):
    """A well-formed file that cannot be meant; the text says what and where."""


def _number(message: type, field: str) -> int:
    return message.DESCRIPTOR.fields_by_name[field].number


def _blob_bytes(blob: np.ndarray) -> tuple[bytes, memoryview, bytes]:
    """Field `blobs` of a layer, in order: what stands before its numbers, the numbers (not copied), its shape."""
    array = np.asarray(blob, FLOAT)
    numbers = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    shape = BlobProto()
    shape.shape.dim.extend(array.shape)
    before, after = head(_number(BlobProto, "data"), len(numbers)) if len(numbers) else b"", shape.SerializeToString()
    whole = len(before) + len(numbers) + len(after)
    return head(_number(LayerParameter, "blobs"), whole) + before, numbers, after


def _layers(file: WireFile) -> list[StoredLayer]:
    now, old = fork_layer(), V1LayerParameter
    formats = {_number(NetParameter, "layer"): now, _number(NetParameter, "layers"): old}
    found: dict[type, list[StoredLayer]] = {now: [], old: []}
    names: set[str] = set()
    for field in file.fields(0, file.size):
        if field.wire != BYTES or field.number not in formats:
            continue
        message = formats[field.number]
        layer = _layer(file, field, message)
        if sum(map(len, found.values())) == MOST_LAYERS:
            raise WireError(f"it has more than {MOST_LAYERS:,} layers")
        if layer.blobs and layer.name in names:
            raise _Contradiction(f"two layers with weights are called '{layer.name}'")
        if layer.blobs:
            names.add(layer.name)
        found[message].append(layer)
    return found[now] + found[old]


def _layer(file: WireFile, field: Field, message: type) -> StoredLayer:
    texts = _Small(file, message, [name for name in DESCRIPTION if name in message.DESCRIPTOR.fields_by_name])
    blobs: list[Field] = []
    for part in file.fields(field.value, field.end):
        if part.number == _number(message, "blobs") and part.wire == BYTES:
            blobs.append(part)
        texts.add(part)
    layer = texts.message()
    words = (layer.name, *layer.bottom, *layer.top, *([] if message is V1LayerParameter else [layer.type]))
    if not all(isinstance(word, str) and word.isprintable() for word in words):
        raise WireError(f"the layer at byte {field.start:,} has names that are no text")
    if blobs and not layer.name:
        raise WireError(f"the layer at byte {field.start:,} has weights but no name")
    arrays = [_array(file, blob, f"layer '{layer.name}', blob {i}") for i, blob in enumerate(blobs)]
    kind = V1_TYPES[layer.type] if message is V1LayerParameter else layer.type
    return StoredLayer(layer.name, kind, tuple(layer.bottom), tuple(layer.top), arrays, layer)


def _array(file: WireFile, field: Field, where: str) -> np.ndarray:
    """BlobProto -> float32 array; `where` names it in errors."""
    forms = {(_number(BlobProto, "data"), wire): FLOAT for wire in (BYTES, FIXED32)}
    forms |= {(_number(BlobProto, "double_data"), wire): DOUBLE for wire in (BYTES, FIXED64)}
    runs: dict[np.dtype, list[Field]] = {FLOAT: [], DOUBLE: []}
    shape = _Small(file, BlobProto, (*LEGACY, "shape"))
    for part in file.fields(field.value, field.end):
        stored = forms.get((part.number, part.wire))
        if stored is not None and part.end > part.value:
            runs[stored].append(part)
        shape.add(part)
    if max(map(len, runs.values())) > MOST_RUNS:
        raise WireError(f"{where}: its numbers are in more than {MOST_RUNS} pieces")
    stored = DOUBLE if runs[DOUBLE] else FLOAT  # as in Caffe, Blob::FromProto
    counts = [file.count(part, stored.itemsize) for part in runs[stored]]
    axes, size = _axes(shape.message(), where), sum(counts)
    if min(axes, default=1) < 0 or math.prod(axes) != size:
        raise _Contradiction(f"{where} says shape {axes} but holds {size} numbers")
    if math.prod(max(axis, 1) for axis in axes) > MOST_NUMBERS:
        raise _Contradiction(f"{where} says shape {axes}, beyond what Caffe can hold")
    array, done = np.empty(size, FLOAT), 0
    for part, count in zip(runs[stored], counts, strict=True):
        file.numbers(part, array[done : done + count], stored)
        done += count
    return array.reshape(axes)


def _axes(blob: BlobProto, where: str) -> tuple[int, ...]:
    """The shape that a BlobProto states."""
    if any(map(blob.HasField, LEGACY)):  # goes before, as in Caffe, Blob::FromProto
        return tuple(getattr(blob, name) for name in LEGACY)
    if not blob.HasField("shape"):
        raise _Contradiction(f"{where} has no shape")
    if len(blob.shape.dim) > MOST_AXES:
        raise _Contradiction(f"{where} has {len(blob.shape.dim)} axes, Caffe's limit is {MOST_AXES}")
    return tuple(blob.shape.dim)


class _Small:
    """The fields of a message that Protocol Buffers itself shall read: all but numbers of weights."""

    def __init__(self, file: WireFile, message: type, fields: Sequence[str]) -> None:
        self._file, self._class, self._content = file, message, bytearray()
        self._numbers = {_number(message, name) for name in fields}

    def add(self, part: Field) -> None:
        """Keep a field if it is one of those wanted."""
        if part.number in self._numbers:
            self._file.texts += part.end - part.start
            if len(self._content) + part.end - part.start > MOST_TEXT or self._file.texts > MOST_TEXTS:
                raise WireError(f"the field at byte {part.start:,} makes names and shapes longer than any net's")
            self._content += self._file.read(part.start, part.end)

    def message(self):
        """What was kept, as a message of its own."""
        return self._class.FromString(bytes(self._content))
