"""Reader of COCO JSON files with classes of one's own, as annotation tools export them.

An annotation gives its image its label, whatever its box or outline is: boxes are needed for pointing only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pysrn.console import SrnError, UsageError, message
from pysrn.data.readers.annotation_checks import BAD_SIGNS, shown
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.names.image_places import located, name_parts
from pysrn.data.readers.own.named_images import NamedImage, NamedSplit
from pysrn.data.readers.own.parts import WHOLE, NamedFormat, part_of
from pysrn.data.readers.records import PARTS, POSITIVE
from pysrn.json_file import LARGEST_FILE, box_of, load_json

NEEDED = ("images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "bbox", "name")
LISTS = ("images", "annotations", "categories")
DEPTHS = tuple(f"{folder}*.[jJ][sS][oO][nN]" for folder in ("", "*/", "*/*/"))  # assumed: no tool lays it deeper
TOOLS_NAMES = ("_annotations.coco", "instances")  # are COCO's whatever they hold: a damaged one is never passed over


def find_coco(root: Path) -> dict[str, tuple[Path, Path]]:
    """Part -> (root, JSON file), by the words train, valid, val and test in the names of files and folders.

    Raises UsageError where two files are of the same part.
    """
    files: dict[str, list[Path]] = {}
    for pattern in DEPTHS:
        for path in sorted(root.glob(pattern)):
            if _looks_like_coco(path):
                files.setdefault(part_of(path.relative_to(root)), []).append(path)
    if len(files) > 1 and WHOLE in files:
        message(f"{root}: not read, for it is of no part: {', '.join(map(str, files.pop(WHOLE)))}")
    for part, paths in files.items():
        instances = [path for path in paths if path.stem.startswith(("instances", "_annotations"))]
        if len(paths) > 1 and len(instances) == 1:
            files[part] = instances
        elif len(paths) > 1:
            names = ", ".join(str(path.relative_to(root)) for path in paths[:5])
            raise UsageError(f"{root}: {len(paths)} COCO files for one part: {names}", "--coco-json TRAIN TEST")
    return {part: (root, path) for part, (path,) in files.items()}


def _looks_like_coco(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.name.startswith(TOOLS_NAMES):
        return True
    if path.stat().st_size > LARGEST_FILE:
        return False
    content = path.read_bytes().replace(b"\0", b"")  # UTF-16, too: it is refused when it is read
    return all(f'"{part}"'.encode() in content for part in LISTS)


def read_own_coco(root: Path, place: tuple[Path, Path]) -> NamedSplit:
    """Read one file. Two categories of one name are one class; the classes stand in the order of the ids.

    Left out with the reason: rows of `images` without id or file name. Raises MissingError where no image is found,
    SrnError for what is no COCO file, a category id or an image id with two meanings, and annotations of images or
    categories that are not listed.
    """
    annotation = place[1]
    content = load_json(annotation, NEEDED, _with_box)
    for part in LISTS:
        if not isinstance(content.get(part), list):
            raise SrnError(f'{annotation}: no list "{part}": not a COCO file with labels')
    names = _category_names(annotation, content["categories"])
    files, left_out = _file_names(annotation, content["images"])
    listed = {identity: name for identity, name in files.items() if name is not None}
    named, bases = list(listed.values()), _bases(root, annotation)
    base, found = located(named, bases, root, annotation, ["image"] * len(named)) if named else (root, [])
    images = {identity: NamedImage(base / name, Path(name)) for identity, name in zip(listed, found, strict=True)}
    strangers: dict[str, list[tuple[int, object]]] = {"image": [], "category": []}
    boxless = 0
    image_of, category_of = _Listed(files), _Listed(names)
    for number, row in enumerate(content["annotations"]):
        row = row if isinstance(row, dict) else {}
        image, category = image_of(row.get("image_id")), category_of(row.get("category_id"))
        if image is None:
            strangers["image"].append((number, row.get("image_id")))
        elif category is None:
            strangers["category"].append((number, row.get("category_id")))
        elif image in images:
            images[image].labels[names[category]] = POSITIVE
            if box := _box(row):
                images[image].boxes.append((names[category], box))
            boxless += box is None
    for what, rows in strangers.items():
        if rows:
            number, value = rows[0]
            raise SrnError(
                f"{annotation}: {len(rows)} of {len(content['annotations'])} annotations name no listed {what}; the "
                f'first, "annotations" row {number}, names {what} {shown(value)}',
                "list it, or remove its annotations: no label may be lost without a word",
            )
    if boxless:
        message(f"{annotation}: {boxless:,} annotations have no valid box: their labels are kept")
    classes = tuple(dict.fromkeys(names.values()))
    return NamedSplit(annotation, list(images.values()), classes, left_out, (annotation,))


def _identity(value: object) -> int | float | str | None:
    """An id as it can be compared: 7, 7.0 and "7" are the same. None for what is no id."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if value.isdecimal() and len(value) < 20 and str(int(value)) == value else value or None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else value


