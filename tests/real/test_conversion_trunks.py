"""Full-size nets there and back to the bit, and ImageNet nets of PyTorch in Caffe, for 50, 101 and 152 layers.

The reference of the latter is a net of torchvision or timm itself, where they are installed. Slow (about two minutes):
`pytest -s -m slow tests/real/test_conversion_trunks.py`.
"""

import numpy as np
import pytest
import torch

from pysrn.convert import torch_files, torch_import, torch_weights
from pysrn.nets.caffemodel import read_layers, sha256_of, write_weights
from pysrn.systems.srn.heads import VARIANTS, HeadSpec
from pysrn.systems.trunks import imagenet
from pysrn.systems.trunks.resnet import PREACT, TRUNKS, V15
from tests.convert.test_from_torch import references  # noqa: F401
from tests.srn import MEAN_BGR, Architecture, check_images
from tools.from_torch import main

pytestmark = pytest.mark.slow
DEPTHS = ("resnet50", "resnet101", "resnet152")


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_there_and_back_changes_no_bit(variant, depth, tmp_path, capfd):
    """Batch statistics as Caffe stores them: sums and a factor, which no division and product would restore."""
    architecture = Architecture(depth + f"_{PREACT}" * (variant == "released"), 80, HeadSpec(variant=variant))
    with torch.device("meta"):
        shapes = torch_weights.caffe_shapes(torch_weights.empty_model(architecture))
    random, layers = np.random.default_rng(0), {}
    for number, (name, blobs) in enumerate(shapes.items()):
        values = [random.standard_normal(shape, np.float32) for shape in blobs]
        if len(blobs) == 3:
            values = [values[0] * 999, abs(values[1]) * 999, np.array([[999.98, 10.0, 1.0, 9.99][number % 4]])]
        layers[name] = ("?", [np.asarray(value, np.float32) for value in values])
    write_weights(tmp_path / "before.caffemodel", "net", layers)
    model = torch_weights.load_model(tmp_path / "before.caffemodel")
    for suffix in torch_files.SUFFIXES:
        torch_files.write_state_dict(model.state_dict(), suffix, tmp_path / f"srn{suffix}")
        back = torch_weights.caffe_layers(torch_files.read_state_dict(tmp_path / f"srn{suffix}"))
        write_weights(tmp_path / "back.caffemodel", "net", back)
        found = read_layers(tmp_path / "back.caffemodel")
        assert found.keys() == layers.keys()
        for name, (_, blobs) in layers.items():
            assert [blob.tobytes() for blob in found[name][1]] == [blob.tobytes() for blob in blobs], name
            assert [blob.shape for blob in found[name][1]] == [blob.shape for blob in blobs], name
    with capfd.disabled():
        count = sum(len(blobs) for _, blobs in layers.values())
        print(f"\n{architecture.trunk}, {variant}: {count} blobs the same, bit by bit", end="")
    assert sha256_of(tmp_path / "srn.pth") != sha256_of(tmp_path / "before.caffemodel")


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("family", imagenet.FAMILIES, ids=["torchvision", "timm"])
def test_an_imagenet_net_in_caffe_is_the_original(references, family, depth, tmp_path, capfd):  # noqa: F811
    """The library's own module computes the reference; its input is padded with our mean colour, as our net's is."""
    models, timm = references
    torch.manual_seed(1)
    net = timm.create_model(depth.replace("resnet", "resnetv2_")) if family.preact else getattr(models, depth)()
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.momentum = 1.0
        last = module is not norms[0] and module.num_features >= 256
        torch.nn.init.uniform_(module.weight, 0.1 if last else 0.8, 0.3 if last else 1.2)
        torch.nn.init.normal_(module.bias, 0, 0.1)
    mean, deviation = family.normalisation
    images = check_images(2, seed=3)
    rgb = torch.from_numpy(images + np.array(MEAN_BGR, np.float32)[:, None, None])[:, [2, 1, 0]] / 255
    theirs = (rgb - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    with torch.inference_mode():
        net.train()(theirs)  # gives BN statistics
    net.eval()
    torch.save(net.state_dict(), tmp_path / "imagenet.pth")
    assert main([str(tmp_path / "imagenet.pth")]) == 0
    spec = TRUNKS[f"{depth}_{PREACT if family.preact else V15}"]
    _, found = torch_import.trunk_in_caffe(spec, tmp_path / "imagenet.caffemodel", images)

    first = net.stem.conv if family.preact else net.conv1
    colour = torch.tensor([m / 255 for m in MEAN_BGR[::-1]])
    colour = ((colour - torch.tensor(mean)) / torch.tensor(deviation)).reshape(1, 3, 1, 1)
    first.padding = (0, 0)
    tops = []
    for kind in (torch.float32, torch.float64):
        padded = torch.nn.functional.pad(theirs - colour, (3, 3, 3, 3)) + colour
        with torch.inference_mode():
            x = padded.to(kind)
            net = net.to(kind)
            if family.preact:
                tops.append(net.forward_features(x).numpy())
            else:
                x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
                tops.append(net.layer4(net.layer3(net.layer2(net.layer1(x)))).numpy())
    single, double = tops
    greatest = np.abs(double).max()
    ours, own = np.abs(found - double).max() / greatest, np.abs(single - double).max() / greatest
    with capfd.disabled():
        print(
            f"\n{family.title}, {depth}: Caffe from the library's net in float64 {ours:.1e} of the greatest value"
            f" {greatest:.2f}; the library's own float32 {own:.1e}",
            end="",
        )
    assert np.std(found) > 0.05 * greatest / 10
    assert ours < max(1e-4, 4 * own)
