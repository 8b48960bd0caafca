"""What the formats of one's own data that name their labels have in common: COCO JSON, PASCAL VOC, YOLO.

`coco.py`, `voc.py` and `yolo.py` read each part of a data set as a `NamedSplit`; here these become splits with the
classes that both have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np

from pysrn.console import SrnError, message
from pysrn.data.readers.annotation_checks import key_names, usable
from pysrn.data.readers.label_text import printable
from pysrn.data.readers.names.divided_names import warn_of_made_names
from pysrn.data.readers.names.look_alikes import one_spelling
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.records import NEGATIVE, POSITIVE, AnnotatedSplit, Naming, ObjectBox, Sample


@dataclass
class NamedImage:
    """An image: `labels` maps the names it has to 1, or to 0 where unspecified; `boxes` are of these names.

    `name` is the file's place in the data set. A box is (x, y, width, height).
    """

    path: Path
    name: PurePath
    labels: dict[str, int] = field(default_factory=dict)
    boxes: list[tuple[str, tuple[float, float, float, float]]] = field(default_factory=list)


@dataclass
class NamedSplit:
    """A part of a data set. `classes` are the names that its annotation lists, in its order; others come sorted.

    `where` is that annotation, for messages; `sources` are the files whose hashes go into the manifest.
    `all_classes`: they are the classes, whether an image has them or not. `relative`: boxes are fractions of the image.
    """

    where: Path
    images: list[NamedImage]
    classes: tuple[str, ...]
    left_out: list[tuple[str, str]] = field(default_factory=list)
    sources: tuple[Path, ...] = ()
    all_classes: bool = False
    relative: bool = False

    def used(self) -> set[str]:
        """The names that an image has."""
        return {name for image in self.images for name in image.labels}


def annotated(
    splits: Mapping[str, NamedSplit], root: Path, listed: Sequence[Naming], options: ReaderOptions
) -> dict[str, AnnotatedSplit]:
    """The splits with label vectors over common classes; `listed`: these, in this order.

    Else the classes are what the annotations list and at least one image of either split has.
    Raises SrnError for names that look alike, a label that is not listed, and where there is none, else as `usable`.
    """
    classes = tuple(naming.name for naming in listed) or _classes(splits, root)
    namings = [naming for split in splits.values() for naming in _namings(split, classes)]
    kept = one_spelling([*listed, *namings], options.merge_alike)
    warn_of_made_names([*listed, *namings])
    for split in splits.values():
        _rename(split, kept)
    classes = tuple(dict.fromkeys(kept[name] for name in classes))
    for split in splits.values():
        if odd := sorted(split.used() - set(classes)):
            image = next(image for image in split.images if odd[0] in image.labels)
            raise SrnError(
                f"{split.where}: labels that the class list has not: {printable(', '.join(odd), 200)}; the first "
                f"in {printable(str(image.name), 200)}"
            )
    if not classes:
        raise SrnError(f"{root}: no image has a label")
    if missing := [name for name in classes if name not in splits["train"].used()]:
        message(f"warning: {len(missing)} classes have no training image: {printable(', '.join(missing), 200)}")
    column = {name: number for number, name in enumerate(classes)}
    return {name: _with_vectors(split, column, options.drop_unlabelled) for name, split in splits.items()}


def _namings(split: NamedSplit, classes: Sequence[str]) -> Iterator[Naming]:
    """The class names of a split, each with the first image that has it."""
    images = Counter(name for image in split.images for name in image.labels)
    first: dict[str, str] = {}
    for image in split.images:
        for name in image.labels:
            first.setdefault(name, printable(str(image.name)))
    for name in dict.fromkeys((*(name for name in split.classes if name in classes), *images)):
        yield Naming(name, split.where, f"({first[name]})" if name in first else "(no image)", images[name])


def _rename(split: NamedSplit, kept: Mapping[str, str]) -> None:
    for image in split.images:
        labels: dict[str, int] = {}
        for name, value in image.labels.items():
            labels[kept[name]] = max(value, labels.get(kept[name], value))
        image.labels = labels
        image.boxes = [(kept[name], box) for name, box in image.boxes]


def _classes(splits: Mapping[str, NamedSplit], root: Path) -> tuple[str, ...]:
    names = list(dict.fromkeys(name for split in splits.values() for name in split.classes))
    kept = {name for split in splits.values() for name in (split.classes if split.all_classes else split.used())}
    if unused := [name for name in names if name not in kept]:
        message(f"{root}: no image has these, so they are no classes: {printable(', '.join(unused), 200)}")
    return (*(name for name in names if name in kept), *sorted(kept - set(names)))


def _with_vectors(split: NamedSplit, column: Mapping[str, int], drop_unlabelled: bool) -> AnnotatedSplit:
    found = AnnotatedSplit(
        [], tuple(printable(name, None) for name in column), left_out=list(split.left_out), sources=split.sources
    )
    images = _united(split)
    for image, key in zip(images, key_names(image.name for image in images), strict=True):
        if drop_unlabelled and POSITIVE not in image.labels.values():
            found.left_out.append((str(image.path), "no label"))
            continue
        labels = np.full(len(column), NEGATIVE, np.int8)
        for name, value in image.labels.items():
            labels[column[name]] = value
        found.samples.append(Sample(key, image.path, labels))
        found.boxes[key] = [ObjectBox(column[name], box, split.relative) for name, box in image.boxes]
    usable(replace(found, sources=(split.where,)))
    return found


def _united(split: NamedSplit) -> list[NamedImage]:
    """The images, each once: what is listed again adds its labels, for such formats only say what an image has."""
    first: dict[Path, NamedImage] = {}
    for image in split.images:
        known = first.setdefault(image.path, image)
        if known is not image:
            known.labels |= {name: max(value, known.labels.get(name, value)) for name, value in image.labels.items()}
            known.boxes += image.boxes
    if repeated := len(split.images) - len(first):
        message(f"{split.where}: {repeated} images are listed again: their labels are united")
    return list(first.values())
