"""The `data.yaml` of a YOLO data set: the names of the classes by their numbers, and the paths of the parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from pysrn.console import SrnError, message
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.names.image_places import name_parts

LARGEST_YAML = 2**20  # bytes; assumed: room for ten thousand names
_NAMES = re.compile(rb"^\s*[\"']?names[\"']?\s*:", re.MULTILINE)


def has_names(path: Path) -> bool:
    """Whether a YAML file may be a `data.yaml`."""
    return path.is_file() and path.stat().st_size <= LARGEST_YAML and bool(_NAMES.search(path.read_bytes()))


def load_yaml(path: Path) -> dict:
    """The mapping in a YAML file, every scalar as text: `no` and `1.0` are names. Raises SrnError."""
    try:
        node = yaml.compose(path.read_bytes().decode("utf-8-sig"), Loader=yaml.BaseLoader)
        content = yaml.BaseLoader("").construct_document(node)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SrnError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SrnError(f"{path}: holds no names: not a data.yaml")
    for value in (value for key, value in node.value if key.value == "names" and isinstance(value, yaml.MappingNode)):
        numbers = [key.value for key, _ in value.value]
        if len(set(numbers)) != len(numbers):
            raise SrnError(f"{path}: names: a class number stands there twice")
    return content


def numbered_names(path: Path, names: object) -> dict[int, str]:
    """Class number -> name, of a list or a mapping, in the order of the numbers. Raises SrnError."""
    items = dict(enumerate(names)) if isinstance(names, list) else names
    numbered = {}
    for number, name in items.items() if isinstance(items, dict) else ():
        if not str(number).isdecimal() or not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise SrnError(f"{path}: names: {shown(number)}: {shown(name)} is no class number and name")
        if name in numbered.values():
            message(f"{path}: names: {printable(name)} stands there twice: it is one class")
        numbered[int(number)] = name
    if not numbered:
        raise SrnError(f"{path}: names: no list of class names")
    return dict(sorted(numbered.items()))


def named_places(root: Path, file: Path, top: object, value: object) -> Iterator[Path]:
    """What `train: ../train/images` names: from `path:`, the file's folder or `root`; `..` may lead out of it."""
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str) or not text.strip():
            continue
        tops = [Path(top)] if isinstance(top, str) and top else []
        tails = ("/".join(name_parts(text)), text)
        tries = [base / tail for tail in tails for base in (*(file.parent / one for one in tops), file.parent, root)]
        found = next((path for path in tries if _holds_images(path)), None)
        if found:
            yield found


def _holds_images(path: Path) -> bool:
    """Whether it is a folder, not an empty one, or a list."""
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.suffix == ".txt"
