#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Draw pictures of a run: the losses of its stages, attention maps over images, what conv4's neurons respond to,
how the labels lie to each other, or what each step of a search looks at.

With no more than `curves`, `attention`, `neurons`, `labels` or `steps`: of the run finished last in runs/.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import MissingError, UsageError, check_output_file, run_main
from pysrn.data.readers.options import ReaderOptions, add_own_flags

MOST_NEURONS = 16  # rows of a picture when none are chosen


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    curves = kinds.add_parser("curves", help="loss and learning rate of every stage")
    curves.add_argument("run", nargs="?", type=Path, help="default: the one finished last in runs/")
    curves.add_argument("-o", "--out", type=Path, help="PNG (default: RUN/loss_curves.png)")
    maps = kinds.add_parser("attention", help="maps over images, with the labels' boxes where they are known")
    neurons = kinds.add_parser("neurons", help="conv4 of the regulariser: kernels on the labels that feed them most")
    labels = kinds.add_parser(
        "labels", help="the graph of the labels, or the map of their embedding, as the system has it"
    )
    steps = kinds.add_parser("steps", help="what each step of a path looks at, where the system searches paths")
    steps.add_argument("-o", "--out", type=Path, help="PNG (default: steps_<split>.png beside the weights)")
    labels.add_argument("-o", "--out", type=Path, help="PNG (default: labels.png beside the weights)")
    for kind in (maps, neurons, labels, steps):
        kind.add_argument("weights", nargs="?", help="a run's folder, or a caffemodel (default: as above)")
        kind.add_argument("--stage", type=int, help="of the run (default: the last)")
        kind.add_argument("--data", help="folder of the LMDB pair (default: the one that the run was trained on)")
        kind.add_argument("--gpu", type=int, help="CUDA device (default: CPU)")
    for kind in (maps, steps):
        kind.add_argument("--split", default="test", help="default: %(default)s")
        kind.add_argument("--images", nargs="+", metavar="KEY", help="keys or numbers of samples (default: the first)")
        kind.add_argument(
            "--count", type=int, default=6, help="how many images without --images (default: %(default)s)"
        )
    maps.add_argument("--labels", nargs="+", metavar="LABEL", help="class names (default: each image's own labels)")
    maps.add_argument("--maps", nargs="+", metavar="MAP", help="names (default: all that are marked as shown)")
    maps.add_argument(
        "--annotations",
        type=Path,
        help="COCO JSON with boxes, or the folder of your own data (default: DATA/annotations/SPLIT.json)",
    )
    maps.add_argument("--image-folder", type=Path, help="of the annotations (default: DATA/images/SPLIT)")
    maps.add_argument(
        "--pointing",
        action="store_true",
        help="also score the maps of the whole split by the boxes, beside the main net's class-activation maps",
    )
    add_own_flags(maps)
    maps.add_argument("-o", "--out", type=Path, help="PNG (default: attention_<split>.png beside the weights)")
    chosen = neurons.add_mutually_exclusive_group()
    chosen.add_argument("--neurons", nargs="+", type=int, metavar="N", help="numbers of neurons, from 0")
    chosen.add_argument("--label", help="the neurons that speak most for this label (default: one for each label)")
    neurons.add_argument("--count", type=int, default=6, help="neurons of --label (default: %(default)s)")
    neurons.add_argument("--inputs", type=int, default=4, help="labels a neuron (default: %(default)s)")
    neurons.add_argument("-o", "--out", type=Path, help="PNG (default: neurons.png beside the weights)")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Draw one picture."""
    check_output_file(arguments.out)
    draw = {
        "curves": draw_curves,
        "attention": draw_attention,
        "neurons": draw_neurons,
        "labels": draw_labels,
        "steps": draw_steps,
    }
    draw[arguments.kind](arguments)


def draw_curves(arguments: argparse.Namespace) -> None:
    """Loss and learning rate."""
    from pysrn.pictures.curves import draw_loss_curves
    from pysrn.predict.trained import default_run

    run = arguments.run or default_run()
    out = arguments.out or run / "loss_curves.png"
    stages = draw_loss_curves(run, out)
    print(f"{out}: stages {', '.join(map(str, stages))}")


def draw_attention(arguments: argparse.Namespace) -> None:
    """The grid of maps, and the pointing accuracy when asked for."""
    from pysrn.data.pair.lmdb_pair import PairReader
    from pysrn.pictures import attention
    from pysrn.pictures import figures as pictures
    from pysrn.pictures.pointing import read_boxes
    from pysrn.predict.deploy import DeployNet
    from pysrn.predict.splits import data_folder
    from pysrn.predict.trained import default_run, find_weights

    weights = find_weights(arguments.weights or default_run(), arguments.stage)
    pair = PairReader(data_folder(weights, arguments.data), arguments.split)
    chosen = chosen_samples(pair, arguments.images, arguments.count)
    labels = [find_label(pair, name) for name in arguments.labels] if arguments.labels else None
    net = DeployNet(weights, gpu=arguments.gpu, folded=True)
    names = chosen_maps(net.system, arguments.maps)
    columns = 1 + (attention.LABELS_SHOWN if labels is None else len(labels))
    pictures.check_panels(len(chosen) * len(names), columns, "choose fewer images, labels or maps")
    annotations = arguments.annotations or pair.folder / "annotations" / f"{pair.split}.json"
    images = arguments.image_folder or pair.folder / "images" / pair.split
    options = ReaderOptions.of(arguments)
    known = annotations.is_file() or arguments.annotations is not None
    if arguments.pointing and not known:
        raise MissingError(f"--pointing needs boxes: no file {annotations}", "--annotations FILE --image-folder FOLDER")
    boxes = read_boxes(annotations, images, pair, chosen, options) if known else [{}] * len(chosen)
    rows = attention.attention_rows(net, pair, chosen, names, labels, boxes)
    out = arguments.out or weights.parent / f"attention_{pair.split}.png"
    pictures.save_figure(attention.grid(rows), out)
    print(f"{out}: {len(chosen)} images")
    if arguments.pointing:
        places = read_boxes(annotations, images, pair, range(len(pair)), options)
        if not any(places):
            raise MissingError(f"{annotations} has no boxes: nothing to point at")
        score_pointing(arguments.gpu, net, pair, names, places)


def score_pointing(gpu: int | None, net, pair, names: list[str], boxes) -> None:
    """How often the maps' maxima lie in the labels' boxes, and those of the main net's class-activation maps."""
    from pysrn.pictures.attention import activation_maps_of, compute_maps
    from pysrn.pictures.pointing import pointing
    from pysrn.predict.deploy import DeployNet
    from pysrn.predict.trained import baseline_weights

    everything = range(len(pair))
    for name, maps in compute_maps(net, pair, everything, names).items():
        print(f"pointing accuracy of {name}: {pointing_figures(pointing(maps, boxes, net.places(name)), pair.classes)}")
    baseline = baseline_weights(net.path)
    if baseline != net.path:
        net = DeployNet(baseline, gpu=gpu, folded=True)
    found = pointing(activation_maps_of(net, pair, everything), boxes, net.places(net.features))
    print(f"pointing accuracy of {baseline}'s class-activation map: {pointing_figures(found, pair.classes)}")


