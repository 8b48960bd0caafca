"""Reading and writing caffemodels: against pycaffe, the old formats, and damaged files."""

import hashlib
import re
import subprocess
import sys
import tracemalloc

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pysrn.console import MissingError, SrnError
from pysrn.nets import messages as caffe_messages
from pysrn.nets.caffemodel import DESCRIPTION, fits, read_layers, read_net, read_weights, sha256_of, write_weights
from pysrn.nets.wire_format import CHUNK, head

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


def test_what_goes_before_what_is_as_in_caffe(tmp_path):
    """Caffe's own reading is the reference: doubles before floats, the legacy shape before the present one."""
    net = caffe_pb2.NetParameter()
    blob = net.layer.add(name="fc").blobs.add(data=[1, 2], double_data=[3, 4], num=1, channels=1, height=1, width=2)
    blob.shape.dim.append(2)
    (tmp_path / "both.caffemodel").write_bytes(net.SerializeToString())
    ((found,),) = read_weights(tmp_path / "both.caffemodel").values()
    text = """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                inner_product_param { num_output: 2 bias_term: false } }
    """
    blob.width, blob.height = 1, 2
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "caffes.caffemodel").write_bytes(net.SerializeToString())
    theirs = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST, weights=str(tmp_path / "caffes.caffemodel"))
    assert found.shape == (1, 1, 1, 2)
    np.testing.assert_array_equal(found.ravel(), theirs.params["fc"][0].data.ravel())


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


