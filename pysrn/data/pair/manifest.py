"""The `manifest.json` of an LMDB folder: what is in it, where it came from, with what it was made.

It is written last, so a split that it does not list is not there, whatever files lie about.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path

import lmdb
import numpy as np

import pysrn
from pysrn.console import SrnError
from pysrn.nets.caffemodel import sha256_of
from pysrn.whole_files import replace_text

NAME = "manifest.json"


def read_manifest(folder: Path) -> dict | None:
    """The manifest of `folder`, or None when there is none. Raises SrnError when it is damaged."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise SrnError(f"{path}: not a JSON file: {error}", _cure(path)) from None
    known = isinstance(manifest, dict) and isinstance(manifest.get("classes"), list)
    splits = manifest.get("splits") if known else None
    if not isinstance(splits, dict) or not all(isinstance(split, dict) for split in splits.values()):
        raise SrnError(f'{path}: no "splits" or "classes": not the manifest of an LMDB pair', _cure(path))
    return manifest


def _cure(path: Path) -> str:
    return f"delete {path} and build the pair again: tools/make_lmdb.py ... --force"


def write_manifest(folder: Path, manifest: dict) -> None:
    """Replace the manifest of `folder` in one step."""
    replace_text(folder / NAME, json.dumps(manifest, indent=1) + "\n")


def versions() -> dict[str, str]:
    """Versions of what the stored bytes depend on."""
    import cv2  # here: ranks that read no image, as those of docker/gpu_check.sh in a lean bundle, do without

    return {
        "pysrn": pysrn.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "lmdb": ".".join(map(str, lmdb.version())),
    }


def file_hashes(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    return {file.name: sha256_of(file) for file in files}
