"""The report's figures: what it comes to, the metrics of every score, the average precision of every label."""

from __future__ import annotations

import math

import numpy as np

from pysrn.evaluate.table import ELEVEN_POINT, SHOWN, TITLES, is_voc2007
from pysrn.report.data import Gathered
from pysrn.report.markup import Html, code, element, folded, join, note, paragraph, table

MANY_LABELS = 24  # more of them stand in two columns where there is room
UP, DOWN = "up", "down"  # classes of the style sheet
VISIBLE = 0.0005  # differences from here on are not rounded to 0.0 points


def headline(found: Gathered) -> Html | None:
    """The figures that one looks for first."""
    final, main = found.final, found.main
    if final is None:
        return None
    block = final.evaluation.decisions["threshold"]
    low, high = (percent(end) for end in (found.interval.low, found.interval.high))
    spread = f"{100 * found.interval.level:g} %: {low} to {high}"
    cards = [("mAP", percent(final.evaluation.mean_ap), f"{final.name}; {spread}")]
    if main is not None:
        gain, ap = points(final.evaluation.mean_ap - main.evaluation.mean_ap), percent(main.evaluation.mean_ap)
        cards.append((f"gain over the {found.system.baseline.title}", gain, f"mAP of {main.name}: {ap}"))
    cards.append(("F1-C", percent(block["F1-C"]), "mean over the labels"))
    cards.append(("F1-O", percent(block["F1-O"]), "over all decisions"))
    kinds = ("title", "value", "below")
    parts = ([element("div", text, class_=kind) for kind, text in zip(kinds, card, strict=True)] for card in cards)
    return element("div", *(element("div", *texts, class_="card") for texts in parts), class_="cards")


def metrics(found: Gathered) -> list[Html]:
    """Every score of the two stages under every rule of decision."""
    rows, last = found.measured, len(found.measured) - 1
    if not rows:
        return [note("No predictions with labels: nothing is measured.")]
    any_row = rows[0].evaluation
    chance = any_row.chance[any_row.positives > 0]
    facts = f"{any_row.images} images of the split {found.split}, {len(any_row.positives)} labels, "
    facts += f"{any_row.positives.sum() / any_row.images:.2f} an image. "
    facts += f"A random ranking has an mAP of about {percent(chance.mean() if len(chance) else math.nan)}."
    unspecified = (found.last_predictions.labels == 0).sum() if any_row.zero_is_unspecified else 0
    if unspecified:
        facts += f" {unspecified} unspecified labels are ignored by AP and count as no in the rest."
    if empty := int((any_row.positives == 0).sum()):
        facts += f" {empty} labels without a positive image are left out of mAP."

    def block(name: str) -> Html:
        with_ap, body = name == "threshold", []
        for row in rows:
            ap = [percent(row.evaluation.mean_ap)] if with_ap else []
            body.append([row.name, *ap, *(percent(row.evaluation.decisions[name][m]) for m in SHOWN)])
        return table(["percent", *(["mAP"] if with_ap else []), *SHOWN], body, marked=last)

    own = [f"{ELEVEN_POINT} of VOC 2007"] if is_voc2007(found.last_predictions.classes) else []
    other = table(
        ["percent", "mAP, non-interpolated", *own, *(f"F1-C harmonic: {TITLES[name]}" for name in TITLES)],
        [
            [row.name, percent(row.evaluation.mean_ap_non_interpolated),
             *(percent(row.evaluation.mean_ap_11_point) for _ in own),
             *(percent(row.evaluation.decisions[name]["F1-C_harmonic"]) for name in TITLES)]
            for row in rows
        ],
        marked=last,
    )  # fmt: skip
    meanings = [join([code(score.name), f": {score.meaning}"]) for score in found.system.scores]
    return [
        paragraph(facts),
        paragraph(f"Decisions: {TITLES['threshold']}."),
        block("threshold"),
        *(folded(TITLES[name], block(name)) for name in ("top3_thresholded", "top3_forced")),
        folded(f"Other conventions: {', '.join(['non-interpolated mAP', *own, 'harmonic F1-C'])}", other),
        folded("What the scores are", element("ul", *(element("li", meaning) for meaning in meanings))),
    ]


def classes(found: Gathered) -> list[Html]:
    """AP of every label, highest first, with what is gained over the baseline."""
    final, main = found.final, found.main
    if final is None:
        return [note("No predictions with labels: nothing is measured.")]
    names = found.last_predictions.classes
    ap = final.evaluation.average_precision
    before = None if main is None else main.evaluation.average_precision
    order = np.argsort(-np.nan_to_num(ap, nan=-1), kind="stable")
    lines = [_bar(names[i], final.evaluation.positives[i], ap[i], None if before is None else before[i]) for i in order]
    text = f"Bar and first number: AP of {final.name}, in percent. "
    if main is not None:
        text += f"Black mark: {main.name}; second number: what is gained over it, in points. "
    text += "In brackets: images that have the label."
    parts = [paragraph(text)]
    if main is not None:
        gains = (ap - before)[~np.isnan(ap)]
        words = [direction(gain) for gain in gains]
        text = f"{words.count(UP)} labels gain, {words.count(DOWN)} lose, {words.count('')} stay (to 0.05 points)"
        parts.append(paragraph(f"{text}; the mean is {points(gains.mean())} points."))
        if main.stage == final.stage:
            baseline = found.system.baseline
            text = f"There are no predictions of stage {baseline.stage}: the {baseline.title} is that of stage"
            parts.append(note(f"{text} {main.stage}."))
    kind = "bars many" if len(names) > MANY_LABELS else "bars"
    return [*parts, element("div", *lines, class_=kind)]


def _bar(name: str, positives: int, ap: float, before: float | None) -> Html:
    mark = gain = None
    if before is not None and not math.isnan(before):
        mark = element("i", style=f"left:{100 * before:.1f}%")
        change = ap - before
        gain = element("span", points(change), class_=f"gain {direction(change)}")
    fill = element("b", style=f"width:{0 if math.isnan(ap) else 100 * ap:.1f}%")
    return element(
        "div",
        element("span", name, element("small", f" ({positives})"), class_="name"),
        element("span", fill, mark, class_="track"),
        element("span", percent(ap), class_="ap"),
        gain,
        class_="bar",
    )


def percent(value: float) -> str:
    """A fraction in percent."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference of fractions in percentage points, with its sign unless it is rounded to 0."""
    if math.isnan(value):
        return "-"
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}") if direction(value) else "0.0"


def direction(change: float) -> str:
    """The class of style of a difference of fractions: `UP`, `DOWN`, or nothing where it is rounded to 0.0 points."""
    return UP if change >= VISIBLE else DOWN if change <= -VISIBLE else ""
