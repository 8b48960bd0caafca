"""What PyTorch's own tools make of the module: traced, exported."""

import pytest
import torch

from pysrn.convert.torch_model import SRN, SRNOutput
from pysrn.recipes import TRUNKS, VARIANTS, HeadSpec


@pytest.fixture(params=VARIANTS)
def model(request):
    torch.manual_seed(0)
    trunk = "resnet14_preact" if request.param == "released" else "resnet14"
    return SRN(TRUNKS[trunk], 5, HeadSpec(16, 16, 2, variant=request.param, confidence_width=16)).eval()


def images(count):
    return torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(count)) * 255 - 110


def same(expected, found):
    assert len(found) == len(SRNOutput._fields)
    for a, b in zip(expected, found, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


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


def test_shapes(model):
    output = model(images(2))
    assert all(score.shape == (2, 5) for score in output[:4])
    assert all(maps.shape == (2, 5, 14, 14) for maps in output[4:])
    assert torch.allclose(output.att_map.sum((2, 3)), torch.ones(2, 5))
