"""The report's first question: how close to the paper? The rows of `compare.py` as tables."""

from __future__ import annotations

from collections.abc import Sequence

from pysrn.evaluate.compare import Row, compare_rows, tolerances
from pysrn.evaluate.comparison_text import interval_sentence, legend, number, source
from pysrn.recipes import DATASETS
from pysrn.report.data import Gathered, Measured
from pysrn.report.markup import Html, element, folded, note, paragraph, table
from pysrn.systems.published import Method

WITHIN, NO_FIGURE = "within", "no figure"  # verdicts of compare.Row


def comparison(found: Gathered) -> list[Html]:
    """The final score, and that of the baseline's stage, against their rows of the paper's table."""
    dataset, published = found.settings.recipe.dataset, found.system.published
    if dataset.name not in published.tables:
        return [paragraph(f"The paper has no figures for this data set ({dataset.title}).")]
    known = [(method.title, each) for method in published.methods if (each := _measured(found, method)) is not None]
    if not known:
        stage = found.system.baseline.stage
        return [note(f"Neither predictions of the whole net nor of stage {stage} are there (see above).")]
    parts, rows = [paragraph(_images(found))], []
    allowed = tolerances(found.system, dataset.name)
    for method, each in known:
        compared = compare_rows(published.tables[dataset.name], method, each.evaluation, allowed)
        parts += _table(method, each, compared)
        rows += compared
    if found.interval is not None:
        parts.append(paragraph(interval_sentence(found.interval), "."))
    # What the sources, trust marks, notes and tolerances of the rows are, each once.
    lines = [f"* {row.metric}: {row.paper.note}" for row in rows if row.paper.note]
    lines += [f"\N{PLUS-MINUS SIGN}{row.tolerance.points:g}: {row.tolerance.reason}" for row in rows]
    lines = dict.fromkeys(lines + legend(published, [row.paper for row in rows]))
    items = (element("li", line) for line in lines)
    return [*parts, folded("Sources and tolerances", element("ul", *items))]


def _measured(found: Gathered, method: Method) -> Measured | None:
    """What stands against a method: the final score, or the score of an early stage that has no other."""
    if not method.alone:
        return found.final if found.final is not None and found.final.score == method.score else None
    stage = found.system.baseline.stage
    return next((each for each in found.measured if (each.stage, each.score) == (stage, method.score)), None)


def _images(found: Gathered) -> str:
    dataset, images = found.settings.recipe.dataset, found.measured[0].evaluation.images
    published = DATASETS[dataset.name].test_images
    same = "as many as in the paper" if images == published else f"the paper's are {published:,}: not the same figure"
    return f"{dataset.title}, {images:,} images, {same}. All in percent."


def _table(method: str, each: Measured, rows: Sequence[Row]) -> list[Html]:
    inside = sum(row.verdict == WITHIN for row in rows)
    known = sum(row.verdict != NO_FIGURE for row in rows)
    text = f"{inside} of {known} known figures are within their tolerance."
    body = [
        [row.metric, _number(row.paper.value), _number(row.ours), _number(row.difference, "+"),
         element("span", row.verdict, class_="badge" if row.verdict in (WITHIN, NO_FIGURE) else "badge differs"),
         f"\N{PLUS-MINUS SIGN}{row.tolerance.points:g}", source(row.paper)]
        for row in rows
    ]  # fmt: skip
    header = ["metric", "paper", "ours", "difference", "verdict", "tolerance", "source"]
    return [element("h3", f"{method} of the paper and {each.name}"), paragraph(text), table(header, body)]


def _number(value: float | None, sign: str = "") -> str:
    text = number(value, 1, sign)
    return text if text == "-" else text.replace("-", "\N{MINUS SIGN}")
