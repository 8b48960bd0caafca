"""Our Datum against Caffe's own."""

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from pysrn.data.pair import datum

caffe_pb2 = pytest.importorskip("caffe.proto.caffe_pb2")


def fields(message):
    description = descriptor_pb2.DescriptorProto()
    message.DESCRIPTOR.CopyToProto(description)
    return [(f.name, f.number, f.type, f.label, f.default_value, f.options.packed) for f in description.field]


def test_fields_are_those_of_caffe():
    assert fields(datum.Datum) == fields(caffe_pb2.Datum)


def test_records_read_alike_in_both_directions():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    labels = np.array([1, -1, 0], np.int8)
    for record in (datum.raw_image(pixels), datum.encoded_image(b"jpeg", 4, 5), datum.label_vector(labels)):
        theirs = caffe_pb2.Datum.FromString(record)
        assert theirs.SerializeToString() == record
        assert datum.Datum.FromString(theirs.SerializeToString()).SerializeToString() == record

    raw = caffe_pb2.Datum.FromString(datum.raw_image(pixels))
    assert (raw.channels, raw.height, raw.width, raw.encoded) == (3, 4, 5, False)
    for c in range(3):  # Caffe: data[(c * height + h) * width + w]
        for h in range(4):
            for w in range(5):
                assert raw.data[(c * 4 + h) * 5 + w] == pixels[h, w, c]
    vector = caffe_pb2.Datum.FromString(datum.label_vector(labels))
    assert (vector.channels, vector.height, vector.width) == (3, 1, 1)
    assert list(vector.float_data) == [1, -1, 0]
