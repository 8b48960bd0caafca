"""Reader of PASCAL VOC's XML files with classes of one's own: beside the images, or laid out as VOC is.

A label is 1 where a plain object of the class is in the image, and unspecified where only ones marked `difficult`
are, as in `voc2007.py`. Objects without a valid box keep their label. An XML file without objects is an image
without labels; an image without an XML file is left out.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from pysrn.console import SrnError, message, progress
from pysrn.data.image_files import images_below
from pysrn.data.readers.annotation_checks import BAD_SIGNS, shown
from pysrn.data.readers.label_text import printable, text_lines
from pysrn.data.readers.own.named_images import NamedImage, NamedSplit
from pysrn.data.readers.own.parts import WHOLE, NamedFormat, part_of
from pysrn.data.readers.records import PARTS, POSITIVE, UNSPECIFIED
from pysrn.data.readers.voc_xml import Damaged, annotation_tree, box, objects

LAID_OUT = ("VOC[0-9]*", "VOCdevkit/VOC[0-9]*")  # folders that hold ImageSets/Main, as the root may
LISTS = ("trainval", "train", "test", "val")  # a later one is taken where two are of one part
_PROBES = 5  # XML files that are looked into to learn whether they are VOC's


@dataclass(frozen=True)
class _Part:
    """The XML files of a part; `where` is the list that names them, or the folder of all."""

    name: str
    where: Path
    files: tuple[Path, ...]


def find_voc(root: Path) -> dict[str, _Part]:
    """Part -> its XML files, by the lists of ImageSets/Main or by the names of folders."""
    for folder in (root, *(found for pattern in LAID_OUT for found in sorted(root.glob(pattern)))):
        lists = {PARTS[name]: folder / "ImageSets" / "Main" / f"{name}.txt" for name in LISTS if _list(folder, name)}
        if lists:
            return {part: _Part(part, path, tuple(_listed(folder, path))) for part, path in lists.items()}
    files = defaultdict(list)
    for path in sorted(root.rglob("*.[xX][mM][lL]")):
        if not any(word.startswith(".") for word in path.relative_to(root).parts):
            files[part_of(path.relative_to(root).with_name("x"))].append(path)
    if not any(_is_voc(path) for paths in files.values() for path in paths[:_PROBES]):
        return {}
    if len(files) > 1 and (others := files.pop(WHOLE, None)):
        message(f"{root}: {len(others)} XML files are of no part and not read; the first: {others[0]}")
    return {part: _Part(part, root, tuple(paths)) for part, paths in files.items()}


def _list(folder: Path, name: str) -> bool:
    return (folder / "ImageSets" / "Main" / f"{name}.txt").is_file() and (folder / "Annotations").is_dir()


def _listed(folder: Path, path: Path) -> Iterator[Path]:
    """The XML files that a list names; the images' endings may be in it."""
    for line in text_lines(path):
        if name := line.strip():
            stems = (name, PurePath(name).stem)  # the last is named where none is there
            tries = [folder / "Annotations" / f"{stem}{ending}" for stem in stems for ending in (".XML", ".xml")]
            yield next((path for path in tries if path.is_file()), tries[-1])


def _is_voc(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return b"<annotation" in stream.read(4096)
    except OSError:
        return False


def read_own_voc(root: Path, part: _Part) -> NamedSplit:
    """Read the XML files of a part; the classes are sorted.

    Left out with the reason: damaged XML files, those without an image, and images without one.
    """
    images = _Images(root, part)
    found = NamedSplit(part.where, [], (), sources=(part.where,) if part.where.is_file() else ())
    difficult = boxless = 0
    for file in progress(part.files, len(part.files), f"reading {part.name} annotations", "files"):
        if not os.path.lexists(file):
            found.left_out.append((str(file), "no XML file"))
            continue
        try:
            tree = annotation_tree(file)
            path = images.of(file, (tree.findtext("filename") or "").strip())
            image = NamedImage(path, path.relative_to(root))
            for thing in objects(tree):
                if not thing.name or BAD_SIGNS.search(thing.name):
                    raise Damaged(f"object {thing.number}: no class name: {shown(thing.name)}")
                value = UNSPECIFIED if thing.is_difficult else POSITIVE
                image.labels[thing.name] = max(value, image.labels.get(thing.name, value))
                try:
                    image.boxes.append((thing.name, box(thing)))
                except Damaged:
                    boxless += 1
        except LookupError as fault:
            found.left_out.append((str(file), fault.args[0]))
        except Damaged as fault:
            if fault.cure:  # of its encoding: with it classes that are not plain letters would go
                raise SrnError(f"{file}: {fault}", fault.cure) from None
            found.left_out.append((str(file), f"damaged annotation: {fault}"))
            with suppress(LookupError):  # its image is not one without an annotation
                images.of(file, "")
        else:
            found.images.append(image)
            difficult += list(image.labels.values()).count(UNSPECIFIED)
    found.left_out += [(str(path), "no XML file of this image") for path in images.unused()]
    if difficult:
        message(f"{part.where}: {part.name}: {difficult:,} labels are unspecified: all their objects are `difficult`")
    if boxless:
        message(f"{part.where}: {part.name}: {boxless:,} objects have no valid box: their labels are kept")
    return found


class _Images:
    """The image files that the XML files of a part may mean."""

    def __init__(self, root: Path, part: _Part) -> None:
        self.root, self.part = root, part
        self.is_listed = part.where.is_file()
        top = root
        if self.is_listed:  # segmentations have the images' names, too
            top = part.where.parents[2]  # of ImageSets/Main
            top = top / "JPEGImages" if (top / "JPEGImages").is_dir() else top
        self.files: dict[str, list[Path]] = defaultdict(list)
        self.left: dict[Path, None] = {}
        for path in images_below(top):
            own = part_of(path.relative_to(top).with_name("x"))
            if self.is_listed or own in (part.name, WHOLE):
                for name in {path.stem, path.name}:
                    self.files[name].append(path)
                if own == part.name and not self.is_listed:
                    self.left[path] = None

    def of(self, file: Path, named: str) -> Path:
        """The image of an XML file: of the same name but for the ending, else the one it names.

        Raises LookupError for none and for several.
        """
        named = named.replace("\\", "/").rpartition("/")[2]
        for name in (file.stem, named, PurePath(named).stem):
            paths = self.files.get(name, [])
            if len(paths) > 1:  # those that lie most alike: train/annotations/a.xml and train/images/a.jpg
                nearest = max(_shared(file.parent, path.parent) for path in paths)
                paths = [path for path in paths if _shared(file.parent, path.parent) == nearest]
                paths = [path for path in paths if path.name == named] or paths
            if len(paths) > 1:
                raise LookupError(f"several images: {', '.join(printable(str(path), 100) for path in paths[:3])}")
            if paths:
                self.left.pop(paths[0], None)
                return paths[0]
        raise LookupError(f"no image: {printable(named or file.stem)}")

    def unused(self) -> list[Path]:
        """The images of the part that no XML file meant."""
        return list(self.left)


def _shared(one: Path, other: Path) -> tuple[bool, int]:
    """How much two folders have in common: whether they are the same, and the names that they end in."""
    pairs = zip(reversed(one.parts), reversed(other.parts), strict=False)
    return one == other, next((count for count, (a, b) in enumerate(pairs) if a != b), len(one.parts))


VOC = NamedFormat("PASCAL VOC XML", find_voc, read_own_voc)
