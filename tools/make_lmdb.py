#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Build the LMDB pairs of a data set (train and test), or verify those that are there.

A build that was interrupted, in whatever way, goes on when the same command is given again.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import UsageError, existing_folder, run_main, seed_number
from pysrn.data.pair.encoding import INTERPOLATIONS, JPEG_QUALITY, SIGNED, ZERO_ONE, Encoding
from pysrn.data.readers.options import AVAILABLE, ReaderOptions, add_own_flags
from pysrn.recipes import EMBEDDED, STORED_SIZE, split_counts


def main(argv: list[str] | None = None) -> int:
    """Parse, build or verify, print one line a split."""
    counts = split_counts(EMBEDDED)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=AVAILABLE)
    parser.add_argument("--root", help="where the data set lies (not for shapes, which is drawn)")
    parser.add_argument("--out", help="folder to write (default: data/DATASET)")
    parser.add_argument("--seed", type=seed_number, default=0, help="of the order and, for shapes, of the pictures")
    parser.add_argument("--encoding", choices=("jpeg", "raw"), default="jpeg", help="raw: faster, 4x the bytes")
    parser.add_argument("--quality", type=_quality, default=JPEG_QUALITY, help="of the JPEGs (default: %(default)s)")
    parser.add_argument(
        "--interpolation",
        choices=INTERPOLATIONS,
        default=INTERPOLATIONS[0],
        help="area: averages where the image shrinks (default); linear: as Caffe's convert_imageset",
    )
    parser.add_argument(
        "--image-size",
        type=_count,
        default=STORED_SIZE,
        metavar="N",
        help="pixels of a stored image's side, as the system's nets want it (default: %(default)s)",
    )
    parser.add_argument(
        "--labels-as",
        choices=(SIGNED, ZERO_ONE),
        default=SIGNED,
        help="0-1: for other tools, 0 where this would store -1 (no) or 0 (unspecified); ours read both",
    )
    parser.add_argument("--drop-unlabelled", action="store_true", help="leave out images without a positive label")
    parser.add_argument("--lists", type=Path, help="folder of the authors' *_imglist.txt and *_label.txt to read")
    add_own_flags(parser)
    parser.add_argument(
        "--cut", type=Path, metavar="PAIR", help="build nothing: divide the training images of this pair, by --seed"
    )
    parser.add_argument(
        "--validation-fraction", type=float, metavar="F", help="with --cut: so much becomes the test split of --out"
    )
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="PAIR", help="build nothing: make one of these pairs, built apart"
    )
    parser.add_argument("--train", type=_count, default=counts["train"], help="shapes only: training images")
    parser.add_argument("--test", type=_count, default=counts["test"], help="shapes only: test images")
    parser.add_argument("--workers", type=_count, help="processes or threads (default: one a CPU)")
    parser.add_argument(
        "--force", action="store_true", help="replace what is in the folder, when its successor is complete"
    )
    parser.add_argument("--verify", action="store_true", help="build nothing: re-read the pairs in the folder")
    return run_main(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    from pysrn.data.build import build_dataset
    from pysrn.data.merge import merge_pairs
    from pysrn.data.verify import verify_dataset

    out = arguments.out or f"data/{arguments.dataset}"
    root = arguments.root or (arguments.coco_json and arguments.coco_json[0].parent)
    if arguments.merge:
        if arguments.cut or arguments.verify or root:
            raise UsageError("--merge reads pairs that are there", "leave --root, --cut and --verify out")
        counts = merge_pairs(arguments.dataset, arguments.merge, Path(out))
    elif arguments.cut or arguments.validation_fraction is not None:
        counts = _cut(arguments, out)
    elif arguments.verify:
        counts = verify_dataset(arguments.dataset, out, arguments.workers)
    else:
        counts = build_dataset(
            arguments.dataset,
            out,
            root,
            seed=arguments.seed,
            encoding=Encoding(
                arguments.encoding,
                arguments.quality,
                arguments.interpolation,
                arguments.image_size,
                arguments.labels_as,
            ),
            counts={"train": arguments.train, "test": arguments.test},
            workers=arguments.workers,
            force=arguments.force,
            options=ReaderOptions.of(arguments, drop_unlabelled=arguments.drop_unlabelled, lists=arguments.lists),
        )
    for split, count in counts.items():
        print(f"{out} {split}: {count} images")


def _cut(arguments: argparse.Namespace, out: str) -> dict[str, int]:
    """Divide the training images of a pair: recipes can be chosen on the second part, and no test image is seen."""
    from pysrn.data.cut import cut_pair
    from pysrn.data.pair.manifest import read_manifest

    if not arguments.cut or arguments.validation_fraction is None:
        raise UsageError("--cut PAIR and --validation-fraction F go together", "give both")
    held = (read_manifest(existing_folder(arguments.cut, "LMDB folder")) or {}).get("dataset")
    if held != arguments.dataset:
        raise UsageError(f"{arguments.cut} holds {held or 'no pair'}, not {arguments.dataset}")
    return cut_pair(arguments.cut, Path(out), arguments.validation_fraction, arguments.seed)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number, at least 1 is needed")
    return int(text)


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("a whole number, 1 to 100")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
