#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Run a trained net over a split of a data set and keep its logits, or over photos and print their labels.

    tools/predict.py                        the run finished last in runs/, on its data set's test split
    tools/predict.py RUN                    a run's folder or a caffemodel, on its data set
    tools/predict.py photo.jpg FOLDER       photos, with the run finished last in runs/
    tools/predict.py shard.tar list.txt     photos in a tar archive, photos that a file lists
    tools/predict.py RUN photo.jpg          photos, with this run
    tools/predict.py RUN --part 3/8         the third of eight parts of it, on this machine; with --join all of them
    tools/predict.py RUN --from-text FILE   no net: logits of the official text form, for tools/evaluate.py

A word means photos when it ends as image files do, as .tar or .txt, or is a folder of images; --images and --run say it
outright.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import UsageError, check_output_file, message, run_main
from pysrn.precision import add_precision, multiply_in
from pysrn.recipes import DATASETS

MOST_ROWS = 24  # photos in a picture of the attention


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="RUN or PHOTO", help="see above")
    parser.add_argument("--run", help="a run's folder, or a caffemodel")
    parser.add_argument("--images", nargs="+", default=[], metavar="PHOTO", help="image files, folders, .tar, lists")
    parser.add_argument("--stage", type=int, help="of the run (default: the last)")
    parser.add_argument(
        "--score", nargs="+", metavar="SCORE", default=[], help="which to compute (default: all; of photos the last)"
    )
    parser.add_argument("--gpu", type=int, help="CUDA device (default: CPU)")
    add_precision(parser)
    parser.add_argument("--batch-size", type=int, help="images at once (default: 16)")
    parser.add_argument(
        "--search", nargs="+", type=setting, default=[], metavar="NAME=N", help="settings of a system that searches"
    )
    parser.add_argument("-o", "--out", type=Path, help="default: predictions_<split>.npz beside the weights")
    parser.add_argument("--text", type=Path, metavar="FILE", help="also write the last score in the official text form")
    parser.add_argument("--part", type=part, metavar="I/N", help="of N parts the I-th: its file says so in its name")
    split = parser.add_argument_group("a split of a data set")
    split.add_argument("--data", help="folder of the LMDB pair (default: the one that the run was trained on)")
    split.add_argument("--split", help="default: test")
    split.add_argument("--workers", type=int, default=1, help="processes, each with a net of its own (default: 1)")
    split.add_argument(
        "--cache-features",
        choices=("fp32", "fp16"),
        help="keep the trunk's features on the disk: stages that leave it alone share them",
    )
    split.add_argument("--cache-folder", type=Path, metavar="FOLDER", help="where (default: in the run)")
    split.add_argument("--join", action="store_true", help="join the parts that are there into one file")
    split.add_argument("--from-text", type=Path, metavar="FILE", help="take the logits from this file")
    split.add_argument("--image-list", type=Path, help="names of its rows, one a line (default: in the pair's order)")
    split.add_argument(
        "--dataset",
        choices=list(DATASETS),
        help="with --from-text and --image-list: no LMDB pair, the labels of this data set",
    )
    split.add_argument("--label-file", type=Path, help="rows of 1, 0, -1 (default: *_label.txt beside *_imglist.txt)")
    photos = parser.add_argument_group("photos")
    photos.add_argument("--top", type=int, default=5, help="labels to print (default: %(default)s)")
    photos.add_argument("--attention", action="store_true", help="draw what the highest labels look at")
    photos.add_argument("--picture", type=Path, metavar="PNG", help="its file (default: attention.png)")
    return run_main(work, parser.parse_args(argv))


def setting(text: str) -> tuple[str, int]:
    """NAME=N."""
    name, _, value = text.partition("=")
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"NAME=N, not {text!r}")
    return name, int(value)


def part(text: str):
    """I/N."""
    from pysrn.predict.parts import Part

    try:
        return Part.of_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"I/N, as 3/8, not {text!r}") from None


