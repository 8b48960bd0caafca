"""Predictions to figures: metrics of every score, as aligned text tables and as `metrics.json`.

`tools/evaluate.py` is the command line of this module. Tables show percent, JSON holds fractions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pysrn.evaluate.bootstrap import Interval, mean_ap_interval
from pysrn.evaluate.current_labels import check_together, load_labelled
from pysrn.evaluate.metrics import BLOCKS, DECISION_METRICS, Evaluation, evaluate
from pysrn.predict.predictions import Predictions
from pysrn.recipes import class_names
from pysrn.whole_files import written_beside

TITLES = {
    "threshold": "labels with a probability > 0.5",
    "top3_thresholded": "top 3 labels with a probability > 0.5 (the rule for MS-COCO)",
    "top3_forced": "always the top 3 labels (the rule for NUS-WIDE)",
}
ELEVEN_POINT = "11-point mAP"
OPTIMISTIC = ("optimistic F1-C", "optimistic F1-O")
SHOWN = DECISION_METRICS[:6]  # as in the papers' tables; the harmonic F1-C stands apart


@dataclass(frozen=True, eq=False)
class Result:
    """One predictions file, the metrics of each of its scores, and the interval of mAP where it was asked for."""

    name: str
    path: Path
    predictions: Predictions
    evaluations: dict[str, Evaluation]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


def evaluate_files(
    paths: Sequence[Path], resamples: int = 0, seed: int = 0, labels: Path | None = None
) -> list[Result]:
    """Load and evaluate predictions files; SrnError where they are not of the same images and classes.

    With `resamples`, also the bootstrap interval of every mAP; the same images are drawn for all of them.
    `labels`: the folder of the LMDB pair whose labels are taken in place of those that the files hold.
    """
    loaded = load_labelled(paths, labels)
    check_together(paths, loaded, loaded[0].classes, "measured")
    names = distinct_names(paths)
    return [
        Result(
            name,
            path,
            found,
            {s: evaluate(x, found.labels, what=f"{path}: {s}") for s, x in found.scores.items()},
            {s: mean_ap_interval(x, found.labels, resamples, seed) for s, x in found.scores.items() if resamples},
        )
        for name, path, found in zip(names, paths, loaded, strict=True)
    ]


def text(results: Sequence[Result], per_class: bool = False, eleven_point: bool = False) -> str:
    """All tables, rows in the order of the files and their scores.

    The 11-point AP is in them where asked for, and for VOC 2007, whose own it is.
    """
    rows = _rows(results)
    eleven_point |= is_voc2007(results[0].predictions.classes)
    any_row = next(iter(rows.values()))
    parts = [_headline(any_row, results[0].predictions.labels)]
    for block, title in TITLES.items():
        with_ap, body = block == "threshold", []
        for name, row in rows.items():
            ap = [row.mean_ap] if with_ap else []
            body.append([name, *map(_percent, (*ap, *(row.decisions[block][m] for m in SHOWN)))])
        parts.append(aligned(title, ["", *(["mAP"] if with_ap else []), *SHOWN], body))
    own, body = [ELEVEN_POINT] if eleven_point else [], []
    for name, row in rows.items():
        means = [row.mean_ap_non_interpolated, *([row.mean_ap_11_point] if own else [])]
        others = [*(row.decisions[b]["F1-C_harmonic"] for b in BLOCKS), *(row.optimistic[m] for m in ("F1-C", "F1-O"))]
        body.append([name, *map(_percent, (*means, *others))])
    titles = ["", "mAP", *own, "F1-C > 0.5", "F1-C top 3 forced", "F1-C top 3 thresholded", *OPTIMISTIC]
    words = ", ".join(["non-interpolated mAP", *([f"{ELEVEN_POINT} of VOC 2007"] if own else []), "harmonic F1-C"])
    title = f"other conventions: {words}; optimistic: the threshold is chosen on these images"
    parts.append(aligned(title, titles, body))
    by_image = [[name, _percent(row.exact_sets), _percent(row.map_at_10)] for name, row in rows.items()]
    parts.append(
        aligned("image by image: labels > 0.5 that are exactly its own", ["", "exact sets", "MAP@10"], by_image)
    )
    if any(result.intervals for result in results):
        parts.append(_interval_table(results))
    if per_class:
        parts.append(_class_table(results[0].predictions.classes, rows, eleven_point))
    return "\n\n".join(parts)


def aligned(title: str, header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table under a title, columns padded: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        others = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return f"| {' | '.join([row[0].ljust(widths[0]), *others])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([title, line(header), f"|{rule}|", *map(line, body)])


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write `metrics.json`: fractions, `null` where a metric is not defined."""
    first = results[0].predictions
    content = {
        "classes": list(first.classes),
        "predictions": [
            {
                "name": result.name,
                "file": str(result.path),
                "about": dict(result.predictions.about),
                "scores": {
                    score: _plain(found)
                    | ({"mAP_interval": result.intervals[score].to_json()} if score in result.intervals else {})
                    for score, found in result.evaluations.items()
                },
            }
            for result in results
        ],
    }
    save_json(content, path)


