"""The predictions file: keys, class names, logits and labels in one `.npz`, written whole, read with care.

Between prediction and everything that judges it (tables, reports): either side can be run alone.
"""

from __future__ import annotations

import io
import json
import shlex
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, existing_file, message
from pysrn.nets.caffemodel import sha256_of
from pysrn.train.stage.files import WEIGHTS
from pysrn.whole_files import written_beside

CURE = "predict again: tools/predict.py"
NO_SCORES = ("keys", "classes", "labels")  # arrays that are none
FLOAT32_MAX = float(np.finfo(np.float32).max)
LISTED = "arrays"  # in `about`: what else the file holds; an archive can lose a part without notice
# What NumPy and zipfile raise on damaged bytes in memory, where no real input or output can fail.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError),
    EOFError,
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits of N images and C labels.

    Attributes:
        keys: N sample keys of the LMDB pair.
        classes: C label names.
        scores: name -> N x C logits, those the net has: float32 from a net, float64 from text.
        labels: int8 N x C (1, -1, 0), or None when they are not known.
        about: where they come from (weights, their hash, data folder, split).
    """

    keys: tuple[str, ...]
    classes: tuple[str, ...]
    scores: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def check(self, where: str | Path) -> None:
        """Raise SrnError, naming `where`, unless keys, classes, scores and labels belong together."""
        for what, names in (("keys", self.keys), ("classes", self.classes)):
            name, count = Counter(names).most_common(1)[0] if names else ("", 0)
            if count > 1:
                raise SrnError(f"{where}: duplicate {what}: {name} is there {count} times", CURE)
        if not self.keys:
            raise SrnError(f"{where} holds no image", CURE)
        if not self.scores:
            raise SrnError(f"{where} holds no scores", CURE)
        wanted = (len(self.keys), len(self.classes))
        parts = {**self.scores, **({} if self.labels is None else {"labels": self.labels})}
        for name, values in parts.items():
            if values.shape != wanted:
                raise SrnError(f"{where}: {name} is {values.shape}, keys and classes make {wanted}", CURE)
            kind = "whole numbers" if name == "labels" else "floating-point numbers"
            if values.dtype.kind not in ("iu" if name == "labels" else "f"):
                raise SrnError(f"{where}: {name} is of type {values.dtype}, expected {kind}", CURE)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                key, label = self.keys[bad[0][0]], self.classes[bad[0][1]]
                raise SrnError(f"{where}: {len(bad)} values of {name} are not finite, the first: {key}, {label}", CURE)
        if self.labels is not None and len(odd := np.argwhere((self.labels < -1) | (self.labels > 1))):
            key, label = self.keys[odd[0][0]], self.classes[odd[0][1]]
            raise SrnError(f"{where}: {len(odd)} labels are not 1, -1 or 0, the first: {key}, {label}", CURE)

    def save(self, path: str | Path) -> None:
        """Write the file; what was there before stays until the new one is whole."""
        path = Path(path)
        self.check(path)
        arrays = {"keys": np.array(self.keys), "classes": np.array(self.classes), **self.scores}
        if self.labels is not None:
            arrays["labels"] = self.labels.astype(np.int8)
        with written_beside(path) as partial, open(partial, "wb") as file:
            np.savez(file, about=np.array(json.dumps({**self.about, LISTED: list(arrays)})), **arrays)


def load_predictions(path: str | Path, classes: Sequence[str] | None = None) -> Predictions:
    """Read a predictions file; `classes`, when given, must be its classes in the same order.

    Raises MissingError for no such file, SrnError for one that is damaged or has other classes.
    """
    path = existing_file(path, "predictions", "tools/predict.py makes them")
    content = io.BytesIO(path.read_bytes())
    try:
        if not zipfile.is_zipfile(content):  # else NumPy takes it for a pickle, and advises to trust it
            raise ValueError("it is no whole .npz archive")
        with np.load(content, allow_pickle=False) as archive:
            if len(set(archive.files)) < len(archive.files):
                raise ValueError("it holds two arrays of one name")
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").item()) if "about" in arrays else {}
        if odd := set(arrays) ^ set(about.pop(LISTED, arrays)):
            raise ValueError(f"what it holds is not what was written: {', '.join(sorted(odd))}")
        found = Predictions(
            _texts(arrays, "keys"),
            _texts(arrays, "classes"),
            {name: _logits(values) for name, values in arrays.items() if name not in NO_SCORES},
            arrays.get("labels"),
            about,
        )
    except DAMAGE as error:
        raise SrnError(f"{path} is damaged or no predictions file: {error}", CURE) from None
    found.check(path)
    if classes is not None:
        check_classes(found.classes, classes, path)
    return found


def _logits(values: np.ndarray) -> np.ndarray:
    """Scores as float32 or, where that would change one, float64; infinite where no float32 is as large.

    What is no floating-point number stays as it is.
    """
    if values.dtype.kind != "f":
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if (narrow == values).all() else np.where(np.isfinite(narrow), values, narrow).astype(np.float64)


def _texts(arrays: Mapping[str, np.ndarray], name: str) -> tuple[str, ...]:
    """A list of names; ValueError when it is missing or something else."""
    if name not in arrays:
        raise ValueError(f"it holds no {name}")
    if arrays[name].dtype.kind != "U" or arrays[name].ndim != 1:
        raise ValueError(f"{name} is not a list of text but of {arrays[name].dtype}, {arrays[name].ndim} axes")
    return tuple(arrays[name].tolist())


def find_predictions(path: Path, split: str) -> list[Path]:
    """The predictions meant by `path`: a file, or those of a split in a stage's or a run's folder, by stage.

    Raises MissingError when there are none.
    """
    if path.exists() and not path.is_dir():
        return [path]
    name = f"predictions_{split}.npz"
    found = [*path.glob(name), *sorted(path.glob(f"stage[1-9]/{name}"))]
    if not found:
        words = f" {shlex.quote(str(path))} --split {shlex.quote(split)}" if path.is_dir() else ""
        cure = f"tools/predict.py{words}"
        raise MissingError(f"no predictions: neither a file {path} nor any {name} below it", cure)
    return found


def warn_of_other_weights(found: Predictions, path: Path) -> None:
    """Say so where a predictions file lies beside weights other than those that made it: a stage trained anew."""
    weights = path.parent / WEIGHTS
    made_by = found.about.get("weights_sha256")
    if made_by is not None and weights.is_file() and sha256_of(weights) != made_by:
        message(f"beware: {path} was made by other weights than {weights}")
        split = shlex.quote(found.about.get("split", "test"))
        message(f"  mend it: tools/predict.py {shlex.quote(str(path.parent))} --split {split}")


def check_same_images(found: Predictions, expected: Predictions, where: str | Path, other: str | Path) -> None:
    """Raise SrnError, naming the files, unless both have the same keys (in any order) and labels for them."""
    if odd := set(found.keys) ^ set(expected.keys):
        lacking, first = (where, min(odd)) if min(odd) in expected.keys else (other, min(odd))
        how = f"{len(odd)} keys are in one only, {first} is not in {lacking}"
        raise SrnError(f"{where} and {other} are of different images: {how}", CURE)
    if found.labels is None or expected.labels is None:
        return
    row_of = {key: row for row, key in enumerate(expected.keys)}
    changed = np.argwhere(found.labels != expected.labels[[row_of[key] for key in found.keys]])
    if len(changed):
        key, label = found.keys[changed[0][0]], found.classes[changed[0][1]]
        raise SrnError(
            f"{where} and {other} have other labels for the same images: {len(changed)}, the first: {key}, {label}",
            CURE,
        )


def check_classes(found: Sequence[str], expected: Sequence[str], where: str | Path) -> None:
    """Raise SrnError saying how `found` differs from the `expected` class names or their order."""
    if tuple(found) == tuple(expected):
        return
    if sorted(found) == sorted(expected):
        number = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
        how = f"in another order: class {number} is {found[number]}, expected {expected[number]}"
    else:
        odd = sorted(set(found) ^ set(expected))
        few = ", ".join(odd[:6]) + (", ..." if len(odd) > 6 else "")
        how = f"{len(found)}, expected {len(expected)}; differing: {few}"
    raise SrnError(f"{where}: wrong classes: {how}", CURE)
