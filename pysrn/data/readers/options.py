"""What data sets are read, and how, where they leave a choice: as a value, and as flags of the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

AVAILABLE = ("shapes", "coco", "nus_wide", "wider_attribute", "voc2007", "folder")  # data sets
FORMATS = ("csv", "coco", "voc", "yolo")  # of one's own data


@dataclass(frozen=True)
class ReaderOptions:
    """`drop_unlabelled`: leave out images without a positive label; `lists`: folder of list files in the authors' form.

    Of one's own data: `form` is one of FORMATS, where files of several are there; `coco_json` the COCO files of train
    and test; `test_fraction` the part that becomes the test split, of data that are not divided; `merge_alike`: take
    class names that look alike for one class; `separator`: what divides the names in a cell (default: `;`).
    """

    drop_unlabelled: bool = False
    lists: Path | None = None
    form: str | None = None
    coco_json: tuple[Path, Path] | None = None
    test_fraction: float | None = None
    merge_alike: bool = False
    separator: str | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace, **more: object) -> ReaderOptions:
        """What the flags of `add_own_flags` say, and `more`."""
        return cls(
            form=arguments.format,
            coco_json=arguments.coco_json and tuple(arguments.coco_json),
            test_fraction=arguments.test_fraction,
            merge_alike=arguments.merge_alike,
            separator=arguments.separator and arguments.separator.replace(r"\t", "\t").replace(r"\n", "\n"),
            **more,
        )


NO_OPTIONS = ReaderOptions()


def add_own_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say how one's own data are read."""
    own = parser.add_argument_group("your own images")
    own.add_argument("--format", choices=FORMATS, help="of the annotations (default: that of the files that are there)")
    own.add_argument(
        "--coco-json", nargs=2, type=Path, metavar=("TRAIN", "TEST"), help="COCO files (default: looked for)"
    )
    own.add_argument(
        "--test-fraction", type=float, metavar="F", help="hold out so much for test, of data that are not divided"
    )
    own.add_argument(
        "--separator",
        metavar="SIGN",
        help=r"between the names in a cell of a table, for example '|' or '\t' (default: ;)",
    )
    own.add_argument(
        "--merge-alike", action="store_true", help="take class names that look alike (Cat, cat) for one class"
    )