def save_json(content: dict, path: Path) -> None:
    """Write a JSON file whole; what was there before stays until then."""
    with written_beside(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each file: nothing for a single one, else its stem, its folder, or the whole path."""
    if len(paths) == 1:
        return [""]
    for names in ([path.stem for path in paths], [path.absolute().parent.name for path in paths]):
        if len(set(names)) == len(paths):
            return names
    return [str(path) for path in paths]


def _rows(results: Sequence[Result]) -> dict[str, Evaluation]:
    return {f"{r.name} {score}".strip(): found for r in results for score, found in r.evaluations.items()}


def _headline(row: Evaluation, labels: np.ndarray) -> str:
    """What was measured, in one line."""
    parts = [
        f"{row.images} images, {len(row.positives)} labels, {row.positives.sum() / row.images:.2f} a picture",
        f"chance mAP {_percent(np.mean(row.chance[row.positives > 0]) if row.positives.any() else math.nan)}",
    ]
    if row.zero_is_unspecified and (unspecified := int((labels == 0).sum())):
        parts.append(f"{unspecified} unspecified labels are ignored by AP and count as no in the rest")
    if empty := int((row.positives == 0).sum()):
        parts.append(f"{empty} labels without a positive image are left out of mAP")
    return "; ".join(parts)


def _interval_table(results: Sequence[Result]) -> str:
    """Ends of the interval of every mAP."""
    found = [
        (f"{result.name} {score}".strip(), result.evaluations[score].mean_ap, interval)
        for result in results
        for score, interval in result.intervals.items()
    ]
    any_one = found[0][2]
    title = f"mAP: middle {100 * any_one.level:g} % of {any_one.resamples} resamples of the images"
    body = [[name, _percent(value), _percent(one.low), _percent(one.high)] for name, value, one in found]
    return aligned(f"{title}, seed {any_one.seed}", ["", "mAP", "from", "to"], body)


def is_voc2007(classes: Sequence[str]) -> bool:
    """Whether the labels are those of PASCAL VOC 2007."""
    return tuple(classes) == class_names("voc2007")


def _class_table(classes: Sequence[str], rows: Mapping[str, Evaluation], eleven_point: bool) -> str:
    """AP of every class under every score; precision, recall and F1 under the last one."""
    own = rows if eleven_point else {}
    last_name, last = list(rows.items())[-1]
    header = ["", "positive", *(f"AP {name}" for name in rows), *(f"11-point AP {name}" for name in own)]
    header += [f"{m} {last_name}" for m in ("P", "R", "F1")]
    body = [
        [label, str(last.positives[i]), *(_percent(row.average_precision[i]) for row in rows.values()),
         *(_percent(row.average_precision_11_point[i]) for row in own.values()),
         *(_percent(values[i]) for values in (last.precision, last.recall, last.f1))]
        for i, label in enumerate(classes)
    ]  # fmt: skip
    return aligned("by class", header, body)


def _plain(found: Evaluation) -> dict:
    return {
        "mAP": _number(found.mean_ap),
        "mAP_non_interpolated": _number(found.mean_ap_non_interpolated),
        "mAP_11_point": _number(found.mean_ap_11_point),
        **found.decisions,
        "optimistic": found.optimistic,
        "exact_sets": found.exact_sets,
        "MAP@10": _number(found.map_at_10),
        "images": found.images,
        "zero_is_unspecified": found.zero_is_unspecified,
        "per_class": {
            "AP": _numbers(found.average_precision),
            "AP_non_interpolated": _numbers(found.average_precision_non_interpolated),
            "AP_11_point": _numbers(found.average_precision_11_point),
            "P": _numbers(found.precision),
            "R": _numbers(found.recall),
            "F1": _numbers(found.f1),
            "positives": found.positives.tolist(),
            "chance": _numbers(found.chance),
        },
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
