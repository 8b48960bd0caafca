"""Reading and writing caffemodels: against pycaffe, the old formats, and damaged files."""

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from pysrn.console import MissingError, SrnError
from pysrn.nets.caffemodel import fits, read_layers, read_weights, sha256_of, write_weights

LAYERS = {
    "conv1": (
        "Convolution",
        [np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.array([0.5, -1e-30], np.float32)],
    ),
    "bn": ("BatchNorm", [np.ones(2, np.float32), np.ones(2, np.float32), np.array([999.98], np.float32)]),
}


def test_written_weights_come_back_bit_by_bit(tmp_path):
    write_weights(tmp_path / "w.caffemodel", "net", LAYERS)
    found = read_layers(tmp_path / "w.caffemodel")
    assert list(found) == list(LAYERS)
    for name, (kind, blobs) in LAYERS.items():
        assert found[name][0] == kind
        for mine, theirs in zip(found[name][1], blobs, strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_array_equal(mine, theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["w.caffemodel"]


def test_caffe_reads_what_we_write_and_we_what_caffe_writes(tmp_path):
    import caffe

    text = """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                convolution_param { num_output: 2 kernel_size: 2 } }
        layer { name: "bn" type: "BatchNorm" bottom: "conv1" top: "bn" }
    """
    (tmp_path / "net.prototxt").write_text(text)
    write_weights(tmp_path / "ours.caffemodel", "net", LAYERS)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST, weights=str(tmp_path / "ours.caffemodel"))
    for name, (_, blobs) in LAYERS.items():
        for blob, values in zip(net.params[name], blobs, strict=True):
            np.testing.assert_array_equal(blob.data, values)
    net.save(str(tmp_path / "theirs.caffemodel"))
    found = read_weights(tmp_path / "theirs.caffemodel")
    assert {name: [blob.shape for blob in blobs] for name, blobs in found.items()} == {
        "conv1": [(2, 3, 2, 2), (2,)],
        "bn": [(2,), (2,), (1,)],
    }
    np.testing.assert_array_equal(found["conv1"][0], LAYERS["conv1"][1][0])


@pytest.mark.parametrize(
    ("folder", "name", "prototxt"),
    [
        ("squeezenet_v1.1", "squeezenet_v1.1-from-ndf.caffemodel", "squeezenet_v1.1/deploy.prototxt"),
        (
            "resnet50_msra",
            "ResNet-50-model.caffemodel",
            "deep-residual-networks_prototxt/ResNet-50-deploy.prototxt",
        ),
    ],
)
def test_real_files_read_as_pycaffe_reads_them(shared_data, folder, name, prototxt):
    import caffe

    path = shared_data / "pretrained" / folder / name
    net = caffe.Net(str(shared_data / "pretrained" / prototxt), caffe.TEST, weights=str(path))
    found = read_weights(path)
    assert sorted(found) == sorted(net.params)
    for layer, blobs in found.items():
        for mine, theirs in zip(blobs, net.params[layer], strict=True):
            assert fits(mine.shape, theirs.data.shape)
            np.testing.assert_array_equal(mine.reshape(theirs.data.shape), theirs.data)


def test_v1_layers_legacy_shapes_and_doubles(tmp_path):
    net = caffe_pb2.NetParameter()
    layer = net.layers.add(name="fc", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    layer.blobs.add(num=1, channels=1, height=1, width=2, double_data=[0.25, 4])
    net.layers.add(name="relu", type=caffe_pb2.V1LayerParameter.RELU)
    (tmp_path / "old.caffemodel").write_bytes(net.SerializeToString())
    ((name, (kind, (weight, bias))),) = read_layers(tmp_path / "old.caffemodel").items()
    assert (name, kind) == ("fc", "INNER_PRODUCT")
    assert weight.tolist() == [[[[0, 1, 2], [3, 4, 5]]]] and bias.ravel().tolist() == [0.25, 4]
    assert fits(weight.shape, (2, 3)) and fits(bias.shape, (2,))


@pytest.mark.parametrize(
    ("stored", "wanted", "answer"),
    [
        ((2, 3), (2, 3), True),
        ((1, 1, 2, 3), (2, 3), True),
        ((1, 1, 1, 3), (3,), True),
        ((6,), (2, 3), False),
        ((3, 2), (2, 3), False),
        ((2, 1, 2, 3), (2, 3), False),
        ((1, 2, 3), (2, 3), False),
        ((2, 3), (1, 1, 2, 3), False),
    ],
)
def test_fits(stored, wanted, answer):
    assert fits(stored, wanted) is answer


def test_a_net_with_the_same_name_twice_or_a_wrong_count_is_refused(tmp_path):
    path = tmp_path / "odd.caffemodel"
    net = caffe_pb2.NetParameter()
    for _ in range(2):
        blob = net.layer.add(name="fc").blobs.add(data=[1, 2])
        blob.shape.dim.append(2)
    path.write_bytes(net.SerializeToString())
    with pytest.raises(SrnError, match="two layers with weights are called 'fc'"):
        read_weights(path)
    del net.layer[1]
    net.layer[0].blobs[0].shape.dim[0] = 3
    path.write_bytes(net.SerializeToString())
    with pytest.raises(SrnError, match=r"odd.caffemodel: layer 'fc', blob 0 says shape \(3,\) but holds 2 numbers"):
        read_weights(path)
    net.layer[0].blobs[0].ClearField("shape")
    path.write_bytes(net.SerializeToString())
    with pytest.raises(SrnError, match="has no shape"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", b"layer { name: 'x' }\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(range(256))])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "foreign.caffemodel").write_bytes(content)
    with pytest.raises(SrnError, match="foreign.caffemodel"):
        read_weights(tmp_path / "foreign.caffemodel")
    with pytest.raises(MissingError, match="caffemodel not found"):
        read_weights(tmp_path / "none.caffemodel")


def test_truncated_files_are_refused(tmp_path):
    write_weights(tmp_path / "w.caffemodel", "net", LAYERS)
    whole = (tmp_path / "w.caffemodel").read_bytes()
    last_layer = whole.index(b"bn") - 4
    for length in (*range(1, last_layer, 7), *range(last_layer + 1, len(whole))):
        (tmp_path / "cut.caffemodel").write_bytes(whole[:length])
        with pytest.raises(SrnError, match="cut.caffemodel"):
            read_weights(tmp_path / "cut.caffemodel")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.caffemodel"
    write_weights(path, "net", LAYERS)
    before = sha256_of(path)
    with pytest.raises(TypeError):
        write_weights(path, "net", {"conv1": (None, [object()])})
    assert sha256_of(path) == before
    assert [file.name for file in tmp_path.iterdir()] == ["w.caffemodel"]
