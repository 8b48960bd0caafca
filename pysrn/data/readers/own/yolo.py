"""Reader of YOLO label files with a `data.yaml`, Darknet's `obj.data`, or a `classes.txt` beside `labels/`.

`images/a.jpg` has its labels in `labels/a.txt`, else beside it. A row begins with the number of its class; what
follows, a box or an outline, never costs the label. An image without a label file, or with an empty one, has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pysrn.console import MissingError, SrnError, UsageError, message, progress
from pysrn.data.image_files import images_below
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.image_lists import CLASSES_NAME
from pysrn.data.readers.label_text import class_list, printable, text_lines
from pysrn.data.readers.names.image_places import name_parts
from pysrn.data.readers.own.data_yaml import has_names, load_darknet, load_yaml, named_places, numbered_names
from pysrn.data.readers.own.named_images import NamedImage, NamedSplit
from pysrn.data.readers.own.parts import WHOLE, NamedFormat
from pysrn.data.readers.records import PARTS, POSITIVE
from pysrn.data.readers.split_tables import tables_of


@dataclass(frozen=True)
class _Part:
    """The images of a part: folders, or lists of images; `names` are the classes by their numbers.

    `posed`: behind a row's box stand points of a skeleton.
    """

    name: str
    where: Path
    places: tuple[Path, ...]
    names: dict[int, str]
    posed: bool = False


def find_yolo(root: Path) -> dict[str, _Part]:
    """Part -> its folders or lists, as `data.yaml` says or, where that names none that is there, by their names.

    Raises SrnError for a damaged `data.yaml`, UsageError where there are several.
    """
    yamls = [path for path in sorted(root.iterdir()) if path.suffix.lower() in (".yaml", ".yml")]
    files = [path for path in yamls if has_names(path)]
    if not files and (other := next((path for path in yamls if path.stem.lower() == "data"), None)):
        message(f"{other}: no `names:` in it, so it says nothing of classes")
    if len(files) > 1:
        raise UsageError(f"{root}: several YAML files with names: {', '.join(path.name for path in files)}", "keep one")
    if files:
        content = load_yaml(files[0])
    else:
        file, content = load_darknet(root)
        files = [file] if file else []
    if files:
        names = numbered_names(files[0], content.get("names"), content.get("nc"))
    elif (root / CLASSES_NAME).is_file() and _has_label_files(root):
        files, content = [root / CLASSES_NAME], {}
        names = dict(enumerate(class_list(files[0])))
    else:
        return {}
    parts = {}
    posed = "kpt_shape" in content
    for key, value in content.items():
        part = PARTS.get(key.lower())
        if part and (places := tuple(named_places(root, files[0], content.get("path"), value))):
            parts[part] = _Part(part, files[0], places, names, posed)
        elif part and value:
            message(f"{files[0]}: {key}: {printable(str(value), 100)} is not there")
    if "train" not in parts or len(parts) == 1:
        for name, folder in _folders(root):
            parts.setdefault(name, _Part(name, files[0], (folder,), names, posed))
    return parts or {WHOLE: _Part(WHOLE, files[0], (root,), names, posed)}


def _has_label_files(root: Path) -> bool:
    """Whether there is a folder `labels` with such, or, where there are no tables, one beside its image."""
    if any(root.glob("labels/**/*.[tT][xX][tT]")):
        return True
    return not any(tables_of(root).values()) and any(path.with_suffix(".txt").is_file() for path in images_below(root))


def _folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Folders that are named as parts: `train/`, `images/train/`."""
    for base in (root, root / "images"):
        for folder in sorted(base.iterdir()) if base.is_dir() else ():
            if folder.is_dir() and folder.name.lower() in PARTS:
                yield PARTS[folder.name.lower()], folder


