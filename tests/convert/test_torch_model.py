"""What PyTorch's own tools make of the module: scripted, compiled, traced, exported."""

import shutil

import pytest
import torch

from pysrn.systems.srn.heads import VARIANTS, HeadSpec
from pysrn.systems.srn.torch_model import SRN, SRNOutput
from pysrn.systems.trunks.resnet import TRUNKS


@pytest.fixture(params=[*VARIANTS, "released, confidence on X"])
def model(request):
    torch.manual_seed(0)
    variant, _, apart = request.param.partition(", ")
    trunk = "resnet14_preact" if variant == "released" else "resnet14"
    heads = HeadSpec(16, 16, 2, variant=variant, confidence_width=16, confidence_sees_blocks=not apart)
    return SRN(TRUNKS[trunk], 5, heads).eval()


def images(count):
    return torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(count)) * 255 - 110


def same(expected, found):
    found = tuple(found)
    assert len(found) == len(SRNOutput._fields)
    for a, b in zip(expected, found, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


def test_torchscript_by_script(model, tmp_path):
    for net in (model, model.with_preprocessing()):
        torch.jit.script(net).save(tmp_path / "srn.pt")
        with torch.no_grad():
            found = torch.jit.load(tmp_path / "srn.pt")(images(3))
            assert found._fields == SRNOutput._fields
            same(net(images(3)), found)
    scripted = torch.jit.script(model).train()
    scripted(images(2))
    assert model.trunk.res3.res3a.bn_branch2a.num_batches_tracked == 1  # the scripted net shares them


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_for_pictures_of_any_number():
    torch.manual_seed(0)
    model = SRN(TRUNKS["resnet14"], 5, HeadSpec(16, 16, 2)).eval()
    compiled = torch.compile(model, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for count in (2, 3):
            same(model(images(count)), compiled(images(count)))


def test_torchscript_by_trace(model, tmp_path):
    with torch.no_grad():
        torch.jit.trace(model, images(1)).save(tmp_path / "srn.pt")
        same(model(images(3)), torch.jit.load(tmp_path / "srn.pt")(images(3)))


def test_export_with_any_number_of_images(model, tmp_path):
    program = torch.export.export(
        model.with_preprocessing(), (images(2),), dynamic_shapes=({0: torch.export.Dim("images", min=1)},)
    )
    torch.export.save(program, tmp_path / "srn.pt2")
    with torch.no_grad():
        same(model.with_preprocessing()(images(3)), torch.export.load(tmp_path / "srn.pt2").module()(images(3)))


def test_preprocessing_goes_where_the_net_is(model):
    pictures = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.with_preprocessing()(pictures)
        same(expected, (value.float() for value in model.double().with_preprocessing()(pictures.double())))
        coarse = model.bfloat16().with_preprocessing()(pictures.bfloat16())
        assert all(value.dtype == torch.bfloat16 for value in coarse)
        assert torch.allclose(coarse.score.float(), expected.score, atol=0.1)
        elsewhere = model.float().to("meta").with_preprocessing()(pictures.to("meta"))
    assert elsewhere.score.shape == (2, 5)


def test_fine_tuning_in_evaluation_mode_moves_no_statistics(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step = torch.optim.SGD(model.parameters(), lr=1e-3)
    model(images(2)).score.square().sum().backward()
    step.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    parameters = {name for name, _ in model.named_parameters()}
    assert moved <= parameters and {"trunk.conv1.weight", "cls_fc.weight", "sr_fc.weight"} <= moved
    model.train()(images(2))
    assert not torch.equal(
        model.state_dict()["trunk.res3.res3a.bn_branch2a.running_mean"],
        before["trunk.res3.res3a.bn_branch2a.running_mean"],
    )


def test_shapes(model):
    output = model(images(2))
    assert all(score.shape == (2, 5) for score in output[:4])
    assert all(maps.shape == (2, 5, 14, 14) for maps in output[4:])
    assert torch.allclose(output.att_map.sum((2, 3)), torch.ones(2, 5))
