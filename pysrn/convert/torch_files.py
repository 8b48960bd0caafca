"""The files that a user takes away: `.safetensors` and `.pth`, named by their SHA-256, each with its JSON card.

`torch_export.py` makes what is written here, `load_pretrained` reads it. A file is either whole or not there.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pysrn.console import SrnError, existing_file
from pysrn.disk_errors import cure_of
from pysrn.nets.caffemodel import sha256_of
from pysrn.systems.registry import default_system, system_named
from pysrn.systems.system import Architecture
from pysrn.whole_files import usual_mode, written_beside

DIGITS = 8  # of the SHA-256 in a file's name, as PyTorch's own published weights have them
SUFFIXES = (".safetensors", ".pth")
AGAIN = "get the file again, or write it anew: tools/to_torch.py"
# Where training scripts keep the state dict: Lightning; PyTorch's tutorial; torchvision's and timm's scripts.
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
STATE_DICT_ALONE = "where it was made: torch.save(model.state_dict(), FILE)"


def write_named(out: Path, suffix: str, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file, then name it `<stem of out>-<8 digits of its SHA-256><suffix>`; returns its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.{os.getpid()}.part")
    try:
        with usual_mode(partial):
            write(partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        path = out.with_name(f"{out.stem}-{sha256_of(partial)[:DIGITS]}{suffix}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def named_alike(out: Path, suffixes: Collection[str], but: Collection[Path]) -> list[Path]:
    """Files that `write_named` wrote for the same `out`, all but those in `but`."""
    names = re.compile(rf"{re.escape(out.stem)}-[0-9a-f]{{{DIGITS}}}({'|'.join(map(re.escape, suffixes))})")
    return sorted(path for path in out.parent.iterdir() if names.fullmatch(path.name) and path not in but)


def write_card(description: Mapping, weights: Path) -> Path:
    """Write the card of a file of weights beside it, with the file's name and SHA-256; returns its path."""
    path = weights.with_suffix(".json")
    whole = {"file": weights.name, "sha256": sha256_of(weights), **description}
    with written_beside(path) as partial:
        partial.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path


def write_state_dict(values: Mapping[str, Tensor], suffix: str, path: Path) -> None:
    """Write a state dict in the format that `suffix` says; equal weights give equal bytes. SrnError where it fails."""
    try:
        if suffix == ".safetensors":
            safetensors.torch.save_file(dict(values), path, {"format": "pt"})
            return
        with open(path, "wb") as file:  # given a path, torch.save would write its name into the file
            torch.save(dict(values), file)
    except (SafetensorError, RuntimeError, OSError) as error:  # a full disk, each in its words
        what = f"no {suffix} file could be written to {path.parent}: {_first_sentence(error)}"
        raise SrnError(what, cure_of(error)) from None


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or of a `.pth` file, by name; no other object is ever made of it.

    Which of the two it is shows in its first bytes, whatever its name. Takes training checkpoints, too: a state dict
    under one of CHECKPOINT_KEYS, and names that all begin alike (`module.`, `_orig_mod.`, `model.`).

    Raises:
        MissingError: there is no such file.
        SrnError: it is damaged, or holds something else than tensors.
    """
    path = existing_file(path, "weights")
    try:
        with open(path, "rb") as file:
            if file.read(9)[8:] == b"{":  # the length of the header, and the header, which is JSON
                values = safetensors.torch.load_file(path)
            else:
                file.seek(0)  # given a path, torch.load would go by its suffix
                values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes are run as a pickle's words, so they can meet any
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one: they name a place before the file
            raise
        if found := re.search(r"GLOBAL ([\w.]+)|(TorchScript)", str(error)):
            raise SrnError(
                f"{path} holds more than tensors ({found[1] or found[2]}), which is not run here", STATE_DICT_ALONE
            ) from None
        reason = "" if isinstance(error, pickle.UnpicklingError) else f": {_first_sentence(error)}"
        raise SrnError(f"{path} is damaged or no PyTorch weights{reason}", "get the file again") from None
    for key in CHECKPOINT_KEYS:
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    pairs = values.items() if isinstance(values, Mapping) else ()
    if not pairs or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in pairs):
        raise SrnError(f"{path} holds no state dict (names and tensors)", STATE_DICT_ALONE)
    for name, value in pairs:
        if value.layout is not torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise SrnError(f"{path}: {name} is no tensor of plain numbers, but {value.dtype}, {value.layout}")
    while len(first := {name.partition(".")[0] for name in values}) == 1 < len(values):
        values = {name.removeprefix(f"{min(first)}."): value for name, value in values.items()}
    return dict(values)


def _first_sentence(error: Exception) -> str:
    """What a library says went wrong, without its advice."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]


def read_card(weights: Path) -> dict:
    """The card beside a file of weights; MissingError without one, SrnError where it is damaged."""
    path = existing_file(weights.with_suffix(".json"), "card", AGAIN)
    try:
        values = json.loads(path.read_text("utf-8"))
        architecture_on(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SrnError(f"{path} is damaged, or no card of our weights: {error}", AGAIN) from None
    return values


def architecture_on(card: Mapping) -> Architecture:
    """The net that a card describes; raises KeyError, TypeError or ValueError on a damaged one."""
    system = system_named(card.get("system", default_system().name))  # cards of before there were several say none
    trunk, classes = card["trunk"], len(card["classes"])
    if trunk not in system.trunks or not classes:
        raise ValueError(f"no trunk {trunk}, or no labels")
    heads = next(iter(system.recipes.values())).heads
    return Architecture(system, trunk, classes, heads and type(heads)(**card["heads"]))


def load_pretrained(path: str | Path) -> nn.Module:
    """The net of a `.safetensors` or `.pth` file that tools/to_torch.py wrote, in evaluation mode.

    The card (`.json` of the same name) says which net it is; its labels become `class_names`. Nothing but tensors is
    read from the file.

    Raises:
        MissingError: the file or its card is not there.
        SrnError: the SHA-256 does not begin as the file's name ends, the card is damaged, or the two do not fit.
    """
    path = existing_file(path, "weights", AGAIN)
    check_name(path)
    card = read_card(path)
    architecture = architecture_on(card)
    with torch.device("meta"):
        model = architecture.system.torch_class().of(architecture)
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
        raise SrnError(
            f"the name of {path} does not end in {DIGITS} digits of its SHA-256",
            "keep the name of a file that tools/to_torch.py wrote; of a caffemodel it makes one",
        )
    digest = sha256_of(path)
    if not digest.startswith(found[1]):
        raise SrnError(f"{path} is damaged: its SHA-256 begins with {digest[:DIGITS]}, its name says {found[1]}", AGAIN)
