"""Loading an annotation file in JSON and the checks of its values, for the readers `coco.py` and `wider_attribute.py`.

The content is foreign: nothing is taken for what it should be before it was looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from pathlib import Path

from pysrn.console import SrnError, existing_file, recoded

LARGEST_FILE = 2**30  # bytes; assumed: twice the largest instances file of COCO


def load_json(
    path: str | Path, needed: Collection[str] | None = None, change: Callable[[dict], dict] | None = None
) -> dict:
    """The object in a JSON file, of every object in it only the fields `needed` (default: all).

    Fields that are not needed are forgotten while parsing: polygons are nine tenths of a COCO file. `change` is called
    with every object before.
    Raises MissingError when there is no such file, SrnError when it holds no JSON object, or a field twice in one
    object: of these Python would take the last.
    """
    path = existing_file(path, "annotation file")
    if path.stat().st_size > LARGEST_FILE:
        raise SrnError(f"{path}: larger than {LARGEST_FILE} bytes: too large for an annotation file")

    def take(pairs: list[tuple]) -> dict:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            if twice := [name for name in row if names.count(name) > 1 and name in (needed or row)]:
                raise SrnError(f"{path}: the field {twice[0]} stands twice in one object", "make one of the two")
        row = change(row) if change else row
        return {name: row[name] for name in needed if name in row} if needed else row

    try:
        # A byte order mark is what some editors put in front.
        content = json.loads((data := path.read_bytes()).decode("utf-8-sig"), object_pairs_hook=take)
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        raise SrnError(f"{path}: not a JSON file: {error}", recoded(path, encoding)) from None
    except (ValueError, RecursionError) as error:
        raise SrnError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(content, dict):
        raise SrnError(f"{path}: holds no JSON object: not an annotation file")
    return content


def is_whole(value: object) -> bool:
    """Whether it is an integer; JSON's true and false are none, though Python takes them for 1 and 0."""
    return isinstance(value, int) and not isinstance(value, bool)


def box_of(value: object) -> tuple[float, float, float, float] | None:
    """(x, y, width, height) of a `bbox` field; None unless it is four finite numbers, no size negative."""
    if not isinstance(value, list) or len(value) != 4 or not {int, float}.issuperset(map(type, value)):
        return None  # bool is another type: true is no number
    try:
        x, y, width, height = map(float, value)
    except OverflowError:
        return None
    finite = math.isfinite(x + width) and math.isfinite(y + height)
    return (x, y, width, height) if finite and min(width, height) >= 0 else None
