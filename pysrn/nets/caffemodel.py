"""Caffe's weight files: `.caffemodel` to NumPy arrays and back, without building a net.

Used wherever weights are looked at before Caffe may touch them (a mismatch inside Caffe aborts the process):
by the strict weight copy, by prediction and by the PyTorch export.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from pysrn.console import SrnError, existing_file


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
    path = existing_file(path, "caffemodel")
    from caffe.proto import caffe_pb2

    net = caffe_pb2.NetParameter()
    try:
        net.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise SrnError(f"{path} is damaged or no caffemodel: {error}", f"get {path.name} again") from None
    layers: dict[str, tuple[str, list[np.ndarray]]] = {}
    for layer in (*net.layer, *net.layers):
        if not layer.blobs:
            continue
        if layer.name in layers:
            raise SrnError(f"{path}: two layers with weights are called '{layer.name}'")
        is_v1 = isinstance(layer, caffe_pb2.V1LayerParameter)
        kind = caffe_pb2.V1LayerParameter.LayerType.Name(layer.type) if is_v1 else layer.type
        blobs = [_array(blob, f"{path}: layer '{layer.name}', blob {i}") for i, blob in enumerate(layer.blobs)]
        layers[layer.name] = (kind, blobs)
    if not layers:
        raise SrnError(f"{path} holds no weights: empty, or no caffemodel")
    return layers


def write_weights(path: str | Path, name: str, layers: Mapping[str, tuple[str, Sequence[np.ndarray]]]) -> None:
    """Write a caffemodel of net `name` with `layers`: layer name -> (type, blobs), as float32.

    The file appears complete or not at all: it is written beside its place and renamed.
    """
    from caffe.proto import caffe_pb2

    net = caffe_pb2.NetParameter(name=name)
    for layer_name, (kind, blobs) in layers.items():
        layer = net.layer.add(name=layer_name, type=kind)
        for array in blobs:
            blob = layer.blobs.add()
            blob.shape.dim.extend(np.shape(array))
            blob.data.extend(np.asarray(array, np.float32).ravel().tolist())
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            file.write(net.SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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


def _array(blob, where: str) -> np.ndarray:
    """BlobProto -> float32 array; `where` names it in errors."""
    values = np.array(blob.double_data if len(blob.double_data) else blob.data, dtype=np.float32)
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    elif any(map(blob.HasField, ("num", "channels", "height", "width"))):
        shape = (blob.num, blob.channels, blob.height, blob.width)
    else:
        raise SrnError(f"{where} has no shape")
    if min(shape, default=1) < 0 or math.prod(shape) != values.size:
        raise SrnError(f"{where} says shape {shape} but holds {values.size} numbers")
    return values.reshape(shape)
