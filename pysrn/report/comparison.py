"""The report's first question: how close to the paper? The rows of `compare.py` as tables."""

from __future__ import annotations

from collections.abc import Sequence

from pysrn.evaluate.compare import MAIN_NET, SRN, Row, compare_rows, tolerances
from pysrn.evaluate.comparison_text import interval_sentence, legend, number, source
from pysrn.recipes import DATASETS
from pysrn.report.data import Gathered, Measured
from pysrn.report.markup import Html, element, folded, note, paragraph, table
from pysrn.systems.srn.paper import PAPER

WITHIN, NO_FIGURE = "within", "no figure"  # verdicts of compare.Row


def comparison(found: Gathered) -> list[Html]:
    """The final score against SRN's row of the paper's table, the main net of stage 1 against its baseline's."""
    dataset = found.settings.recipe.dataset
    if dataset.name not in PAPER:
        return [paragraph(f"The paper has no figures for this data set ({dataset.title}).")]
    pairs = [(SRN, found.final, "score"), (MAIN_NET, found.main_of_stage_1, "score_cls")]
    known = [(method, each) for method, each, score in pairs if each is not None and each.score == score]
    if not known:
        return [note("Neither predictions of the whole net nor of stage 1 are there (see above).")]
    parts, rows = [paragraph(_images(found))], []
    for method, each in known:
        compared = compare_rows(PAPER[dataset.name], method, each.evaluation, tolerances(dataset.name))
        parts += _table(method, each, compared)
        rows += compared
    if found.interval is not None:
        parts.append(paragraph(interval_sentence(found.interval), "."))
    return [*parts, folded("Sources and tolerances", element("ul", *(element("li", line) for line in _legend(rows))))]


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
        [row.metric, _number(row.paper.value, 1), _number(row.ours, 1), _number(row.difference, 1, "+"),
         element("span", row.verdict, class_="badge" if row.verdict in (WITHIN, NO_FIGURE) else "badge differs"),
         f"\N{PLUS-MINUS SIGN}{row.tolerance.points:g}", source(row.paper)]
        for row in rows
    ]  # fmt: skip
    header = ["metric", "paper", "ours", "difference", "verdict", "tolerance", "source"]
    return [element("h3", f"{method} of the paper and {each.name}"), paragraph(text), table(header, body)]


def _number(value: float | None, digits: int, sign: str = "") -> str:
    text = number(value, digits, sign)
    return text if text == "-" else text.replace("-", "\N{MINUS SIGN}")


def _legend(rows: Sequence[Row]) -> list[str]:
    """What the sources, trust marks, notes and tolerances of the rows are, each once."""
    lines = [f"* {row.metric}: {row.paper.note}" for row in rows if row.paper.note]
    lines += [f"\N{PLUS-MINUS SIGN}{row.tolerance.points:g}: {row.tolerance.reason}" for row in rows]
    return list(dict.fromkeys(lines + legend([row.paper for row in rows])))
