"""The XML files of PASCAL VOC: an `annotation` with an `object` for each thing in an image."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from pysrn.console import recoded
from pysrn.data.readers.annotation_checks import shown

LARGEST_XML = 2**20  # bytes; assumed: a hundred times the largest of VOC 2007
_MANY_BYTES = ("gb", "big5", "shift_jis", "euc", "cp932", "cp936", "cp949", "johab")  # encodings of East Asia
DIFFICULT = {"0": False, "false": False, "1": True, "true": True}


class Damaged(Exception):
    """The annotation of an image cannot be used; the message is the reason, `cure` a command where there is one."""

    def __init__(self, reason: str, cure: str = "") -> None:
        super().__init__(reason)
        self.cure = cure


@dataclass(frozen=True)
class VocObject:
    """An object: its number from 1, its class, whether it is marked `difficult`, and the element of its box."""

    number: int
    name: str
    is_difficult: bool
    element: ElementTree.Element


def objects(tree: ElementTree.Element) -> Iterator[VocObject]:
    """The objects of an annotation. Raises Damaged."""
    things = tree.findall("object")
    if sum(element.tag.lower() == "object" for element in tree.iter()) != len(things):
        raise Damaged("an object in another element, or not spelled 'object'")
    for number, element in enumerate(things, 1):
        names = [(name.text or "").strip() for name in element if name.tag.lower() == "name"]
        if len(names) > 1:
            raise Damaged(f"object {number}: {len(names)} class names: {shown(names)}")
        name = (element.findtext("name") or "").strip()
        difficult = element.findtext("difficult", "0").strip().lower()  # the devkit takes a missing one for 0
        if difficult not in DIFFICULT:
            raise Damaged(f"object {number}: difficult is {shown(difficult)}, not 0 or 1")
        yield VocObject(number, name, DIFFICULT[difficult], element)


class _PlainTree(ElementTree.TreeBuilder):
    """Builds the tree; refuses a document type, by which a small file can define text of any length."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise Damaged("it has a DOCTYPE, which no annotation needs")


def annotation_tree(path: Path) -> ElementTree.Element:
    """The `annotation` of a file. Raises Damaged."""
    try:
        if not path.is_file():  # a named pipe would be waited for
            raise Damaged("no such file")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_XML + 1)
    except OSError as error:
        raise Damaged(error.strerror or "cannot be read") from None
    if len(content) > LARGEST_XML:
        raise Damaged(f"more than {LARGEST_XML // 2**20} MiB, too large for an annotation")
    try:
        tree = _parsed(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: of its encoding
        is_text = b"\0" not in content and content.rstrip().endswith(b"</annotation>")
        cure = recoded(path) if not _is_utf8(content) and is_text else ""
        raise Damaged(f"not an XML file: {error}", cure) from None
    if tree.tag != "annotation":
        raise Damaged(f"its root is {shown(tree.tag)}, not 'annotation'")
    return tree


def _parsed(content: bytes) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_PlainTree())
    named = re.match(rb"<\?xml[^>]*encoding\s*=\s*[\"']([\w.-]+)[^>]*>", content)
    if named and codecs.lookup(named[1].decode()).name.startswith(_MANY_BYTES):  # which Expat does not read
        content = content[named.end() :].decode(named[1].decode())
    return ElementTree.fromstring(content, parser)


def _is_utf8(content: bytes) -> bool:
    try:
        return bool(content.decode()) or True
    except UnicodeDecodeError:
        return False


def box(thing: VocObject) -> tuple[float, float, float, float]:
    """(x, y, width, height) from corners that count from 1 and both belong to the object. Raises Damaged."""
    corners = [thing.element.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(corner or "") for corner in corners)
    except ValueError:
        raise Damaged(f"object {thing.number}: no valid bndbox: {shown(corners)}") from None
    width, height = right - left + 1, bottom - top + 1
    if not all(map(math.isfinite, (left, top, right, bottom))) or min(width, height) <= 0:
        raise Damaged(f"object {thing.number}: no valid bndbox: {shown(corners)}")
    return left - 1, top - 1, width, height
