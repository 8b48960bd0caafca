"""Files in the format of the authors' fork, made from random nets of ours: converted back, Caffe computes the same.

The files have names that say nothing and layers in another order of computation, as theirs may have.
"""

import re
import struct

import numpy as np
import pytest

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.console import SrnError, UsageError
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_layers, read_weights, write_weights
from pysrn.nets.in_caffe import make_net
from pysrn.nets.layers import parameter_layers
from pysrn.nets.weight_graph import Mismatch, match, units_of
from pysrn.nets.wire_format import head
from pysrn.predict.deploy import DeployNet, deploy_message
from pysrn.systems.srn import official_layers
from pysrn.systems.srn.heads import HeadSpec
from pysrn.systems.srn.official import DIALECTS, INVERSE_STD, VARIANCE, convert
from pysrn.systems.trunks.resnet import IMAGENET_CLASSIFIER
from tests.srn import MAPS, SCORES, Architecture, check_images, replace, stages
from tools.from_official import STATISTICS, main

CLASSES = 12
SHARED = Architecture("resnet14_preact", CLASSES, HeadSpec(variant="released"))
APART = replace(SHARED, heads=replace(SHARED.heads, confidence_sees_blocks=False))
FB = replace(SHARED, trunk="resnet14_preact_fb")  # as fb.resnet.torch has the first BN


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Our caffemodel with random weights."""
    path = tmp_path_factory.mktemp("ours") / "weights.caffemodel"
    return write_realistic(path, SHARED, check_images(2))


def their_net(message, weights, dialect, seed=0, eps=1e-5, named=lambda name, number: f"layer_{number}"):
    """A net of ours as their fork would have saved it; (NetParameter, our name -> theirs).

    Blobs are renamed so that none is written in place, then the layers are put in a random order of computation.
    """
    random, net, names = np.random.default_rng(seed), messages.NetParameter(name="theirs"), {}
    current, layers = {}, []
    for layer in message.layer:
        if layer.type == "Scale":
            continue
        new = messages.LayerParameter()
        new.CopyFrom(layer)
        names[layer.name] = new.name = named(layer.name, random.integers(1 << 40))
        new.bottom[:] = [current[bottom] for bottom in layer.bottom]
        new.top[:] = [f"{new.name}_top"]
        current[layer.top[0]] = new.top[0]
        blobs = [blob.astype(np.float64) for blob in weights.get(layer.name, [])]
        if layer.type == "BatchNorm":
            scale = next(found for found in message.layer if found.type == "Scale" and found.bottom[0] == layer.top[0])
            current[scale.top[0]] = new.top[0]
            mean, variance = (blob / blobs[2] for blob in blobs[:2])
            fourth = variance if dialect == VARIANCE else (variance + eps) ** -0.5
            blobs = [blob.reshape(1, -1, 1, 1) for blob in (*weights[scale.name], mean, fourth)]
            new.type = "BN"
            new.ClearField("batch_norm_param")
            if eps != 1e-5:
                new.MergeFromString(head(137, 5) + struct.pack("<Bf", 4 << 3 | 5, eps))  # bn_param { eps }
        del new.param[:]
        for blob in blobs:
            new.blobs.add(shape={"dim": blob.shape}, data=blob.ravel().tolist())
        layers.append(new)
    made = set()
    while layers:
        ready = [layer for layer in layers if made.issuperset(layer.bottom)]
        chosen = ready[random.integers(len(ready))]
        layers.remove(chosen)
        made.update(chosen.top)
        net.layer.append(chosen)
    return net, names


def save(net, path):
    path.write_bytes(net.SerializeToString())
    return path


def by_name(net, name):
    return next(layer for layer in net.layer if layer.name == name)


@pytest.mark.parametrize(
    ("architecture", "dialect", "eps"),
    [
        (SHARED, VARIANCE, 1e-5),
        (SHARED, INVERSE_STD, 1e-5),
        (APART, VARIANCE, 2e-3),
        (APART, INVERSE_STD, 2e-3),
        (FB, VARIANCE, 1e-5),
        (FB, INVERSE_STD, 2e-3),
    ],
)
def test_caffe_computes_the_same_from_the_converted_file(tmp_path, architecture, dialect, eps):
    images = check_images(2)
    ours = write_realistic(tmp_path / "ours.caffemodel", architecture, images)
    if eps != 1e-5:  # theirs adds another: what it computes is ours with so much more variance
        layers = read_layers(ours)
        for kind, blobs in layers.values():
            if kind == "BatchNorm":
                blobs[1] += (eps - 1e-5) * blobs[2]
        more = write_and_return(tmp_path / "more.caffemodel", layers)
    else:
        more = ours
    net, names = their_net(deploy_message(architecture), read_weights(ours), dialect, eps=eps)
    converted = convert(save(net, tmp_path / "theirs.caffemodel"), dialect)
    assert converted.sources == {name: names[name] for name in converted.sources}
    assert list(converted.layers) == parameter_layers(deploy_message(architecture))
    write_weights(tmp_path / "back.caffemodel", converted.net, converted.layers)
    before, after = DeployNet(more), DeployNet(tmp_path / "back.caffemodel")
    assert after.architecture == architecture
    images = check_images(2, seed=5)
    expected, found = (net.forward(images, (*SCORES, *MAPS)) for net in (before, after))
    for name in expected:
        assert expected[name].std() > (0.3 if name in SCORES else 0)
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def write_and_return(path, layers):
    write_weights(path, "more", layers)
    return path


@pytest.mark.parametrize("trunk", ["resnet14", "resnet50"])
@pytest.mark.parametrize("family", ["preact", "preact_fb"])
@pytest.mark.parametrize("wired", [True, False], ids=["wired", "in order"])
def test_the_place_of_the_first_normalisation_tells_the_family(tmp_path, trunk, family, wired):
    """Both families have the same shapes: what is pooled tells them apart, else a name of ours, else nothing."""
    message = deploy_message(replace(SHARED, trunk=f"{trunk}_{family}", classes=1000))
    heads = [layer for layer in message.layer if layer.name.startswith(("att_", "conf_", "sr_", "score"))]
    for layer in heads:
        message.layer.remove(layer)
    weights = blank_weights(message)
    net, _ = their_net(message, weights, VARIANCE, named=lambda name, _: name)
    first = "bn_conv1" if family == "preact_fb" else "bn_pool1"
    for layer in net.layer:  # all other names are ours, so that order can do without wiring
        layer.name = "first" if layer.name == first else layer.name
        if not wired:
            del layer.bottom[:]
    path = save(net, tmp_path / "theirs.caffemodel")
    found = convert(path, VARIANCE)
    assert found.net == f"{trunk}_{family}_1000_labels" and found.sources[first] == "first"
    assert list(found.layers) == [*parameter_layers(message)[:-1], "fc1000"]
    if not wired:
        pooling = [layer for layer in net.layer if layer.type == "Pooling"]
        for layer in pooling:
            net.layer.remove(layer)
        with pytest.raises(
            SrnError, match=rf"more than one reading: {trunk}_preact_1000_labels or {trunk}_preact_fb_1000"
        ):
            convert(save(net, path), VARIANCE)
        assert convert(path, VARIANCE, {"first": first}).net == f"{trunk}_{family}_1000_labels"


def blank_weights(message):
    """Blobs of the shapes that a net has: zero, and ones for the statistics."""
    net = make_net(message)
    return {
        name: [np.full(blob.data.shape, float(len(blobs) > 2), np.float32) for blob in blobs]
        for name, blobs in net.params.items()
    }


def test_what_is_not_normalisation_comes_back_bit_by_bit(model, tmp_path):
    weights = read_weights(model)
    net, _ = their_net(deploy_message(SHARED), weights, VARIANCE)
    converted = convert(save(net, tmp_path / "theirs.caffemodel"), VARIANCE).layers
    for name, (kind, blobs) in converted.items():
        if kind == "BatchNorm":
            mean, variance, factor = weights[name]
            np.testing.assert_array_equal(blobs[0], (mean.astype(float) / factor).astype(np.float32))
            np.testing.assert_array_equal(blobs[1], (variance.astype(float) / factor).astype(np.float32))
            assert blobs[2].tolist() == [1]
        else:
            for mine, original in zip(blobs, weights[name], strict=True):
                np.testing.assert_array_equal(mine, original)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_small_variances_keep_their_place_beside_eps(model, tmp_path, dialect):
    """Where the variance is as small as eps, eps added twice or not at all would show."""
    weights = read_weights(model)
    weights["bn4a"][1][:] = weights["bn4a"][2] * np.geomspace(1e-6, 1e-3, 128, dtype=np.float32)
    net, _ = their_net(deploy_message(SHARED), weights, dialect)
    found = convert(save(net, tmp_path / "theirs.caffemodel"), dialect).layers["bn4a"][1][1]
    np.testing.assert_allclose(found, np.geomspace(1e-6, 1e-3, 128), rtol=1e-3, atol=1e-11)


@pytest.mark.parametrize(
    ("value", "dialect", "reason"),
    [
        (0.0, VARIANCE, "a value is 0"),
        (400.0, VARIANCE, "beyond 1 / sqrt"),
        (1e-5**-0.5, INVERSE_STD, "constant channel"),
        (1.0, None, "does not show"),
    ],
)
def test_the_dialect_is_seen_where_it_shows(model, tmp_path, value, dialect, reason):
    net, names = their_net(deploy_message(SHARED), read_weights(model), VARIANCE)
    by_name(net, names["bn4a"]).blobs[3].data[3] = value
    path = save(net, tmp_path / "theirs.caffemodel")
    if dialect is None:
        with pytest.raises(UsageError, match=reason) as caught:
            convert(path)
        assert "--statistics" in caught.value.cure
    else:
        found = convert(path)
        assert found.dialect == dialect and reason in found.lines()[0]
    if dialect == VARIANCE:
        with pytest.raises(UsageError, match=f"cannot be inverse-std: .*{reason}"):
            convert(path, INVERSE_STD)
        return
    assert [convert(path, given).dialect for given in DIALECTS] == list(DIALECTS)


@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf")])
def test_impossible_statistics_are_refused(model, tmp_path, value):
    net, names = their_net(deploy_message(SHARED), read_weights(model), VARIANCE)
    by_name(net, names["sr_conv2_bn"]).blobs[3].data[0] = value
    with pytest.raises(SrnError, match=f"layer {names['sr_conv2_bn']} has batch statistics that are negative or no"):
        convert(save(net, tmp_path / "theirs.caffemodel"))


def test_biases_that_only_one_side_has(model, tmp_path):
    weights = read_weights(model)
    net, names = their_net(deploy_message(SHARED), weights, VARIANCE)
    bias = np.random.default_rng(0).normal(0, 1, 512).astype(np.float32)
    by_name(net, names["sr_conv2"]).blobs.add(shape={"dim": [512]}, data=bias.tolist())
    del by_name(net, names["att_conv3"]).blobs[1]
    converted = convert(save(net, tmp_path / "theirs.caffemodel"), VARIANCE).layers
    mean, _, factor = weights["sr_conv2_bn"]
    np.testing.assert_allclose(converted["sr_conv2_bn"][1][0], mean / factor - bias, rtol=1e-5, atol=1e-6)
    assert not converted["att_conv3"][1][1].any() and len(converted["sr_conv2"][1]) == 1
    by_name(net, names["res4a_branch2c"]).blobs.add(shape={"dim": [128]}, data=[1] * 128)
    with pytest.raises(SrnError, match="has a bias that the net has no place for"):
        convert(save(net, tmp_path / "theirs.caffemodel"), VARIANCE)


def test_without_wiring_order_and_shape_decide_what_they_can(model, tmp_path):
    """Parallel layers of one shape have two readings, unless their names are ours or the user says."""
    message, weights = deploy_message(SHARED), read_weights(model)
    net, _ = their_net(message, weights, VARIANCE)
    for layer in net.layer:
        del layer.bottom[:]
    path = save(net, tmp_path / "theirs.caffemodel")
    with pytest.raises(SrnError, match="more than one reading: .* are alike, and may each be .*") as caught:
        convert(path, VARIANCE)
    assert "--layer THEIRS=OURS" in caught.value.cure
    net, _ = their_net(message, weights, VARIANCE, named=lambda name, _: name)
    for layer in net.layer:
        del layer.bottom[:]
    found = convert(save(net, path), VARIANCE)
    assert found.sources == {name: name for name in found.sources}


def test_the_user_can_say_which_layer_is_which(model, tmp_path):
    """Without wiring: names for all layers that are parallel to one of their shape; order finds the others."""
    message, weights = deploy_message(SHARED), read_weights(model)
    net, names = their_net(message, weights, VARIANCE)
    for layer in net.layer:
        del layer.bottom[:]
    path, known = save(net, tmp_path / "theirs.caffemodel"), {}
    for _ in range(100):
        try:
            found = convert(path, VARIANCE, known)
            break
        except SrnError as error:
            ours = re.search(r"may each be (.*?)( and \d+ more)?$", str(error))
            # Whether the confidence branch reads the residual blocks shows in no shape, but in our names for them.
            said = ours[1].split(", ") if ours else ["att_conf_res1_branch2a"]
            known |= {names[name]: name for name in said}
    assert found.sources == {name: names[name] for name in found.sources}
    assert 0 < len(known) < len(names)
    with pytest.raises(UsageError, match="has no layer nothing with weights"):
        convert(path, VARIANCE, {"nothing": "conv1"})


def changed(net, names, change):
    """Spoil a net of theirs in one of several ways."""
    if change == "stride elsewhere":
        for end, stride in (("a", 2), ("b", 1)):
            by_name(net, names[f"res3a_branch2{end}"]).convolution_param.stride[:] = [stride]
    elif change == "a layer missing":
        net.layer.remove(by_name(net, names["conf_conv2"]))
    elif change == "another shape":
        by_name(net, names["sr_conv2"]).blobs[0].shape.dim[:] = [CLASSES, 512, 1, 1]
    elif change == "wired otherwise":
        by_name(net, names["att_conv3"]).bottom[0] = by_name(net, names["conf_relu1"]).top[0]
        by_name(net, names["conf_conv2"]).bottom[0] = by_name(net, names["att_conv1"]).top[0]
    elif change == "Caffe's own BatchNorm":
        by_name(net, names["bn3a"]).type = "BatchNorm"
    elif change == "three blobs":
        del by_name(net, names["bn3a"]).blobs[3]
    elif change == "blobs of several sizes":
        by_name(net, names["bn3a"]).blobs[2].shape.dim[:] = [1]
        del by_name(net, names["bn3a"]).blobs[2].data[1:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("stride elsewhere", "by shape, layer"),
        ("a layer missing", r"layer_\d+ in it do not fit att_conv3, conf_conv2 of the net"),
        ("another shape", "do not fit att_conv3, conf_conv2, sr_conv2 of the net"),
        ("wired otherwise", "by wiring, layer"),
        ("Caffe's own BatchNorm", r"\(BatchNorm\) is no layer with weights of theirs"),
        ("three blobs", r"\(BN\) is no layer with weights of theirs"),
        ("blobs of several sizes", r"\(BN\) is no layer with weights of theirs"),
    ],
)
def test_other_nets_are_refused(model, tmp_path, change, reason):
    net, names = their_net(deploy_message(SHARED), read_weights(model), VARIANCE)
    changed(net, names, change)
    path = save(net, tmp_path / "theirs.caffemodel")
    with pytest.raises(SrnError, match=reason) as caught:
        convert(path, VARIANCE)
    assert "\n" not in str(caught.value)


def test_our_own_files_are_not_theirs(model):
    with pytest.raises(SrnError, match="is no caffemodel of the authors' fork"):
        convert(model)


def test_an_imagenet_model_is_a_trunk_and_its_classifier(model, tmp_path):
    weights = read_weights(model)
    weights["cls_fc"] = [np.ones((1000, 256), np.float32), np.ones(1000, np.float32)]
    message = deploy_message(replace(SHARED, classes=1000), [name for name in weights if not name.startswith("att")])
    net, names = their_net(message, weights, VARIANCE)
    converted = convert(save(net, tmp_path / "theirs.caffemodel"), VARIANCE)
    trunk = [name for name in parameter_layers(message) if name != "cls_fc"]
    assert list(converted.layers) == [*trunk, "fc1000"]
    assert converted.sources["fc1000"] == names["cls_fc"] and converted.sources["conv1"] == names["conv1"]


def test_the_tool(model, tmp_path, capsys):
    net, names = their_net(deploy_message(SHARED), read_weights(model), VARIANCE)
    path, out = save(net, tmp_path / "theirs.caffemodel"), tmp_path / "out.caffemodel"
    out.write_bytes(b"good work")
    assert main([str(path), "-o", str(out)]) == 2
    assert "--statistics" in capsys.readouterr().err and out.read_bytes() == b"good work"
    assert main([str(path), "-o", str(out), "--layer", "oops"]) == 2
    assert main([str(tmp_path / "none"), "-o", str(out)]) == 3
    assert main([str(path), "-o", str(tmp_path / "none" / "out")]) == 2
    capsys.readouterr()
    assert main([str(path), "-o", str(out), "--statistics", "variance"]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"{names['conf_conv1']} +conf_conv1\n", printed)
    assert "SRN_resnet14_preact_12_labels" in printed and "variance (as given" in printed
    assert DeployNet(out).architecture == SHARED
    assert STATISTICS == DIALECTS


@pytest.mark.parametrize("architecture", [SHARED, APART, FB], ids=["shared", "apart", "fb.resnet.torch"])
def test_the_net_that_is_searched_for_is_the_deploy_net(architecture):
    ours = official_layers.deploy_net(architecture)
    expected = stages.deploy_net(architecture.trunk, architecture.classes, architecture.heads)
    assert ours == expected
    assert official_layers.IMAGENET_CLASSIFIER == IMAGENET_CLASSIFIER


def test_twins_in_a_graph_are_ambiguous_and_order_serves_chains():
    rows = [("a", [], ["a"], 1), ("b", ["a"], ["b"], 2), ("relu", ["b"], ["b"], None), ("c", ["a", "b"], ["c"], 2)]
    chain = units_of(rows)
    assert chain[2].sources == {0, 1}
    renamed = units_of([(name.upper(), bottoms, tops, like) for name, bottoms, tops, like in rows])
    expected = {"a": "A", "b": "B", "c": "C"}
    assert match(renamed, chain, {}, wired=True) == match(renamed, chain, {}, wired=False) == expected
    twins = units_of([("a", [], ["a"], 1), ("b", ["a"], ["b"], 2), ("c", ["a"], ["c"], 2)])
    for wired in (True, False):
        with pytest.raises(Mismatch, match="b, c are alike, and may each be b, c") as caught:
            match(twins, twins, {}, wired)
        assert caught.value.ambiguous
        assert match(twins, twins, {"b": "c"}, wired) == {"a": "a", "b": "c", "c": "b"}
