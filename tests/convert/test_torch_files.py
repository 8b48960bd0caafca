"""What people save as weights: read, or refused in one line; a full disk; which files of one name there are."""

import argparse
import os
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pysrn.console import SrnError
from pysrn.convert.torch_files import SUFFIXES, named_alike, read_state_dict, write_named, write_state_dict

VALUES = {
    "conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "bn1.running_var": torch.ones(2),
    "bn1.num_batches_tracked": torch.tensor(7),
}


class RunsWhenRead:
    """Unpickled, it makes the file that it names."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "saved",
    [
        VALUES,
        {"state_dict": VALUES, "epoch": 3, "optimizer": {"lr": [0.1]}},
        {"model_state_dict": VALUES, "loss": torch.tensor(1.0)},
        {"model": {f"module._orig_mod.{name}": value for name, value in VALUES.items()}},
        {f"1.{name}": value for name, value in VALUES.items()},  # SRN.with_preprocessing()
        {name: torch.nn.Parameter(value, requires_grad=False) for name, value in VALUES.items()},
        {name: value.mT.contiguous().mT if value.ndim > 1 else value for name, value in VALUES.items()},
    ],
    ids=["plain", "checkpoint", "tutorial", "parallel and compiled", "sequential", "parameters", "strided"],
)
def test_a_state_dict_however_it_was_saved(saved, tmp_path):
    for form in (True, False):  # of today, and of before PyTorch 1.6
        torch.save(saved, tmp_path / "weights.pth", _use_new_zipfile_serialization=form)
        found = read_state_dict(tmp_path / "weights.pth")
        assert found.keys() == VALUES.keys()
        assert all(torch.equal(found[name], value) for name, value in VALUES.items())


def test_the_bytes_say_which_format_it_is(tmp_path):
    save_file(VALUES, tmp_path / "weights.pth", {"format": "pt", "net": "resnet"})
    torch.save(VALUES, tmp_path / "weights.safetensors")
    for name in ("weights.pth", "weights.safetensors"):
        assert torch.equal(read_state_dict(tmp_path / name)["conv1.weight"], VALUES["conv1.weight"])


def changed(**tensors):
    return VALUES | {name.replace("_", ".", 1): value for name, value in tensors.items()}


REFUSED = {
    "a module": (torch.nn.Linear(2, 2), r"more than tensors \(torch.nn.modules.linear.Linear\)"),
    "arguments": ({"model": VALUES, "args": argparse.Namespace(lr=1)}, r"more than tensors \(argparse.Namespace\)"),
    "arrays": ({"conv1.weight": np.zeros(3)}, "more than tensors"),
    "numbers as names": ({1: torch.zeros(1)}, "holds no state dict"),
    "nothing": ({}, "holds no state dict"),
    "a list": ([1, 2], "holds no state dict"),
    "no data": (changed(conv1_weight=torch.empty(3, device="meta")), "conv1.weight is no tensor of plain numbers"),
    "sparse": (changed(conv1_weight=torch.eye(3).to_sparse()), "conv1.weight is no tensor of plain numbers"),
    "complex": (changed(conv1_weight=torch.ones(3, dtype=torch.complex64)), "no tensor of plain numbers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_else_is_refused_in_one_line(kind, tmp_path):
    saved, reason = REFUSED[kind]
    torch.save(saved, tmp_path / "weights.pth")
    with pytest.raises(SrnError, match=reason) as error:
        read_state_dict(tmp_path / "weights.pth")
    assert "weights_only=False" not in (text := f"{error.value} {error.value.cure}")  # PyTorch's advice: run it
    assert text.replace(" ", "").isprintable()


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"conv1.weight": RunsWhenRead(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(SrnError, match="more than tensors"):
        read_state_dict(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_is_one_line(suffix, tmp_path):
    write_state_dict(VALUES, suffix, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for content in (b"", whole[:5], whole[: len(whole) // 2], whole[:-1], b"\xff" * 8 + whole[8:], b"not weights\n"):
        (tmp_path / f"cut{suffix}").write_bytes(content)
        with pytest.raises(SrnError, match="damaged or no PyTorch weights") as error:
            read_state_dict(tmp_path / f"cut{suffix}")
        assert "\n" not in str(error.value) and "weights_only" not in str(error.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_line_and_leaves_nothing(suffix, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    values = {"weight": torch.zeros(100_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises((SrnError, OSError), match=r"(?i)too large|no \.pth file could be written"):
            write_named(tmp_path / "srn", suffix, lambda path: write_state_dict(values, suffix, path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_files_of_earlier_weights_are_told_apart(tmp_path):
    out = tmp_path / "s[r]n.pth"
    first, second = (
        write_named(out, ".pth", lambda path, n=n: write_state_dict({"weight": torch.full((2,), n)}, ".pth", path))
        for n in (1.0, 2.0)
    )
    for name in ("s[r]n-check.npz", "other-01234567.pth", "s[r]n-01234567.json"):
        (tmp_path / name).touch()
    assert named_alike(out, SUFFIXES, {second: None}) == [first]
