"""Caffe's messages without Caffe: nets, solvers and weight files are written and read where no Caffe is.

`caffe.desc` is the descriptor of the built Caffe's own `caffe.proto`, in a pool of its own, because Caffe registers the
same names in the default pool. A test holds it equal to Caffe's, and the bytes of messages, both ways.

`fork_layer` is for reading weight files of a fork of Caffe: it has its `BN` layer's parameters where Caffe has
those of `Embed` (yjxiong/caffe, caffe.proto, field 137).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from pysrn.later import later

if TYPE_CHECKING:
    from google.protobuf import descriptor_pb2 as _descriptor
    from google.protobuf.message import Message

descriptor_pb2, descriptor_pool, message_factory = (
    later(f"google.protobuf.{name}") for name in ("descriptor_pb2", "descriptor_pool", "message_factory")
)
_MESSAGES = (
    "BlobProto", "Datum", "SolverState", "NetParameter", "SolverParameter", "LayerParameter", "V1LayerParameter",
)  # fmt: skip
_FORKED = 137  # number of `bn_param` in the fork, of `embed_param` in Caffe


def __getattr__(name: str) -> Any:
    """One of Caffe's messages, as a class: made when it is first asked for."""
    if name == "V1_TYPES":  # names by number, from 0
        kinds = _ours()["V1LayerParameter"].LayerType
        found = tuple(sorted(kinds.keys(), key=kinds.Value))
    elif name in _MESSAGES:
        found = _ours()[name]
    else:
        raise AttributeError(f"{__name__} has no {name}")
    globals()[name] = found  # from now on it is there
    return found


@cache
def _ours() -> dict[str, type]:
    return _classes(_file())


def _file() -> _descriptor.FileDescriptorProto:
    content = resources.files("pysrn.nets").joinpath("caffe.desc").read_bytes()
    return descriptor_pb2.FileDescriptorProto.FromString(content)


def _classes(file: _descriptor.FileDescriptorProto) -> dict[str, type]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for message in file.message_type
    }


def _forked(file: _descriptor.FileDescriptorProto) -> _descriptor.FileDescriptorProto:
    layer = next(message for message in file.message_type if message.name == "LayerParameter")
    field = next(field for field in layer.field if field.number == _FORKED)
    field.name, field.type_name = "bn_param", ".caffe.BNParameter"
    normalisation = file.message_type.add(name="BNParameter")
    normalisation.field.add(
        name="eps", number=4, type=field.TYPE_FLOAT, label=field.LABEL_OPTIONAL, default_value="1e-5"
    )
    return file


def copy_of(message: Message) -> Message:
    """A message of its own with the same content."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


@cache
def fork_layer() -> type:
    """`LayerParameter` of the fork."""
    return _classes(_forked(_file()))["LayerParameter"]