def test_pytorch_weights_are_sent_to_their_tool(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(SrnError, match="no caffemodel") as error:
        read_weights(tmp_path / "net.pth")
    assert "tools/from_torch.py" in error.value.cure


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


def test_the_messages_are_caffes_both_ways():
    ours, theirs = caffe_messages.NetParameter(name="net"), caffe_pb2.NetParameter(name="net")
    for net in (ours, theirs):
        layer = net.layer.add(name="conv", type="Convolution", bottom=["a", "b"], top=["c"])
        blob = layer.blobs.add(data=[1, -2.5], diff=[3], double_data=[0.1], double_diff=[0.2])
        blob.shape.dim.extend([2, 1, 300])
        old = net.layers.add(name="fc", type=14, bottom=["c"], top=["d"])
        old.blobs.add(num=1, channels=-2, height=3, width=4, data=[7])
    assert ours.SerializeToString() == theirs.SerializeToString()
    assert caffe_messages.NetParameter.FromString(theirs.SerializeToString()) == ours
    assert list(caffe_messages.V1_TYPES) == [
        caffe_pb2.V1LayerParameter.LayerType.Name(i) for i in range(len(caffe_pb2.V1LayerParameter.LayerType.items()))
    ]


def test_written_bytes_are_those_of_caffes_messages(tmp_path):
    layers = LAYERS | {
        "odd": ("Python", [np.zeros((2, 0)), np.float64(3), np.arange(6).reshape(2, 3).T, np.array([np.nan, np.inf])]),
        "none": ("ReLU", []),
    }
    write_weights(tmp_path / "w.caffemodel", "net", layers)
    net = caffe_pb2.NetParameter(name="net")
    for name, (kind, blobs) in layers.items():
        layer = net.layer.add(name=name, type=kind)
        for array in blobs:
            blob = layer.blobs.add()
            blob.shape.dim.extend(np.shape(array))
            blob.data.extend(np.asarray(array, np.float32).ravel().tolist())
    assert (tmp_path / "w.caffemodel").read_bytes() == net.SerializeToString()


def test_wiring_is_read_too(tmp_path):
    net = caffe_pb2.NetParameter()
    net.layers.add(name="old", type=18, bottom=["y"], top=["y"])
    net.layer.add(name="fc", type="InnerProduct", bottom=["x"], top=["y"]).blobs.add(num=1, data=[1])
    net.layer[0].blobs[0].MergeFrom(caffe_pb2.BlobProto(channels=1, height=1, width=1))
    (tmp_path / "w.caffemodel").write_bytes(net.SerializeToString())
    found = [(layer.name, layer.kind, layer.bottoms, layer.tops) for layer in read_net(tmp_path / "w.caffemodel")]
    assert found == [("fc", "InnerProduct", ("x",), ("y",)), ("old", "RELU", ("y",), ("y",))]


@pytest.mark.parametrize("doubles", [False, True])
def test_numbers_in_any_form_the_format_allows(tmp_path, doubles):
    """Every number with its own tag (writers of 2013), packed in pieces, and both by turns: more than one chunk."""
    values = np.random.default_rng(0).normal(0, 1, CHUNK + 1000).astype(np.float32)
    stored, number, wire = (values.astype("<f8"), 8, 1) if doubles else (values, 5, 5)

    def alone(part):
        return b"".join(bytes([number << 3 | wire]) + value.tobytes() for value in part)

    def packed(part):
        return head(number, part.nbytes) + part.tobytes()

    pieces = (alone(stored[:7]), packed(stored[7:9]), packed(stored[9:9]), alone(stored[9:-40]), packed(stored[-40:]))
    for content in (b"".join(pieces), packed(stored), alone(stored)):
        shape = caffe_pb2.BlobProto()
        shape.shape.dim.append(len(values))
        blob = shape.SerializeToString() + content
        layer = caffe_pb2.LayerParameter(name="fc").SerializeToString() + head(7, len(blob)) + blob
        (tmp_path / "w.caffemodel").write_bytes(head(100, len(layer)) + layer)
        ((found,),) = read_weights(tmp_path / "w.caffemodel").values()
        np.testing.assert_array_equal(found, values)


def blob_file(path, blob, name=b"fc"):
    layer = head(1, len(name)) + name + head(7, len(blob)) + blob
    path.write_bytes(head(100, len(layer)) + layer)
    return path


def shaped(*dims, data=b""):
    return head(5, len(data)) + data + caffe_pb2.BlobProto(shape={"dim": dims}).SerializeToString()


HUGE = 1 << 62
HOSTILE = {
    "a length beyond the file": (head(5, HUGE) + b"\0" * 8, "beyond what it is in"),
    "a length that wraps": (b"\x2a" + b"\xff" * 9 + b"\x01", "beyond what it is in"),
    "an endless number": (b"\x08" + b"\xff" * 12, "a number is too long"),
    "half a number": (b"\x08\xff", "in the middle of a number"),
    "a negative axis": (shaped(-1, -1, data=b"\0" * 4), r"says shape \(-1, -1\)"),
    "axes whose product is 2^64": (shaped(1 << 32, 1 << 32), "but holds 0 numbers"),
    "axes that overflow to the count": (shaped(1 << 62, 4, data=b""), "but holds 0 numbers"),
    "nothing times much": (shaped(0, HUGE), "beyond what Caffe can hold"),
    "too many axes": (shaped(*[1] * 33, data=b"\0" * 4), "has 33 axes"),
    "a shape of a million axes": (shaped(*[1] * 1_000_000, data=b"\0" * 4), "longer than any net's"),
    "fewer numbers than the shape": (shaped(2, 2, data=b"\0" * 12), r"says shape \(2, 2\) but holds 3 numbers"),
    "half a float": (shaped(2, data=b"\0" * 7), "not a multiple of 4 bytes"),
    "a group": (b"\x2b" * 40, "is no field"),
    "field 0": (b"\x02\x01\x01", "is no field"),
    "a million fields": (b"\x78\x01" * 1_000_000, "more than 40,000 fields"),
    "a number in a thousand pieces": (b"\x2a\x04\0\0\0\0" * 1000, "more than 100 pieces"),
    "a deep bomb in the shape": (head(7, 60_000) + b"\x0b" * 60_000, "is damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path, kind):
    blob, reason = HOSTILE[kind]
    path = blob_file(tmp_path / "hostile.caffemodel", blob)
    error, memory = attempt(path)
    assert isinstance(error, SrnError) and "hostile.caffemodel" in str(error)
    assert re.search(reason, str(error)) and "\n" not in f"{error} {error.cure}"
    assert memory < 2 * path.stat().st_size + FIXED_COST


def test_many_long_names_are_refused(tmp_path):
    path = tmp_path / "names.caffemodel"
    path.write_bytes((head(100, 60_004) + head(1, 60_000) + b"n" * 60_000) * 300)
    error, memory = attempt(path)
    assert isinstance(error, SrnError) and "longer than any net's" in str(error)
    assert memory < 2 * path.stat().st_size


def test_names_that_would_spoil_a_message_are_refused(tmp_path):
    for name in (b"a\nb", b"\x1b[2J", b"\xff\xfe"):
        with pytest.raises(SrnError, match="has names that are no text"):
            read_weights(blob_file(tmp_path / "w.caffemodel", shaped(1, data=b"\0" * 4), name))
    with pytest.raises(SrnError, match="longer than any net's"):
        read_weights(blob_file(tmp_path / "w.caffemodel", shaped(1, data=b"\0" * 4), b"n" * 70_000))
    assert list(read_weights(blob_file(tmp_path / "w.caffemodel", shaped(1, data=b"\0\0\xc0\x7f"), "né".encode())))


FIXED_COST = 1 << 20  # bytes: a message in the making, Python's own objects


def attempt(path):
    """(what `read_layers` gave or raised, the most memory that it held meanwhile)."""
    tracemalloc.start()
    try:
        outcome = read_layers(path)
    except SrnError as error:
        outcome = error
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return outcome, memory


def lean_net_class():
    """NetParameter, its layers with the fields alone that are read."""
    file = descriptor_pb2.FileDescriptorProto()
    caffe_messages.fork_layer().DESCRIPTOR.file.CopyToProto(file)
    for layer in file.message_type:
        if layer.name in ("LayerParameter", "V1LayerParameter"):
            kept = [field for field in layer.field if field.name in (*DESCRIPTION, "blobs")]
            del layer.field[:]
            layer.field.extend(kept)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def whole_reading(content, net_class):
    """Layer name -> (shape, bytes) of each blob as whole messages and Caffe's rules give them, or None."""
    net = net_class()
    try:
        net.ParseFromString(content)
    except DecodeError:
        return None
    found = {}
    for layer in (*net.layer, *net.layers):
        for blob in layer.blobs:
            legacy = any(map(blob.HasField, ("num", "channels", "height", "width")))
            shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
            with np.errstate(all="ignore"):
                values = np.array(blob.double_data or blob.data, np.float32)
            found.setdefault(layer.name, []).append((shape, values.tobytes()))
    return found


def mutated(content, random):
    """A copy of some bytes with a few bits flipped, cut off, or with a giant number somewhere."""
    content = bytearray(content)
    kind = random.choice(["bits", "bits at the edges", "cut", "giant", "moved"])
    if kind == "cut":
        return bytes(content[: random.integers(1, len(content))])
    if kind == "moved":
        at = random.integers(0, len(content))
        return bytes(content[:at] + content[at + random.integers(1, 6) :])
    if kind == "giant":
        at = random.integers(0, len(content))
        return bytes(content[:at] + b"\xff" * random.integers(1, 11) + b"\x7f" + content[at + 1 :])
    reach = len(content) if kind == "bits" else min(len(content), 400)
    for _ in range(random.integers(1, 9)):
        content[random.integers(0, reach)] ^= 1 << random.integers(0, 8)
    return bytes(content)


def check_mutations(content, count, seed, folder):
    """Mutate `count` times; every copy is refused, or read as Caffe reads it, within twice its size of memory."""
    random, refused, lean = np.random.default_rng(seed), 0, lean_net_class()
    path = folder / "mutated.caffemodel"
    for number in range(count):
        changed = mutated(content, random)
        path.write_bytes(changed)
        outcome, memory = attempt(path)
        assert memory <= 2 * len(changed) + FIXED_COST, number
        if isinstance(outcome, SrnError):
            refused += 1
            assert "\n" not in str(outcome)
            continue
        found = {name: [(b.shape, b.tobytes()) for b in blobs] for name, (_, blobs) in outcome.items()}
        # Caffe's messages also refuse what is damaged in parts of a layer that are nothing to its weights.
        assert found == (whole_reading(changed, caffe_pb2.NetParameter) or whole_reading(changed, lean)), number
    return refused


def test_900_mutated_small_files(tmp_path):
    net = caffe_pb2.NetParameter(name="small")
    for name, (kind, blobs) in LAYERS.items():
        layer = net.layer.add(name=name, type=kind, bottom=["x"], top=["x"])
        for array in blobs:
            layer.blobs.add(shape={"dim": array.shape}, data=array.ravel().tolist())
    layer = net.layers.add(name="fc", type=14)
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    layer.blobs.add(num=1, channels=1, height=1, width=2, double_data=[0.25, 4])
    refused = check_mutations(net.SerializeToString(), 900, 0, tmp_path)
    assert 200 < refused < 800


def test_100_mutated_real_files(shared_data, tmp_path):
    path = shared_data / "pretrained" / "squeezenet_v1.1" / "squeezenet_v1.1-from-ndf.caffemodel"
    refused = check_mutations(path.read_bytes(), 100, 1, tmp_path)
    assert 20 < refused < 95


RESIDENT = """
import os, re, sys
from pysrn.console import SrnError
from pysrn.nets.caffemodel import read_layers
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
for path in sys.argv[2:]:
    sys.stdout.flush()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, path
        continue
    read_layers(sys.argv[1])  # the code itself, paged in
    before = peak()
    try:
        outcome = len(read_layers(path))
    except SrnError as error:
        outcome = error
    print(peak() - before, outcome, sep="|", flush=True)
    os._exit(0)
"""
# Bytes that a small file can cost at the worst: measured, the most layers take 4.6 MB, the most texts 4, blobs in the
# fields that are left 3.
FIXED_RESIDENT = 12 << 20


def resident(folder, paths):
    """(bytes by which a process grew at most, what it said) of reading each file in a process of its own."""
    warm = blob_file(folder / "warm.caffemodel", shaped(1, data=b"\0" * 4))
    command = [sys.executable, "-c", RESIDENT, str(warm), *map(str, paths)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(int(grown), said) for grown, _, said in (line.partition("|") for line in lines)]


def inner(number, content):
    return head(number, len(content)) + content


def layers_of(count, content):
    """`count` layers with names and `content`."""
    return b"".join(inner(100, inner(1, b"l%d" % i) + content) for i in range(count))


MILLION = bytes(4 << 20)  # float32 numbers
MILLION_BLOB = shaped(1 << 20, data=MILLION)
WHOLE = inner(100, inner(1, b"fc") + inner(7, MILLION_BLOB))
SMALL = inner(100, inner(1, b"fc") + inner(7, shaped(1, data=b"\0" * 4)))
# What costs Python or protobuf most for its size: kind -> (file, what is said; a number: layers with weights read)
COSTLY = {
    "packed floats": (WHOLE, "1"),
    "packed doubles": (inner(100, inner(1, b"fc") + inner(7, inner(8, 2 * MILLION) + shaped(1 << 20))), "1"),
    "gradients that are not read": (inner(100, inner(1, b"fc") + inner(7, inner(6, MILLION) + shaped(0))), "1"),
    "a giant length behind a whole layer": (WHOLE + head(100, 1 << 40), "beyond what it is in"),
    "a giant length in a blob": (layers_of(1, inner(7, MILLION_BLOB + head(5, 1 << 40))), "beyond what it is in"),
    "empty layers": (inner(100, b"") * 39_000, "more than 4,000 layers"),
    "as many layers as may be": (layers_of(3_999, b"") + SMALL, "1"),
    "tiny blobs": (layers_of(1, inner(7, shaped(1, data=b"\0" * 4)) * 7_900), "1"),
    "packed integers in messages": (layers_of(60, inner(106, inner(4, b"\1" * 60_000))) + SMALL, "than any net's"),
    "integers in messages": (layers_of(60, inner(106, b"\x20\1" * 30_000)) + SMALL, "than any net's"),
    "as many packed integers as may be": (layers_of(8, inner(106, inner(4, b"\1" * 65_000))) + SMALL, "1"),
    "most of it at once": (
        layers_of(3_900, inner(7, shaped(1, data=b"\0" * 4)) * 2) + layers_of(6, inner(106, inner(4, b"\1" * 65_000))),
        "3900",
    ),
    "a packed shape": (layers_of(1, inner(7, inner(7, inner(1, b"\1" * 65_000)))), "65000 axes"),
    "messages in messages": (layers_of(1, inner(106, inner(7, b"\x0b" * 60_000)) + inner(7, MILLION_BLOB)), "damaged"),
}


def test_the_resident_size_is_bounded_too(tmp_path):
    """`attempt` sees what Python allocates, not protobuf's own memory: here it counts, and all else."""
    paths = []
    for number, (content, _) in enumerate(COSTLY.values()):
        paths.append(tmp_path / f"{number}.caffemodel")
        paths[-1].write_bytes(content)
    for (kind, (content, wanted)), (grown, said) in zip(COSTLY.items(), resident(tmp_path, paths), strict=True):
        assert said == wanted if wanted.isdigit() else wanted in said, (kind, said)
        print(f"{kind}: {len(content) / 1e6:.2f} MB, grown by {grown / 1e6:.2f} MB")
        assert grown < 2 * len(content) + FIXED_RESIDENT, kind


def test_the_resident_size_of_mutated_files(tmp_path):
    content, random, paths = WHOLE + layers_of(40, inner(7, shaped(9, data=b"\0" * 36))), np.random.default_rng(3), []
    for number in range(20):
        paths.append(tmp_path / f"{number}.caffemodel")
        paths[-1].write_bytes(mutated(content, random))
    for path, (grown, _) in zip(paths, resident(tmp_path, paths), strict=True):
        assert grown < 2 * path.stat().st_size + FIXED_RESIDENT


ALONE = """
import re, sys
import numpy, pysrn.nets.caffemodel as caffemodel
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
weights = caffemodel.read_layers(sys.argv[1])
read = peak()
caffemodel.write_weights(sys.argv[2], "copy", weights)
assert not [name for name in sys.modules if name.split(".")[0] in ("caffe", "torch")], "Caffe was imported"
print(read - before, peak() - read)
"""


def test_a_file_of_100_mb_takes_little_more_than_its_arrays_and_no_caffe(shared_data, tmp_path):
    path = shared_data / "pretrained" / "resnet50_msra" / "ResNet-50-model.caffemodel"
    command = [sys.executable, "-c", ALONE, str(path), str(tmp_path / "copy.caffemodel")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reading, writing = map(int, done.stdout.split())
    size = path.stat().st_size
    assert size * 0.9 < reading < 1.2 * size  # the arrays themselves are part of it
    assert writing < 0.2 * size
    assert sha256_of_layers(tmp_path / "copy.caffemodel") == sha256_of_layers(path)


def sha256_of_layers(path):
    digest = hashlib.sha256()
    for name, (kind, blobs) in read_layers(path).items():
        digest.update(f"{name} {kind} {[blob.shape for blob in blobs]}".encode())
        for blob in blobs:
            digest.update(blob)
    return digest.hexdigest()