def work(arguments: argparse.Namespace) -> None:
    """Predict, write and print."""
    from pysrn.predict import splits as predict
    from pysrn.predict.photo_files import is_photo_argument

    arguments.batch_size = predict.BATCH_SIZE if arguments.batch_size is None else arguments.batch_size
    if not 1 <= arguments.batch_size <= predict.LARGEST_BATCH:
        raise UsageError(f"--batch-size must be at least 1 and at most {predict.LARGEST_BATCH}")
    if arguments.workers < 1 or (arguments.workers > 1 and arguments.gpu is not None):
        raise UsageError("--workers must be at least 1, and 1 with --gpu")
    if arguments.cache_folder and not arguments.cache_features:
        raise UsageError("--cache-folder is for --cache-features", "give --cache-features fp32, or fp16")
    if arguments.top < 1:
        raise UsageError("--top must be at least 1")
    for option in ("out", "text", "picture"):
        check_output_file(getattr(arguments, option), option)
    photos = [word for word in arguments.words if is_photo_argument(word)] + arguments.images
    runs = [word for word in arguments.words if not is_photo_argument(word)]
    if arguments.run is not None:
        runs.append(arguments.run)
    if len(runs) > 1:
        raise UsageError(
            f"more than one run: {', '.join(runs)}", "photos without an image's ending: --images PHOTO ..."
        )
    run = runs[0] if runs else None
    if run in arguments.words and Path(run).is_file() and Path(run).suffix != ".caffemodel":
        raise UsageError(
            f"{run} is neither named as an image file nor as a caffemodel", "say what it is: --images or --run"
        )
    of_split = (arguments.split, arguments.cache_features, arguments.from_text, arguments.image_list)
    if photos and (any(of_split) or arguments.workers > 1):
        raise UsageError("--split, --workers, --cache-features, --from-text and --image-list are not for photos")
    if arguments.join and (arguments.part or photos or arguments.from_text):
        raise UsageError("--join joins the parts of a split that are there", "leave the other words out")
    if arguments.part and (arguments.from_text or (photos and not arguments.out)):
        raise UsageError("--part makes a part of a file of what a net predicts", "of photos: --out FILE, the whole's")
    if arguments.image_list and not arguments.from_text:
        raise UsageError("--image-list says what the rows of --from-text are")
    if arguments.dataset and (not arguments.image_list or arguments.data or run):
        raise UsageError("--dataset is for --from-text with --image-list, without an LMDB pair or a run")
    if arguments.label_file and not arguments.dataset:
        raise UsageError("--label-file is for --dataset: an LMDB pair has its labels")
    if not photos and (arguments.attention or arguments.picture):
        raise UsageError("--attention is for photos", "tools/visualize.py attention RUN")
    if not (arguments.join or arguments.from_text):
        multiply_in(arguments.precision, gpu=arguments.gpu is not None)
    if photos:
        predict_photos(arguments, run, photos)
    elif arguments.join:
        join_parts(arguments, run)
    elif arguments.from_text:
        import_text(arguments, run)
    else:
        predict_split(arguments, run)


def predict_split(arguments: argparse.Namespace, run: str | None) -> None:
    """Scores of an LMDB pair's split, to a file."""
    from pysrn.data.pair.lmdb_pair import PairReader
    from pysrn.predict import splits as predict
    from pysrn.predict.trained import default_run, features_of, find_weights

    weights = find_weights(run or default_run(), arguments.stage)
    split, one, chunk = arguments.split or "test", arguments.part, arguments.batch_size * predict.CHUNK_BATCHES
    folder, out = predict.data_folder(weights, arguments.data), arguments.out or beside(weights, split)
    pair = PairReader(folder, split, one and (lambda images: one.span(images, chunk)), sparse=True)
    out = one.path(out) if one else out
    found = predict.predict_to(
        weights,
        pair,
        out,
        batch_size=arguments.batch_size,
        scores=arguments.score,
        workers=arguments.workers,
        gpu=arguments.gpu,
        search=dict(arguments.search),
        cache=arguments.cache_features and (arguments.cache_features, arguments.cache_folder or features_of(weights)),
    )
    print(summary(out, found))
    write_text(arguments.text, found)


def join_parts(arguments: argparse.Namespace, run: str | None) -> None:
    """One file of the parts that are there."""
    from pysrn.predict.parts import join
    from pysrn.predict.trained import default_run, find_weights

    split = arguments.split or "test"
    out = arguments.out or beside(find_weights(run or default_run(), arguments.stage), split)
    found = join(out)
    print(summary(out, found))
    write_text(arguments.text, found)


def beside(weights: Path, split: str) -> Path:
    """Where the predictions of a split are, unless said."""
    return weights.parent / f"predictions_{split}.npz"


