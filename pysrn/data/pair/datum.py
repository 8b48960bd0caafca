"""Caffe's `Datum` message without Caffe, so that the worker processes of the data layer start quickly.

Field names, numbers and types are those of `caffe.proto`; a test compares the bytes with Caffe's own.
"""

from __future__ import annotations

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto


def _datum_class() -> type:
    """Build the message class in a pool of its own: Caffe may register the same name in the default pool."""
    single, many = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="pysrn_datum.proto", package="caffe", syntax="proto2")
    message = file.message_type.add(name="Datum")
    message.field.add(name="channels", number=1, type=_Field.TYPE_INT32, label=single)
    message.field.add(name="height", number=2, type=_Field.TYPE_INT32, label=single)
    message.field.add(name="width", number=3, type=_Field.TYPE_INT32, label=single)
    message.field.add(name="data", number=4, type=_Field.TYPE_BYTES, label=single)
    message.field.add(name="label", number=5, type=_Field.TYPE_INT32, label=single)
    message.field.add(name="float_data", number=6, type=_Field.TYPE_FLOAT, label=many)
    message.field.add(name="encoded", number=7, type=_Field.TYPE_BOOL, label=single, default_value="false")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Datum"))


Datum = _datum_class()


def encoded_image(jpeg: bytes, height: int, width: int) -> bytes:
    """A serialized Datum that holds an encoded BGR image."""
    return Datum(channels=3, height=height, width=width, data=jpeg, encoded=True).SerializeToString()


def raw_image(pixels: np.ndarray) -> bytes:
    """A serialized Datum of a uint8 H x W x 3 image, stored channel by channel as Caffe does."""
    height, width, channels = pixels.shape
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
    return Datum(channels=channels, height=height, width=width, data=planes).SerializeToString()


def label_vector(labels: np.ndarray) -> bytes:
    """A serialized Datum of C x 1 x 1 floats."""
    return Datum(channels=len(labels), height=1, width=1, float_data=labels.astype(float)).SerializeToString()
