"""The report's images: attention over some of the split's, and those that changed most, for better and worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pysrn.console import SrnError
from pysrn.evaluate.metrics import THRESHOLD
from pysrn.nets.map_places import Places
from pysrn.pictures.attention import compute_maps
from pysrn.pictures.pointing import Box, read_boxes
from pysrn.predict.deploy import DeployNet
from pysrn.predict.probability import sigmoid
from pysrn.report.data import Gap, Gathered
from pysrn.report.markup import Html, code, element, join, note, paragraph, picture
from pysrn.report.pictures import SIDE, jpeg

ATTENTION_IMAGES = 6
LEAST_LABELS = 2  # of an image whose attention is shown
MOST_LABELS = 6  # of an image, with its maps
CHANGED_IMAGES = 6  # in each direction
CHANGED_LABELS = 8  # of an image, those whose probability changed most
VISIBLE = 0.005  # changes of a probability from here on are coloured


@dataclass(frozen=True)
class BoxSource:
    """A COCO annotation file and its image folder; None: where `shapes` and our COCO layout keep them."""

    annotations: Path | None = None
    images: Path | None = None


def attention(found: Gathered, source: BoxSource, gpu: int | None) -> list[Html]:
    """For some images: the image with its boxes, and the attention map of each of its labels."""
    shown = found.system.maps[0] if found.system.maps else None  # for each label
    if shown is None:
        return [note(f"{found.system.title} has no attention maps.")]
    stages = [number for number in found.finished if number >= shown.stage]
    if found.pair is None or not stages:
        lack = "the images are not there" if stages else "no stage with attention maps is finished"
        return [note(f"No attention maps: {lack} (see above).")]
    pair, stage = found.pair, max(stages)
    chosen = choose_images(found)
    if not chosen:
        return [note("No attention maps: no image of the split has a label.")]
    net = DeployNet(found.run.weights(stage), gpu=gpu)
    maps, cells = compute_maps(net, pair, chosen, (shown.name,))[shown.name], net.places(shown.name)
    boxes, about_boxes = _boxes(found, source, chosen)
    final, probabilities = found.final, {}  # sample key -> probabilities of the final score
    if final is not None:
        probabilities = dict(zip(found.last_predictions.keys, sigmoid(final.logits), strict=True))
    blocks = []
    for index, image_maps, places in zip(chosen, maps, boxes, strict=True):
        image = pair.image(index)
        everything = [box for label_boxes in places.values() for box in label_boxes]
        panels = [_cell(image, code(pair.keys[index]), f"image {pair.keys[index]}", everything)]
        for label in np.flatnonzero(pair.labels(index) == 1)[:MOST_LABELS]:
            name, known = pair.classes[label], probabilities.get(pair.keys[index])
            caption = join([name] if known is None else [name, " ", _probability(known[label])])
            drawn = (image_maps[label], cells)
            panels.append(_cell(image, caption, f"attention of {name}", places.get(int(label), ()), drawn))
        blocks.append(element("div", *panels, class_="maps"))
    text = f"Maps of {shown.title} of stage {stage} over images of the split {found.split}: for each label "
    text += "of the image, where the net looks for it, red where most, and the probability it gives in the end. "
    return [paragraph(text, about_boxes), *blocks]


def choose_images(found: Gathered) -> list[int]:
    """The first samples with several labels (else with any); the order of the keys is a random one already."""
    counts = [0] * len(found.pair)
    labels = found.last_predictions.labels if found.last_predictions is not None else None
    if labels is not None:
        for key, row in zip(found.last_predictions.keys, labels, strict=True):
            counts[found.positions[key]] = int((row == 1).sum())
    else:
        counts = (found.pair.all_labels() == 1).sum(axis=1).tolist()
    for least in (LEAST_LABELS, 1):
        chosen = [index for index, count in enumerate(counts) if count >= least][:ATTENTION_IMAGES]
        if chosen:
            return chosen
    return []


def _boxes(found: Gathered, source: BoxSource, chosen: Sequence[int]) -> tuple[list[Mapping[int, Sequence[Box]]], str]:
    """Boxes of the chosen samples, and a sentence about them."""
    annotations = source.annotations or found.pair.folder / "annotations" / f"{found.split}.json"
    images = source.images or found.pair.folder / "images" / found.split
    if source.annotations is None and not annotations.is_file():
        unknown = "Boxes are not known; --annotations FILE --image-folder FOLDER gives them (COCO format)."
        return [{}] * len(chosen), unknown
    try:
        known = "Frames: the boxes of its objects, which it never saw."
        return read_boxes(annotations, images, found.pair, chosen), known
    except SrnError as error:
        if source.annotations is not None:
            raise
        found.gaps.append(Gap(f"boxes: {error}", error.cure or "--annotations FILE --image-folder FOLDER"))
        return [{}] * len(chosen), "Boxes are not there (see above)."


def changes(found: Gathered) -> list[Html]:
    """The images whose loss the system lowers most, and those whose loss it raises most, against the baseline."""
    final, main = found.final, found.main
    if final is None or main is None:
        return [note(f"Both the final scores and those of the {found.system.baseline.title} are needed (see above).")]
    labels = found.last_predictions.labels
    zero_is_unspecified = final.evaluation.zero_is_unspecified
    before, after = (image_losses(each.logits, labels, zero_is_unspecified) for each in (main, final))
    order = np.argsort(after - before, kind="stable")
    better = [i for i in order if after[i] < before[i]][:CHANGED_IMAGES]
    worse = [i for i in order[::-1] if after[i] > before[i]][:CHANGED_IMAGES]
    fallen, means = int((after < before).sum()), f"from {before.mean():.3f} to {after.mean():.3f}"
    text = f"Loss of an image: the cross-entropy summed over its labels, of {main.name} and of {final.name}. "
    text += f"It falls for {fallen} of {len(labels)} images, {means} in the mean. Below: the labels whose probability "
    text += "changed most, among those that the image has or that either of the two decides for: "
    text += "\N{CHECK MARK} the image has it, \N{MULTIPLICATION SIGN} it has not."
    return [
        paragraph(text),
        element("h3", "Most improved"),
        *_changed(found, better, before, after),
        element("h3", "Most harmed"),
        *_changed(found, worse, before, after),
    ]


def image_losses(logits: np.ndarray, labels: np.ndarray, zero_is_unspecified: bool) -> np.ndarray:
    """Sigmoid cross-entropy of each of N images, summed over the labels that are specified: [N]."""
    logits = logits.astype(np.float64)
    losses = np.logaddexp(0, logits) - (labels == 1) * logits
    if zero_is_unspecified:
        losses = losses * (labels != 0)
    return losses.sum(axis=1)


def _changed(found: Gathered, chosen: Sequence[int], before: np.ndarray, after: np.ndarray) -> list[Html]:
    if not chosen:
        return [paragraph("None.")]
    keys, names, labels = found.last_predictions.keys, found.last_predictions.classes, found.last_predictions.labels
    blocks = []
    for i in chosen:
        first, last = (sigmoid(each.logits[i]) for each in (found.main, found.final))
        has = labels[i] == 1
        shown = np.flatnonzero(has | (first > THRESHOLD) | (last > THRESHOLD))
        shown = sorted(shown, key=lambda label: -abs(last[label] - first[label]))[:CHANGED_LABELS]
        lines = [_label(names[label], has[label], first[label], last[label]) for label in shown]
        change = paragraph(f"loss {before[i]:.2f} \N{RIGHTWARDS ARROW} {after[i]:.2f}")
        text = element("div", code(keys[i]), change, element("ul", *lines))
        image = None
        if found.pair is not None:
            pixels = jpeg(found.pair.image(found.positions[keys[i]]))
            image = picture(pixels, "jpeg", f"image {keys[i]}", (SIDE, SIDE))
        blocks.append(element("div", image, text, class_="changed"))
    return [element("div", *blocks, class_="grid")]


def _label(name: str, has: bool, first: float, last: float) -> Html:
    """One label of an image: whether the image has it, its name, its probability before and after."""
    better = (last - first) * (1 if has else -1)
    return element(
        "li",
        element("span", "\N{CHECK MARK}" if has else "\N{MULTIPLICATION SIGN}"),
        element("span", name, class_="label"),
        element("span", f"{first:.2f} \N{RIGHTWARDS ARROW} "),
        element("span", f"{last:.2f}", class_="" if abs(better) < VISIBLE else "up" if better > 0 else "down"),
    )


def _probability(value: float) -> Html:
    return element("span", f"{value:.2f}", class_="up" if value > THRESHOLD else "down")


def _cell(
    image: np.ndarray,
    caption: Html,
    description: str,
    boxes: Sequence[Box],
    drawn: tuple[np.ndarray, Places] | None = None,
) -> Html:
    shown = picture(jpeg(image, boxes, drawn), "jpeg", description, (SIDE, SIDE))
    return element("figure", shown, element("figcaption", caption))