def pointing_figures(found, classes: tuple[str, ...]) -> str:
    """Accuracy and chance in percent, of all labels and, where the data set has kinds of labels, of each kind."""
    from pysrn.pictures.pointing import label_groups

    groups = [(f"; {kind}", found.of_labels(labels)) for kind, labels in label_groups(classes).items()]
    return "".join(
        f"{kind} {100 * part.accuracy:.1f} %, chance {100 * part.mean_chance:.1f} %"
        for kind, part in [("", found), *groups]
    ).strip()


def draw_neurons(arguments: argparse.Namespace) -> None:
    """Kernels of chosen neurons of conv4, and a line about each."""
    from pysrn.pictures import figures as pictures
    from pysrn.predict import photos
    from pysrn.predict.deploy import DeployNet
    from pysrn.predict.trained import default_run, find_weights

    weights = find_weights(arguments.weights or default_run(), arguments.stage)
    if min(arguments.count, arguments.inputs) < 1:
        raise UsageError("--count and --inputs must be at least 1", "leave them out")
    net = DeployNet(weights, gpu=arguments.gpu, folded=True)
    neurons = net.system.module("neurons", "neurons to draw")
    classes = photos.label_names(net, weights, arguments.data)
    regulariser = neurons.regulariser_of(net)
    count = len(regulariser.kernels)
    if arguments.neurons:
        if odd := [number for number in arguments.neurons if not 0 <= number < count]:
            raise UsageError(f"no neuron {odd[0]}: conv4 has {count}, numbered from 0")
        chosen = arguments.neurons
    elif arguments.label:
        if arguments.label not in classes:
            raise UsageError(f"no label {arguments.label}; there are: {', '.join(classes)}")
        chosen = regulariser.strongest_for(classes.index(arguments.label), arguments.count)
    else:
        best = [regulariser.strongest_for(label, 1)[0] for label in range(len(classes))]
        chosen = list(dict.fromkeys(best))[:MOST_NEURONS]
    inputs = min(arguments.inputs, len(classes))
    pictures.check_panels(len(chosen), 1 + inputs, "choose fewer --neurons, or a smaller --count or --inputs")
    out = arguments.out or weights.parent / "neurons.png"
    pictures.save_figure(neurons.relation_picture(regulariser, chosen, classes, inputs), out)
    for number in chosen:
        print(neurons.describe(regulariser, number, classes, inputs))
    print(f"{out}: {len(chosen)} of {count} neurons")


