"""What is known of a split that is being built, so that an interrupted build can go on.

Beside the unfinished databases (`<split>_*.lmdb.partial`) lies `<split>_build.partial`, one JSON value a line:
first the fingerprint of everything that the bytes depend on, then [position, file, reason] for every image
left out, last the manifest entry of the split when its databases are complete and only have to be put in place.
Lines are on the disk before the transaction that passes them, so each position up to the last key is either in
the image database or here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2

from pysrn.data.pair.encoding import Encoding
from pysrn.data.readers.records import Sample
from pysrn.whole_files import replace_text

_LAYOUT = 1  # counted up when the same samples are stored in another way


def journal_path(folder: Path, split: str) -> Path:
    """Where the journal of a split lies."""
    return folder / f"{split}_build.partial"


def fingerprint(
    samples: Sequence[Sample], split: str, classes: Sequence[str], seed: int, dataset: str, encoding: Encoding
) -> str:
    """SHA-256 of everything that a split's records depend on, but for the pixels of the image files."""
    facts = [_LAYOUT, dataset, split, list(classes), seed, encoding.facts(), encoding.size, cv2.__version__]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for sample in samples:
        digest.update(repr((sample.key_name, sample.path.name, sample.box)).encode())
        digest.update(sample.labels.tobytes())
    return digest.hexdigest()


class Journal:
    """The journal of a split in `folder`; what is there already is read.

    `fingerprint` is None where none was begun, `skipped` maps positions to (file, reason), `entry` is the
    manifest entry once the databases are complete.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.path = journal_path(folder, split)
        self.fingerprint: str | None = None
        self.skipped: dict[int, tuple[str, str]] = {}
        self.entry: dict | None = None
        if self.path.is_file():
            self._read()

    def begin(self, mark: str) -> None:
        """Start anew for the build with this fingerprint."""
        self.fingerprint, self.skipped, self.entry = mark, {}, None
        self._rewrite()

    def keep_before(self, position: int) -> None:
        """Forget images left out at `position` and behind: they are looked at again."""
        self.skipped = {number: row for number, row in self.skipped.items() if number < position}
        self._rewrite()

    def skip(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Note images that are left out: (position, file, reason)."""
        rows = list(rows)
        self.skipped |= {position: (file, reason) for position, file, reason in rows}
        self._append(rows)

    def complete(self, entry: dict) -> None:
        """Note that both databases are complete, with their manifest entry."""
        self.entry = entry
        self._append([entry])

    def _read(self) -> None:
        lines = self.path.read_text("utf-8", "replace").split("\n")[:-1]  # what follows the last line end was cut off
        try:
            values = [json.loads(line) for line in lines]
            self.fingerprint = values[0]
            for value in values[1:]:
                if isinstance(value, dict):
                    self.entry = value
                else:
                    position, file, reason = value
                    self.skipped[position] = (file, reason)
        except (ValueError, IndexError, TypeError):  # not ours, or damaged: as good as none
            self.fingerprint, self.skipped, self.entry = None, {}, None

    def _rewrite(self) -> None:
        rows = [(position, *row) for position, row in self.skipped.items()]
        replace_text(self.path, "".join(f"{json.dumps(value)}\n" for value in (self.fingerprint, *rows)))

    def _append(self, values: list) -> None:
        if not values:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(f"{json.dumps(value)}\n" for value in values))
            stream.flush()
            os.fsync(stream.fileno())
