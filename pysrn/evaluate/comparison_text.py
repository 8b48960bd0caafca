"""What `compare.py` found, as aligned tables with footnotes: the paper's figure, ours, difference, verdict, sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pysrn.evaluate.bootstrap import Interval
from pysrn.evaluate.compare import Comparison
from pysrn.evaluate.table import aligned
from pysrn.recipes import DATASETS, OWN
from pysrn.systems.published import NOT_FOUND, TOP3_PREFIX, Figure, PaperTable, Published, Tolerance
from pysrn.systems.system import System


def text(system: System, dataset: str, comparisons: Sequence[Comparison], whole_table: bool = False) -> str:
    """The comparisons as tables with their footnotes; `whole_table`: also every row of the paper's table."""
    table = system.published.tables.get(dataset)
    parts = [_headline(table, dataset, comparisons[0].images)]
    parts += [_comparison_text(found, table is not None) for found in comparisons]
    if table is not None:
        figures = [row.paper for found in comparisons for row in found.rows]
        lines = _footnotes(comparisons)
        if whole_table:
            figures = [figure for row in table.rows.values() for figure in row.values()]
            lines += ["", *_paper_lines(table)]
        parts.append("\n".join(lines + legend(system.published, figures)))
    return "\n\n".join(parts)


def _headline(table: PaperTable | None, dataset: str, images: int) -> str:
    title = DATASETS.get(dataset, OWN).title
    if table is None:
        return f"{title}: the paper has no figures for this data set; {images} images"
    published = DATASETS[dataset].test_images
    same = "as many as in the paper" if images == published else f"the paper's are {published}, so not the same"
    return f"{title}: {images} images, {same}"


def _comparison_text(found: Comparison, known: bool) -> str:
    """A table of one comparison; only our figures where the paper has none."""
    name = f"{found.score} of {found.path}"
    if known:
        header = ["metric", "paper", "ours", "difference", "verdict", "source"]
        verdicts = {"within": "within {:g}"} | {side: f"{side}, not within {{:g}}" for side in ("above", "below")}
        body = [
            [row.metric, number(row.paper.value, 1), number(row.ours, 2), number(row.difference, 2, "+"),
             verdicts.get(row.verdict, row.verdict).format(row.tolerance.points), source(row.paper)]
            for row in found.rows
        ]  # fmt: skip
        lines = [aligned(f"{found.method} of the paper against {name}, in percent", header, body)]
    else:
        body = [[row.metric, number(row.ours, 2)] for row in found.rows]
        lines = [aligned(f"{name}, in percent", ["metric", "ours"], body)]
    if found.interval is not None:
        lines.append(interval_sentence(found.interval))
    return "\n".join(lines)


def number(value: float | None, digits: int, sign: str = "") -> str:
    """A figure in percent, or a dash."""
    return "-" if value is None or math.isnan(value) else f"{value:{sign}.{digits}f}"


def source(figure: Figure) -> str:
    """`Q2L ZFT [2+]`, or what is known of an empty cell."""
    if figure.value is None:
        return "not found" if figure.trust == NOT_FOUND else "not printed"
    return f"{' '.join(figure.sources)} [{figure.trust}]{' *' if figure.note else ''}"


def interval_sentence(found: Interval) -> str:
    """The bootstrap interval of mAP as a sentence."""
    low, high = number(100 * found.low, 2), number(100 * found.high, 2)
    return (
        f"mAP of other test images of this kind: {low} to {high} "
        f"({100 * found.level:g} % of {found.resamples} resamples of the images, seed {found.seed})"
    )


def _footnotes(comparisons: Sequence[Comparison]) -> list[str]:
    """Notes on single figures, and the reasons of the tolerances."""
    rows = [row for found in comparisons for row in found.rows if row.paper.value is not None]
    lines = [f"* {found.method} {row.metric}: {row.paper.note}" for found in comparisons for row in found.rows
             if row.paper.value is not None and row.paper.note]  # fmt: skip
    reasons: dict[Tolerance, dict[str, None]] = {}
    for row in rows:
        reasons.setdefault(row.tolerance, {})[row.metric.removeprefix(TOP3_PREFIX)] = None
    return lines + [f"within {one.points:g} of {', '.join(names)}: {one.reason}" for one, names in reasons.items()]


def legend(published: Published, figures: Sequence[Figure]) -> list[str]:
    """What the keys of the sources and the marks of trust mean."""
    sources = {key for figure in figures for key in figure.sources}
    marks = {figure.trust for figure in figures}
    lines = [f"{key}: {meaning}" for key, meaning in published.sources.items() if key in sources]
    return lines + [f"[{mark}]: {meaning}" for mark, meaning in published.trust.items() if mark in marks]


def _paper_lines(table: PaperTable) -> list[str]:
    """The paper's whole table with notes and sources; `-` the sources print a dash, `?` nobody could source it."""
    body = [
        [method, *(figure.trust if figure.value is None else f"{figure.value:.1f}" for figure in row.values())]
        for method, row in table.rows.items()
    ]
    lines = [aligned("all rows of the paper's table, in percent", ["", *table.columns], body)]
    lines += [f"{method}: {note}" for method, note in table.notes.items()]
    for method, row in table.rows.items():
        by_source: dict[str, list[str]] = {}
        for column, figure in row.items():
            if figure.value is not None:
                by_source.setdefault(source(figure).removesuffix(" *"), []).append(column)
            if figure.note:
                lines.append(f"{method}, {column}: {figure.note}")
        lines += [f"{method}, {', '.join(columns)}: {words}" for words, columns in by_source.items()]
    return [*lines, "-: not printed by the sources; ?: no source was found"]