def read_own_yolo(root: Path, part: _Part) -> NamedSplit:
    """Read the label files of a part; all names are classes, in the order of their numbers.

    Left out with the reason: label files without an image. Raises MissingError for a part without images or of which
    no image has a label file, SrnError for a row that does not begin with the number of a class, with its line.
    """
    found = NamedSplit(part.where, [], tuple(dict.fromkeys(part.names.values())), all_classes=True, relative=True)
    found.sources = (part.where, *(place for place in part.places if place.is_file()))
    files = list(dict.fromkeys(path for place in part.places for path in _images(root, place)))
    if not files:
        raise MissingError(f"{part.where}: {part.name}: no image in {', '.join(map(str, part.places))}")
    read: set[Path] = set()
    boxless = 0
    for path in progress(files, len(files), f"reading {part.name} labels", "files"):
        image = NamedImage(path, path.relative_to(root) if path.is_relative_to(root) else Path(path.name))
        label_file = next((file for file in _label_files(path) if file.is_file()), None)
        if label_file:
            read.add(label_file)
            for name, box in _rows(label_file, part):
                image.labels[name] = POSITIVE
                if box:
                    image.boxes.append((name, box))
                boxless += box is None
        found.images.append(image)
    if not read:
        looked = ", ".join(str(path) for path in _label_files(files[0]) if path.suffix == ".txt")
        raise MissingError(
            f"{part.where}: {part.name}: none of {len(files)} images has a label file; looked for {looked}"
        )
    if len(read) < len(files):
        message(f"{part.where}: {part.name}: {len(files) - len(read):,} images have no label file, so no label")
    if boxless:
        message(f"{part.where}: {part.name}: {boxless:,} rows have no valid box: their labels are kept")
    if not any(place.is_file() for place in part.places):  # the label files of a list's other images are no strays
        for folder in sorted({file.parent for file in read if "labels" in file.parts}):
            strays = (
                file for file in sorted(folder.glob("*.[tT][xX][tT]")) if file not in read and file.name != CLASSES_NAME
            )
            found.left_out += [(str(file), "a label file without an image") for file in strays]
    return found


def _images(root: Path, place: Path) -> Iterable[Path]:
    """The images of a folder, or those that a list names."""
    if place.is_dir():
        return images_below(place)
    files = []
    for number, line in enumerate(text_lines(place), 1):
        if text := line.strip():
            parts = name_parts(text)
            tails = [Path(text), *(Path(*parts[off:]) for off in range(len(parts)))]
            path = next(
                (base / tail for tail in tails for base in (place.parent, root) if (base / tail).is_file()), None
            )
            if path is None:
                raise MissingError(f"{place} line {number}: no image {printable(text, 200)}")
            files.append(path)
    return files


def _label_files(image: Path) -> Iterator[Path]:
    """Where the labels of an image may be: the last folder `images` in its path becomes `labels`; else beside it."""
    for ending in (".txt", ".TXT"):
        beside = image.with_suffix(ending)
        parts = list(beside.parts)
        folders = [number for number, part in enumerate(parts[:-1]) if part.lower() == "images"]
        if folders:
            parts[folders[-1]] = "labels"
            yield Path(*parts)
        yield beside
        yield image.parent / "labels" / beside.name


def _rows(file: Path, part: _Part) -> Iterator[tuple[str, tuple[float, float, float, float] | None]]:
    """(class name, box as fractions of the image or None) of each row."""
    try:
        lines = text_lines(file)
    except MissingError:  # it is empty
        return
    for number, line in enumerate(lines, 1):
        if not (words := line.split()):
            continue
        try:
            values = [float(word) for word in words]
            name = part.names[int(values[0])] if values[0] == int(values[0]) else None
        except (ValueError, OverflowError, KeyError):
            name = None
        if name is None:
            raise SrnError(
                f"{file} line {number}: {shown(words[0])} is no class number, or the row has more than numbers; "
                f"{part.where.name} has {len(part.names)} names, {min(part.names)} to {max(part.names)}",
                f"add the name to {part.where}, or correct the row",
            )
        yield name, _box(values[1:5] if part.posed else values[1:])


def _box(values: list[float]) -> tuple[float, float, float, float] | None:
    """(x, y, width, height) of `centre x, centre y, width, height` or of an outline `x1 y1 x2 y2 x3 y3 ...`."""
    if not all(map(math.isfinite, values)):
        return None
    if len(values) in (4, 5):  # the fifth is a detector's confidence
        x, y, width, height = values[:4]
    elif len(values) >= 6 and len(values) % 2 == 0:
        x, y = min(values[::2]), min(values[1::2])
        width, height = max(values[::2]) - x, max(values[1::2]) - y
        x, y = x + width / 2, y + height / 2
    else:
        return None
    return (x - width / 2, y - height / 2, width, height) if min(width, height) > 0 else None


YOLO = NamedFormat("YOLO label files", find_yolo, read_own_yolo)
