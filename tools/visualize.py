#!/usr/bin/env python3
"""Draw pictures of a run: the losses of its stages, or attention maps over images.

With no more than `curves` or `attention`: of runs/shapes, the embedded data set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pysrn.console import MissingError, UsageError, run_main
from pysrn.recipes import STAGE_NAMES

MAPS = ("att_map", "sr_map", "conf_map")


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    curves = kinds.add_parser("curves", help="loss and learning rate of every stage")
    curves.add_argument("run", nargs="?", type=Path, default=Path("runs/shapes"), help="default: %(default)s")
    curves.add_argument("-o", "--out", type=Path, help="PNG (default: RUN/loss_curves.png)")
    maps = kinds.add_parser("attention", help="maps over images, with the labels' boxes where they are known")
    maps.add_argument("weights", nargs="?", default="runs/shapes", help="a run's folder, or a caffemodel")
    maps.add_argument("--stage", type=int, choices=list(STAGE_NAMES), help="of the run (default: 4)")
    maps.add_argument("--data", help="folder of the LMDB pair (default: the one that the run was trained on)")
    maps.add_argument("--split", default="test", help="default: %(default)s")
    maps.add_argument("--images", nargs="+", metavar="KEY", help="keys or numbers of samples (default: the first)")
    maps.add_argument("--count", type=int, default=6, help="how many images without --images (default: %(default)s)")
    maps.add_argument("--labels", nargs="+", metavar="LABEL", help="class names (default: each image's own labels)")
    maps.add_argument("--maps", nargs="+", choices=MAPS, default=["att_map", "sr_map"], help="default: A and U")
    maps.add_argument("--annotations", type=Path, help="COCO JSON with boxes (default: DATA/annotations/SPLIT.json)")
    maps.add_argument("--image-folder", type=Path, help="of the annotations (default: DATA/images/SPLIT)")
    maps.add_argument("--pointing", action="store_true", help="also score the maps of the whole split by the boxes")
    maps.add_argument("--gpu", type=int, help="CUDA device (default: CPU)")
    maps.add_argument("-o", "--out", type=Path, help="PNG (default: attention_<split>.png beside the weights)")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Draw one picture."""
    if arguments.kind == "attention":
        draw_attention(arguments)
        return
    from pysrn.evaluate.curves import draw_loss_curves

    out = arguments.out or arguments.run / "loss_curves.png"
    stages = draw_loss_curves(arguments.run, out)
    print(f"{out}: stages {', '.join(map(str, stages))}")


def draw_attention(arguments: argparse.Namespace) -> None:
    """The grid of maps, and the pointing accuracy when asked for."""
    from pysrn.data.lmdb_pair import PairReader
    from pysrn.evaluate import attention, pictures
    from pysrn.evaluate.deploy import DeployNet
    from pysrn.evaluate.pointing import pointing, read_boxes
    from pysrn.evaluate.predict import data_folder
    from pysrn.evaluate.trained import find_weights

    weights = find_weights(arguments.weights, arguments.stage)
    pair = PairReader(data_folder(weights, arguments.data), arguments.split)
    indices = [find_key(pair, key) for key in arguments.images] if arguments.images else range(len(pair))
    if arguments.count < 1:
        raise UsageError("--count must be at least 1")
    chosen = list(indices)[: None if arguments.images else arguments.count]
    labels = [find_label(pair, name) for name in arguments.labels] if arguments.labels else None
    annotations = arguments.annotations or pair.folder / "annotations" / f"{pair.split}.json"
    images = arguments.image_folder or pair.folder / "images" / pair.split
    known = annotations.is_file() or arguments.annotations is not None
    if arguments.pointing and not known:
        raise MissingError(f"--pointing needs boxes: no file {annotations}", "--annotations FILE --image-folder FOLDER")
    net = DeployNet(weights, gpu=arguments.gpu)
    boxes = read_boxes(annotations, images, pair, chosen) if known else [{}] * len(chosen)
    rows = attention.attention_rows(net, pair, chosen, arguments.maps, labels, boxes)
    out = arguments.out or weights.parent / f"attention_{pair.split}.png"
    pictures.save_figure(attention.grid(rows), out)
    print(f"{out}: {len(chosen)} images")
    if arguments.pointing:
        everything = range(len(pair))
        outputs = attention.compute_maps(net, pair, everything, arguments.maps)
        places = read_boxes(annotations, images, pair, everything)
        if not any(places):
            raise MissingError(f"{annotations} has no boxes: nothing to point at")
        for name in arguments.maps:
            found = pointing(outputs[name], places)
            figures = f"{100 * found.accuracy:.1f} %, chance {100 * found.mean_chance:.1f} %"
            print(f"pointing accuracy of {name}: {figures}")


def find_key(pair, key: str) -> int:
    """Position of a sample by its key, or by its number."""
    if key in pair.keys:
        return pair.keys.index(key)
    if key.isascii() and key.isdigit() and int(key) < len(pair):
        return int(key)
    raise UsageError(f"no sample {key} in {pair.folder}, {pair.split} ({len(pair)} samples, the first {pair.keys[0]})")


def find_label(pair, name: str) -> int:
    """Number of a label by its name."""
    if name in pair.classes:
        return pair.classes.index(name)
    raise UsageError(f"no label {name} in {pair.folder}; there are: {', '.join(pair.classes)}")


if __name__ == "__main__":
    sys.exit(main())
