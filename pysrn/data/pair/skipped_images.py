"""The `skipped.csv` of an LMDB folder: which images were left out, and why."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pysrn.console import message
from pysrn.whole_files import replace_text

SKIPPED_NAME = "skipped.csv"
_SHOWN = 6  # reasons


def write_skipped(folder: Path, split: str, skipped: Iterable[tuple[str, str]]) -> None:
    """Replace this split's rows (file, reason) in `skipped.csv`."""
    path, rows = folder / SKIPPED_NAME, []
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            rows = [row for row in csv.reader(stream) if row and row[0] not in ("split", split)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("split", "file", "reason"), *rows])
    csv.writer(text, lineterminator="\n").writerows((split, *map(_plain, row)) for row in skipped)
    replace_text(path, text.getvalue())


def say_skipped(split: str, skipped: list[tuple[str, str]], path: Path) -> None:
    """One line on stderr: how many were left out, by reason."""
    if not skipped:
        return
    found = Counter(reason.partition(":")[0] for _, reason in skipped).most_common()
    shown = "; ".join(f"{reason}: {number:,}" for reason, number in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more reasons" if len(found) > _SHOWN else ""
    message(f"{split}: {len(skipped):,} images left out ({shown}{more}); {path} lists them")


def _plain(text: str) -> str:
    """As text that can be stored: a file name need not be UTF-8, and csv keeps no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
