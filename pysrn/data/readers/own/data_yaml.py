"""The `data.yaml` or `obj.data` of a YOLO data set: names of classes by their numbers, and the paths of the parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from pysrn.console import SrnError, UsageError, message, recoded
from pysrn.data.readers.annotation_checks import BAD_SIGNS, shown
from pysrn.data.readers.label_text import class_list, printable, text_lines
from pysrn.data.readers.names.image_places import name_parts
from pysrn.data.readers.records import PARTS

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
    except UnicodeDecodeError as error:
        raise SrnError(f"{path}: the file is not UTF-8: {error}", recoded(path)) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SrnError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SrnError(f"{path}: holds no names: not a data.yaml")
    for value in (value for key, value in node.value if key.value == "names" and isinstance(value, yaml.MappingNode)):
        numbers = [str(key.value).lstrip("0") for key, _ in value.value]  # 01 is 1
        if len(set(numbers)) != len(numbers):
            raise SrnError(f"{path}: names: a class number stands there twice")
    return content


def numbered_names(path: Path, names: object, count: object = None) -> dict[int, str]:
    """Class number -> name, of a list, a mapping or a file with one a line, in the order of the numbers.

    `count`: how many the file says that there are. Raises SrnError, also where it says another number.
    """
    if isinstance(names, str) and (listed := named_file(path, names)):
        names = list(class_list(listed))
    items = dict(enumerate(names)) if isinstance(names, list) else names
    numbered = {}
    for number, name in items.items() if isinstance(items, dict) else ():
        if not str(number).isdecimal() or not isinstance(name, str) or not name.strip() or BAD_SIGNS.search(name):
            raise SrnError(f"{path}: names: {shown(number)}: {shown(name)} is no class number and name")
        if name in numbered.values():
            message(f"{path}: names: {printable(name)} stands there twice: it is one class")
        numbered[int(number)] = name
    if not numbered:
        raise SrnError(f"{path}: names: no list of class names", "write names: [cat, dog]")
    if gaps := sorted(set(range(max(numbered) + 1)) - set(numbered)):
        message(f"{path}: names: no name for the numbers {printable(', '.join(map(str, gaps)))}")
    if count and str(count) not in (str(len(numbered)), str(max(numbered) + 1)):
        raise SrnError(
            f"{path}: it says {shown(count)} classes (nc), but has {len(numbered)} names",
            "correct nc or the names: which number is which class?",
        )
    return dict(sorted(numbered.items()))


def load_darknet(root: Path) -> tuple[Path | None, dict]:
    """The file and the content, as of a data.yaml, of what YOLO 1.1 is exported with; (None, {}) for none.

    It is `obj.data`, of lines `train = data/train.txt`, or `obj.names` alone, with `train.txt` and others beside it.
    """
    found = {ending: sorted([*root.glob(f"*{ending}"), *root.glob(f"*/*{ending}")]) for ending in (".data", ".names")}
    if not found[".names"]:
        return None, {}
    if len(found[".names"]) > 1 or len(found[".data"]) > 1:
        several = ", ".join(str(path.relative_to(root)) for path in found[".data"] + found[".names"])
        raise UsageError(f"{root}: several files with names: {several}", "keep one")
    path = [*found[".data"], *found[".names"]][0]
    lines = text_lines(path) if found[".data"] else ()
    content = dict(map(str.strip, line.split("=", 1)) for line in lines if "=" in line and line.strip()[0] != "#")
    lists = {one.stem: str(one) for one in sorted(found[".names"][0].parent.glob("*.txt")) if one.stem.lower() in PARTS}
    return path, lists | content | {"names": str(found[".names"][0]), "nc": content.get("classes")}


def named_file(beside: Path, text: str) -> Path | None:
    """The file that a line names from whatever folder: the tail of its name that is there."""
    parts = name_parts(text)
    tails = ("/".join(parts[off:]) for off in range(len(parts)))
    tops = (beside.parent, beside.parent.parent)
    return next((top / tail for tail in tails for top in tops if (top / tail).is_file()), None)


def named_places(root: Path, file: Path, top: object, value: object) -> Iterator[Path]:
    """What `train: ../train/images` names: from `path:`, the file's folder or `root`; `..` may lead out of it.

    A list of images is found without leading folders, too.
    """
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str) or not text.strip():
            continue
        tops = [Path(top)] if isinstance(top, str) and top else []
        tails = ("/".join(name_parts(text)), text)
        tries = [base / tail for tail in tails for base in (*(file.parent / one for one in tops), file.parent, root)]
        found = next((path for path in tries if _holds_images(path)), None)
        if found := found or named_file(file, text):
            yield found


def _holds_images(path: Path) -> bool:
    """Whether it is a folder, not an empty one, or a list."""
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.suffix == ".txt"