class _Listed:
    """Finds what an annotation names among the ids that are listed: as it is, else by its number, if one alone has it:
    "007" is 7, where there is no other 7."""

    def __init__(self, ids: Iterable[int | float | str]) -> None:
        self.ids = set(ids)
        numbers = Counter(map(_number, self.ids))
        self.of_number = {_number(one): one for one in self.ids if numbers[_number(one)] == 1}

    def __call__(self, value: object) -> int | float | str | None:
        identity = _identity(value)
        return identity if identity in self.ids else self.of_number.get(_number(identity))


def _number(identity: int | float | str | None) -> int | float | str | None:
    """A number with zeros in front as a number."""
    return int(identity) if isinstance(identity, str) and identity.isdecimal() else identity


def _category_names(annotation: Path, rows: list) -> dict[int | float | str, str]:
    names: dict[int | float | str, str] = {}
    for number, row in enumerate(rows):
        identity = _identity(row.get("id")) if isinstance(row, dict) else None
        name = row.get("name") if identity is not None else None
        if not isinstance(name, str) or not name.strip() or BAD_SIGNS.search(name):
            raise SrnError(f'{annotation}: "categories" row {number} has no valid id or name: {shown(row)}')
        if names.setdefault(identity, name) != name:
            both = f"{shown(names[identity])} and {shown(name)}"
            raise SrnError(f"{annotation}: the category id {shown(identity)} means both {both}")
    for name, count in Counter(names.values()).items():
        if count > 1:
            message(f"{annotation}: {count} categories are named {printable(name)}: they are one class")
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _file_names(annotation: Path, rows: list) -> tuple[dict, list[tuple[str, str]]]:
    """Image id -> file name, None where it has none; and what is left out."""
    files: dict[int | float | str, str | None] = {}
    left_out = []
    for number, row in enumerate(rows):
        identity = _identity(row.get("id")) if isinstance(row, dict) else None
        name = row.get("file_name") if isinstance(row, dict) else None
        valid = isinstance(name, str) and bool(name_parts(name)) and not BAD_SIGNS.search(name)
        if identity is None or not valid:
            left_out.append((f'"images" row {number}', "no valid id" if valid else f"no file name: {shown(name)}"))
        if identity is None:
            continue
        known = files.setdefault(identity, name if valid else None)
        if valid and known is not None and name_parts(known) != name_parts(name):
            both = f"{shown(known)} and {shown(name)}"
            raise SrnError(f"{annotation}: the image id {shown(identity)} means both {both}")
    return files, left_out


def _bases(root: Path, annotation: Path) -> Iterator[Path]:
    """Folders in which the images of an annotation may be, the nearest first."""
    part = part_of(annotation.relative_to(root) if annotation.is_relative_to(root) else Path(annotation.name))
    words = [annotation.stem.removeprefix("instances_"), *(word for word, own in PARTS.items() if own == part)]
    for top in dict.fromkeys((annotation.parent, annotation.parent.parent, root)):
        if top == annotation.parent.parent and not top.is_relative_to(root):
            continue
        for folder in (top, top / "images", top / "data"):
            yield from (folder, *(folder / word for word in words))


def _with_box(row: dict) -> dict:
    """An annotation without a box, but with polygons: the box around these."""
    if isinstance(row.get("segmentation"), list) and not _box(row):
        try:
            points = [float(value) for polygon in row["segmentation"] for value in polygon]
            left, top = min(points[::2]), min(points[1::2])
            row["bbox"] = [left, top, max(points[::2]) - left, max(points[1::2]) - top]
        except (TypeError, ValueError, OverflowError):
            pass
    return row


def _box(row: dict) -> tuple[float, float, float, float] | None:
    box = box_of(row.get("bbox"))
    return box if box and min(box[2:]) > 0 else None


COCO = NamedFormat("COCO JSON", find_coco, read_own_coco)