def draw_labels(arguments: argparse.Namespace) -> None:
    """How the labels lie to each other, and what the system says of that."""
    from pysrn.pictures import figures as pictures
    from pysrn.predict import photos
    from pysrn.predict.deploy import DeployNet
    from pysrn.predict.trained import default_run, find_weights

    weights = find_weights(arguments.weights or default_run(), arguments.stage)
    net = DeployNet(weights, gpu=arguments.gpu)
    figure, lines = net.system.module("labels", "picture of its labels").picture(
        net, photos.label_names(net, weights, arguments.data)
    )
    out = arguments.out or weights.parent / "labels.png"
    pictures.save_figure(figure, out)
    print("\n".join([*lines, str(out)]))


def draw_steps(arguments: argparse.Namespace) -> None:
    """The maps of each image's path, step by step."""
    from pysrn.data.pair.lmdb_pair import PairReader
    from pysrn.pictures import attention
    from pysrn.pictures import figures as pictures
    from pysrn.predict.deploy import DeployNet
    from pysrn.predict.splits import data_folder
    from pysrn.predict.trained import default_run, find_weights

    weights = find_weights(arguments.weights or default_run(), arguments.stage)
    net = DeployNet(weights, gpu=arguments.gpu)
    steps = net.system.module("steps", "steps to draw")
    pair = PairReader(data_folder(weights, arguments.data), arguments.split)
    chosen = chosen_samples(pair, arguments.images, arguments.count)
    pictures.check_panels(len(chosen), 2, "choose fewer images")
    rows = steps.rows(net, pair, chosen)
    pictures.check_panels(len(rows), 1 + max(len(row.panels) for row in rows), "choose fewer images")
    out = arguments.out or weights.parent / f"steps_{pair.split}.png"
    pictures.save_figure(attention.grid(rows), out)
    print(f"{out}: {len(chosen)} images")


def chosen_samples(pair, keys: list[str] | None, count: int) -> list[int]:
    """Positions of the samples with these keys or numbers; without any those of the first `count`."""
    if count < 1:
        raise UsageError("--count must be at least 1", "leave it out")
    return [find_key(pair, key) for key in keys] if keys else list(range(len(pair)))[:count]


def chosen_maps(system, names: list[str] | None) -> list[str]:
    """The named maps; without any those that the system shows."""
    if odd := [name for name in names or () if name not in system.map_names]:
        raise UsageError(f"{system.title} has no map {odd[0]}", f"it has {', '.join(system.map_names)}")
    if not system.maps:
        raise UsageError(f"{system.title} has no maps to draw", "give a run of a system that has")
    return names or [one.name for one in system.maps if one.shown]


def find_key(pair, key: str) -> int:
    """Position of a sample by its key, or by its number."""
    if key in pair.keys:
        return pair.keys.index(key)
    if key.isascii() and key.isdigit() and int(key) < len(pair):
        return int(key)
    raise UsageError(
        f"no sample {key} in {pair.folder}, {pair.split} ({len(pair)} samples, the first {pair.keys[0]})",
        "give keys, or numbers from 0",
    )


def find_label(pair, name: str) -> int:
    """Number of a label by its name."""
    if name in pair.classes:
        return pair.classes.index(name)
    raise UsageError(f"no label {name} in {pair.folder}; there are: {', '.join(pair.classes)}")


if __name__ == "__main__":
    sys.exit(main())
