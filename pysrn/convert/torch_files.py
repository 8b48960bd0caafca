"""The files that a user takes away: `.safetensors` and `.pth`, named by their SHA-256, each with its JSON card.

`torch_export.py` makes what is written here; `SRN.from_pretrained` reads it. A file is either whole or not there.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pysrn.console import SrnError, existing_file
from pysrn.convert.torch_model import SRN
from pysrn.evaluate.trained import Architecture
from pysrn.nets.caffemodel import sha256_of
from pysrn.recipes import TRUNKS, HeadSpec

DIGITS = 8  # of the SHA-256 in a file's name, as PyTorch's own published weights have them
SUFFIXES = (".safetensors", ".pth")
AGAIN = "get the file again, or write it anew: tools/to_torch.py"


def write_named(out: Path, suffix: str, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file, then name it `<stem of out>-<8 digits of its SHA-256><suffix>`; returns its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.{os.getpid()}.part")
    try:
        write(partial)
        path = out.with_name(f"{out.stem}-{sha256_of(partial)[:DIGITS]}{suffix}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_card(description: Mapping, weights: Path) -> Path:
    """Write the card of a file of weights beside it; returns its path."""
    path = weights.with_suffix(".json")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_state_dict(values: Mapping[str, Tensor], suffix: str, path: Path) -> None:
    """Write a state dict in the format that `suffix` says; equal weights give equal bytes."""
    if suffix == ".safetensors":
        safetensors.torch.save_file(dict(values), path, {"format": "pt"})
        return
    with open(path, "wb") as file:  # given a path, torch.save would write its name into the file
        torch.save(dict(values), file)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or of a `.pth` file, by name; no other object is ever made of it.

    Takes training checkpoints, too: a state dict under `state_dict` or `model`, names that begin with `module.`.

    Raises:
        MissingError: there is no such file.
        SrnError: it is damaged, or holds something else than tensors.
    """
    path = existing_file(path, "weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SrnError(f"{path} is damaged, or holds more than tensors: {reason}", "get the file again") from None
    for key in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if not isinstance(values, Mapping) or not all(isinstance(value, Tensor) for value in values.values()):
        raise SrnError(f"{path} holds no state dict (names and tensors)", "save model.state_dict()")
    return {name.removeprefix("module."): value for name, value in values.items()}


def read_card(weights: Path) -> dict:
    """The card beside a file of weights; MissingError without one, SrnError where it is damaged."""
    path = existing_file(weights.with_suffix(".json"), "card", AGAIN)
    try:
        values = json.loads(path.read_text("utf-8"))
        architecture_on(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SrnError(f"{path} is damaged, or no card of SRN weights: {error}", AGAIN) from None
    return values


def architecture_on(card: Mapping) -> Architecture:
    """The net that a card describes; raises KeyError, TypeError or ValueError on a damaged one."""
    trunk, classes = card["trunk"], len(card["classes"])
    if trunk not in TRUNKS or not classes:
        raise ValueError(f"no trunk {trunk}, or no labels")
    return Architecture(trunk, classes, HeadSpec(**card["heads"]))


def load_pretrained(path: str | Path) -> SRN:
    """What `SRN.from_pretrained` does; see there."""
    path = existing_file(path, "weights")
    check_name(path)
    card = read_card(path)
    architecture = architecture_on(card)
    with torch.device("meta"):
        model = SRN(TRUNKS[architecture.trunk], architecture.classes, architecture.heads)
    try:
        model.load_state_dict(read_state_dict(path), assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise SrnError(f"{path} and its card do not fit each other: {reason}", AGAIN) from None
    model.class_names = tuple(card["classes"])
    return model.eval()


def check_name(path: Path) -> None:
    """Raise SrnError unless the file's SHA-256 begins with the digits that its name ends in."""
    found = re.search(rf"-([0-9a-f]{{{DIGITS}}})$", path.stem)
    if found is None:
        raise SrnError(f"the name of {path} does not end in {DIGITS} digits of its SHA-256", "keep the file's own name")
    digest = sha256_of(path)
    if not digest.startswith(found[1]):
        raise SrnError(f"{path} is damaged: its SHA-256 begins with {digest[:DIGITS]}, its name says {found[1]}", AGAIN)
