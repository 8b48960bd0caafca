"""The messages of a `.caffemodel` without Caffe, so that weights are read and converted where no Caffe is.

Of each message what a weight file is made of and what our deploy nets say. Names, numbers, types and defaults of the
fields are those of `caffe.proto`; a test compares the bytes with Caffe's own, both ways. Numbers of weights go past
them: `caffemodel.py` moves those itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Proto = descriptor_pb2.FieldDescriptorProto
# V1LayerParameter.LayerType, 0 to 39.
V1_TYPES = (
    *("NONE", "ACCURACY", "BNLL", "CONCAT", "CONVOLUTION", "DATA", "DROPOUT", "EUCLIDEAN_LOSS", "FLATTEN"),
    *("HDF5_DATA", "HDF5_OUTPUT", "IM2COL", "IMAGE_DATA", "INFOGAIN_LOSS", "INNER_PRODUCT", "LRN"),
    *("MULTINOMIAL_LOGISTIC_LOSS", "POOLING", "RELU", "SIGMOID", "SOFTMAX", "SOFTMAX_LOSS", "SPLIT", "TANH"),
    *("WINDOW_DATA", "ELTWISE", "POWER", "SIGMOID_CROSS_ENTROPY_LOSS", "HINGE_LOSS", "MEMORY_DATA", "ARGMAX"),
    *("THRESHOLD", "DUMMY_DATA", "SLICE", "MVN", "ABSVAL", "SILENCE", "CONTRASTIVE_LOSS", "EXP", "DECONVOLUTION"),
)


@dataclass(frozen=True)
class _Field:
    """A field: its type by caffe.proto's word for it, a message's name, or `enum` with `values` from `first` on."""

    number: int
    kind: str
    many: bool = False
    default: str = ""
    values: tuple[str, ...] = ()
    first: int = 0


def _many(number: int, kind: str) -> _Field:
    return _Field(number, kind, many=True)


_MESSAGES = {
    "BlobShape": {"dim": _many(1, "int64")},
    "BlobProto": {
        **{name: _Field(i, "int32", default="0") for i, name in enumerate(("num", "channels", "height", "width"), 1)},
        "data": _many(5, "float"),
        "diff": _many(6, "float"),
        "shape": _Field(7, "BlobShape"),
        "double_data": _many(8, "double"),
        "double_diff": _many(9, "double"),
    },
    "ParamSpec": {"lr_mult": _Field(3, "float", default="1"), "decay_mult": _Field(4, "float", default="1")},
    "FillerParameter": {"type": _Field(1, "string", default="constant"), "std": _Field(6, "float", default="1")},
    "InputParameter": {"shape": _many(1, "BlobShape")},
    "ConvolutionParameter": {
        "num_output": _Field(1, "uint32"),
        "bias_term": _Field(2, "bool", default="true"),
        "pad": _many(3, "uint32"),
        "kernel_size": _many(4, "uint32"),
        "group": _Field(5, "uint32", default="1"),
        "stride": _many(6, "uint32"),
        "weight_filler": _Field(7, "FillerParameter"),
        "pad_h": _Field(9, "uint32", default="0"),
        "pad_w": _Field(10, "uint32", default="0"),
        "stride_h": _Field(13, "uint32"),
        "stride_w": _Field(14, "uint32"),
    },
    "PoolingParameter": {
        "pool": _Field(1, "enum", values=("MAX", "AVE", "STOCHASTIC")),
        "kernel_size": _Field(2, "uint32"),
        "stride": _Field(3, "uint32", default="1"),
        "pad": _Field(4, "uint32", default="0"),
        "round_mode": _Field(13, "enum", values=("CEIL", "FLOOR")),
    },
    "BatchNormParameter": {"use_global_stats": _Field(1, "bool")},
    "ScaleParameter": {"bias_term": _Field(4, "bool", default="false")},
    "InnerProductParameter": {"num_output": _Field(1, "uint32"), "weight_filler": _Field(3, "FillerParameter")},
    "ReshapeParameter": {"shape": _Field(1, "BlobShape")},
    "SoftmaxParameter": {"axis": _Field(2, "int32", default="1")},
    "EltwiseParameter": {
        "operation": _Field(1, "enum", default="SUM", values=("PROD", "SUM", "MAX")),
        "coeff": _many(2, "float"),
    },
    "ReductionParameter": {
        "operation": _Field(1, "enum", default="SUM", values=("SUM", "ASUM", "SUMSQ", "MEAN"), first=1),
        "axis": _Field(2, "int32", default="0"),
    },
    "BNParameter": {"eps": _Field(4, "float", default="1e-5")},  # of the authors' fork
    "LayerParameter": {
        "name": _Field(1, "string"),
        "type": _Field(2, "string"),
        "bottom": _many(3, "string"),
        "top": _many(4, "string"),
        "param": _many(6, "ParamSpec"),
        "blobs": _many(7, "BlobProto"),
        "convolution_param": _Field(106, "ConvolutionParameter"),
        "eltwise_param": _Field(110, "EltwiseParameter"),
        "inner_product_param": _Field(117, "InnerProductParameter"),
        "pooling_param": _Field(121, "PoolingParameter"),
        "softmax_param": _Field(125, "SoftmaxParameter"),
        "reshape_param": _Field(133, "ReshapeParameter"),
        "reduction_param": _Field(136, "ReductionParameter"),
        "bn_param": _Field(137, "BNParameter"),  # official repo, caffe.proto; Caffe itself has EmbedParameter there
        "batch_norm_param": _Field(139, "BatchNormParameter"),
        "scale_param": _Field(142, "ScaleParameter"),
        "input_param": _Field(143, "InputParameter"),
    },
    "V1LayerParameter": {
        "bottom": _many(2, "string"),
        "top": _many(3, "string"),
        "name": _Field(4, "string"),
        "type": _Field(5, "enum", values=V1_TYPES),
        "blobs": _many(6, "BlobProto"),
    },
    "NetParameter": {
        "name": _Field(1, "string"),
        "layers": _many(2, "V1LayerParameter"),
        "layer": _many(100, "LayerParameter"),
    },
}
_PACKED = {("BlobShape", "dim"), *(("BlobProto", name) for name in ("data", "diff", "double_data", "double_diff"))}


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, field: _Field) -> None:
    label = _Proto.LABEL_REPEATED if field.many else _Proto.LABEL_OPTIONAL
    added = message.field.add(name=name, number=field.number, label=label)
    if field.default:
        added.default_value = field.default
    if (message.name, name) in _PACKED:
        added.options.packed = True
    if field.kind == "enum":
        enum = message.enum_type.add(name=f"{name.title()}Values")
        for number, value in enumerate(field.values, field.first):
            enum.value.add(name=value, number=number)
        added.type_name = f".caffe.{message.name}.{enum.name}"
    elif field.kind in _MESSAGES:
        added.type_name = f".caffe.{field.kind}"
    else:
        added.type = _Proto.Type.Value(f"TYPE_{field.kind.upper()}")


def _message_classes() -> dict[str, type]:
    """Build the classes in a pool of their own: Caffe may register the same names in the default pool."""
    file = descriptor_pb2.FileDescriptorProto(name="pysrn_caffemodel.proto", package="caffe", syntax="proto2")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, field in fields.items():
            _add_field(message, name, field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in _MESSAGES}


_CLASSES = _message_classes()
BlobProto, NetParameter = _CLASSES["BlobProto"], _CLASSES["NetParameter"]
LayerParameter, V1LayerParameter = _CLASSES["LayerParameter"], _CLASSES["V1LayerParameter"]