def import_text(arguments: argparse.Namespace, run: str | None) -> None:
    """Logits of a text file, to a predictions file."""
    from pysrn.data.pair.lmdb_pair import PairReader
    from pysrn.predict import official_text
    from pysrn.predict.columns import Outline
    from pysrn.predict.splits import data_folder
    from pysrn.predict.trained import default_run, system_of

    if len(arguments.score) > 1:
        raise UsageError("a text file holds one score: give --score once")
    score = arguments.score[0] if arguments.score else system_of(run or default_run()).result
    text = arguments.from_text
    if arguments.dataset:
        found = official_text.import_listed(text, score, arguments.image_list, arguments.dataset, arguments.label_file)
    else:
        pair = PairReader(data_folder(run or default_run(), arguments.data), arguments.split or "test")
        found = official_text.import_text(text, score, pair, arguments.image_list)
    out = arguments.out or arguments.from_text.with_suffix(".npz")
    found.save(out)
    print(summary(out, outline := Outline.of(found)))
    write_text(arguments.text, outline)


def predict_photos(arguments: argparse.Namespace, run: str | None, words: list[str]) -> None:
    """Ranked labels of photos on stdout; files where they are asked for."""
    from pysrn.data.readers.label_text import printable
    from pysrn.predict import photos
    from pysrn.predict.columns import Outline
    from pysrn.predict.deploy import DeployNet
    from pysrn.predict.photo_files import find_photos
    from pysrn.predict.splits import chosen_scores
    from pysrn.predict.trained import default_run, find_weights

    paths = find_photos(words)
    if run is None:
        run = default_run()
        message(f"with the net of {run}")
    weights = find_weights(run, arguments.stage)
    size = min(arguments.batch_size, len(paths))
    net = DeployNet(weights, size, arguments.gpu, folded=True, search=dict(arguments.search))
    classes = photos.label_names(net, weights, arguments.data)
    scores = chosen_scores(net, arguments.score)
    span = arguments.part and arguments.part.span(len(paths), 1)
    found, readable = photos.predict_photos(net, paths, classes, scores, arguments.batch_size, span)
    for row, path in enumerate(readable):
        print(printable(str(path), 5000))
        if found.about.get("found"):
            print(f"  {printable(found.about['found'].splitlines()[row], None)}")
        probable = found.scores.get(net.system.probable) if scores[-1] == net.system.result else None
        of_row = None if probable is None else probable[row]
        for name, probability in photos.ranked(found.scores[scores[-1]][row], classes, arguments.top, of_row):
            print(f"  {probability:6.1%}  {printable(name, None)}")
    outline = Outline.of(found)
    if arguments.out is not None:
        out = arguments.part.path(arguments.out) if arguments.part else arguments.out
        found.save(out)
        print(summary(out, outline))
    write_text(arguments.text, outline)
    if arguments.attention or arguments.picture:
        draw_attention(arguments, net, readable, classes, scores[-1])


def draw_attention(arguments: argparse.Namespace, net, paths: list[Path], classes: tuple[str, ...], score: str) -> None:
    """The photos with the maps of their highest labels."""
    from pysrn.pictures import attention
    from pysrn.pictures import figures as pictures

    shown = paths[:MOST_ROWS]
    out = arguments.picture or Path("attention.png")
    if not net.system.maps:
        raise UsageError(f"{net.system.title} has no attention to draw", "leave --attention out")
    maps = [net.system.maps[0].name]
    rows = attention.photo_rows(net, shown, classes, score, maps, min(arguments.top, len(classes)))
    pictures.save_figure(attention.grid(rows), out)
    rest = f" (the first of {len(paths)})" if len(shown) < len(paths) else ""
    print(f"{out}: {len(rows)} photos{rest}")


def write_text(path: Path | None, found) -> None:
    """The last score in the official text form, when a file is asked for."""
    from pysrn.predict import official_text

    if path is not None:
        official_text.write_text(path, found.last.blocks())
        print(f"{path}: {found.scores[-1]}, {found.images} rows of {len(found.classes)}")


def summary(out: Path, found) -> str:
    """What a predictions file holds."""
    return f"{out}: {found.images} images, {len(found.classes)} labels, {', '.join(found.scores)}"


if __name__ == "__main__":
    sys.exit(main())
