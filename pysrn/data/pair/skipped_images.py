"""The `skipped.csv` of an LMDB folder: which images were left out, and why."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from pysrn.console import message
from pysrn.data.readers.label_text import printable
from pysrn.whole_files import replace_text

SKIPPED_NAME = "skipped.csv"
_SHOWN = 6  # reasons
# What differs among reasons of one kind: quoted values, lists, names of files, numbers.
_DIFFERENT = re.compile(r"""'[^']*'|"[^"]*"|[\[({].*|\S+\.\w{1,5}\b|\d+""")


def write_skipped(folder: Path, split: str, skipped: Iterable[tuple[str, str]]) -> None:
    """Replace this split's rows (file, reason) in `skipped.csv`."""
    path, rows = folder / SKIPPED_NAME, []
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            rows = [row for row in csv.reader(stream) if row and row[0] not in ("split", split)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("split", "file", "reason"), *rows])
    csv.writer(text, lineterminator="\n").writerows((split, _file(name), _plain(why)) for name, why in skipped)
    replace_text(path, text.getvalue())


def say_skipped(split: str, skipped: list[tuple[str, str]], path: Path) -> None:
    """One line on stderr: how many were left out, by kind of reason, the first of a kind as its example."""
    if not skipped:
        return
    kinds: dict[str, list[str]] = {}
    for _, reason in skipped:
        kinds.setdefault(_DIFFERENT.sub("#", reason), []).append(reason)
    common = sorted(kinds.items(), key=lambda kind: -len(kind[1]))[:_SHOWN]
    shown = "; ".join(
        _counted(printable(reasons[0], 120), len(reasons), reasons[0] == kind) for kind, reasons in common
    )
    more = f"; and {len(kinds) - _SHOWN} more reasons" if len(kinds) > _SHOWN else ""
    message(f"{split}: {len(skipped):,} images left out ({shown}{more}); {path} lists them")


def _counted(reason: str, times: int, same: bool) -> str:
    return f"{reason}: {times:,}" if same or times == 1 else f"{times:,} like: {reason}"


def _plain(text: str) -> str:
    """As text that can be stored and shown: a file name need not be UTF-8, and a terminal obeys some of its signs."""
    return printable(text, None)


def _file(name: str) -> str:
    """The name of a file, the same one, that no spreadsheet takes for a formula."""
    name = _plain(name)
    return f"./{name}" if name.startswith(("=", "+", "-", "@")) else name
