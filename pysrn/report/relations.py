"""The report's labels that occur together: a matrix of shares, and whether the nets know the strongest relations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pysrn.evaluate.metrics import THRESHOLD
from pysrn.pictures import relations
from pysrn.predict.probability import sigmoid
from pysrn.report.data import Gathered
from pysrn.report.markup import Html, data_address, element, note, paragraph, table
from pysrn.report.pictures import matrix
from pysrn.report.results import percent

NUMBERS_IN_CELLS = 24  # labels up to which the cells of the matrix are large enough for numbers
RELATIONS = 12  # pairs in the table
NAME_LENGTH = 24  # characters of a label beside the matrix


def co_occurrence(found: Gathered) -> list[Html]:
    """Conditional shares of labels as a matrix, and the strongest relations: do the nets know them?"""
    if found.last_predictions is not None and found.last_predictions.labels is not None:
        names, labels = found.last_predictions.classes, found.last_predictions.labels
    elif found.pair is not None:
        names, labels = found.pair.classes, found.pair.all_labels()
    else:
        return [note("Neither predictions with labels nor the LMDB pair is there.")]
    yes = labels == 1
    values = relations.conditional(yes)
    text = f"Of the images ({len(labels)}, split {found.split}) with the label on the left, "
    text += "the share in percent that also has the label above: "
    text += "white is none of them, the darkest blue all."
    return [paragraph(text), element("div", _matrix(names, values), class_="scroll"), *_relations(found, names, yes)]


def _matrix(names: Sequence[str], values: np.ndarray) -> Html:
    """The matrix as SVG: one picture with a pixel a cell, names as text around it."""
    count = len(names)
    cell, font = (30, 12) if count <= NUMBERS_IN_CELLS else (12, 10)
    ends = "\N{HORIZONTAL ELLIPSIS}"
    shown = [name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}{ends}" for name in names]
    margin = round(12 + 0.62 * font * max(map(len, shown)))
    side = margin + count * cell + 2
    parts = [
        element(
            "image", href=data_address(matrix(values), "png"), x=margin, y=margin, width=count * cell,
            height=count * cell, preserveAspectRatio="none", style="image-rendering:pixelated",
        )
    ]  # fmt: skip
    for i, name in enumerate(shown):
        middle = margin + cell * (i + 0.5)
        parts.append(element("text", name, x=margin - 5, y=round(middle + 0.35 * font, 1), text_anchor="end"))
        turn = f"translate({middle + 0.35 * font:.1f},{margin - 5}) rotate(-90)"
        parts.append(element("text", name, transform=turn))
    if count <= NUMBERS_IN_CELLS:
        for (row, column), value in np.ndenumerate(values):
            if row != column and not math.isnan(value):
                x, y = (margin + cell * (place + 0.5) for place in (column, row))
                parts.append(
                    element(
                        "text", f"{100 * value:.0f}", x=x, y=y + 4, text_anchor="middle", font_size=10,
                        fill="white" if value > 0.55 else "#333",
                    )
                )  # fmt: skip
    return element(
        "svg", *parts, width=side, height=side, viewBox=f"0 0 {side} {side}", font_size=font, role="img",
        aria_label="matrix of conditional shares", class_="matrix",
    )  # fmt: skip


def _relations(found: Gathered, names: Sequence[str], yes: np.ndarray) -> list[Html]:
    """A table of the strongest pairs: shares by the labels and by what the nets decide."""
    pairs = relations.strongest(yes, RELATIONS)
    if not pairs:
        return []
    shown = [each for each in (found.main, found.final) if each is not None]
    decided = [relations.conditional(sigmoid(each.logits) > THRESHOLD) for each in shown]
    header = ["given", "also", "images of both", "share of all", "share given"]
    header += [f"decided: {each.name}" for each in shown]
    body = [
        [names[pair.given], names[pair.also], pair.images, percent(pair.share), percent(pair.conditional),
         *(percent(share[pair.given, pair.also]) for share in decided)]
        for pair in pairs
    ]  # fmt: skip
    text = "The pairs whose share rises the most once the first label is given, in percent. "
    text += "A net that knows the relation decides for the second label about as often, "
    text += "among the images for which it decides for the first."
    return [element("h3", "Strongest relations"), paragraph(text), table(header, body, text=2)]
