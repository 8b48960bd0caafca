"""Caffe's messages without Caffe: nets, solvers and weight files are written and read where no Caffe is.

`caffe.desc` is the descriptor of the built Caffe's own `caffe.proto`, in a pool of its own, because Caffe registers the
same names in the default pool. A test holds it equal to Caffe's, and the bytes of messages, both ways.

`fork_layer` is for reading weight files of a fork of Caffe: it has its `BN` layer's parameters where Caffe has
those of `Embed` (yjxiong/caffe, caffe.proto, field 137).
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_Proto = descriptor_pb2.FieldDescriptorProto
_FORKED = 137  # number of `bn_param` in the fork, of `embed_param` in Caffe


def _file() -> descriptor_pb2.FileDescriptorProto:
    content = resources.files("pysrn.nets").joinpath("caffe.desc").read_bytes()
    return descriptor_pb2.FileDescriptorProto.FromString(content)


def _classes(file: descriptor_pb2.FileDescriptorProto) -> dict[str, type]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for message in file.message_type
    }


def _forked(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    layer = next(message for message in file.message_type if message.name == "LayerParameter")
    field = next(field for field in layer.field if field.number == _FORKED)
    field.name, field.type_name = "bn_param", ".caffe.BNParameter"
    normalisation = file.message_type.add(name="BNParameter")
    normalisation.field.add(
        name="eps", number=4, type=_Proto.TYPE_FLOAT, label=_Proto.LABEL_OPTIONAL, default_value="1e-5"
    )
    return file


_OURS = _classes(_file())
BlobProto, Datum, SolverState = _OURS["BlobProto"], _OURS["Datum"], _OURS["SolverState"]
NetParameter, SolverParameter = _OURS["NetParameter"], _OURS["SolverParameter"]
LayerParameter, V1LayerParameter = _OURS["LayerParameter"], _OURS["V1LayerParameter"]
V1_TYPES = tuple(sorted(V1LayerParameter.LayerType.keys(), key=V1LayerParameter.LayerType.Value))  # by number, from 0


def copy_of(message: Message) -> Message:
    """A message of its own with the same content."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


@cache
def fork_layer() -> type:
    """`LayerParameter` of the fork."""
    return _classes(_forked(_file()))["LayerParameter"]
