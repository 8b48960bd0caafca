"""`report.html`: one page that says how good a run is, how close to the paper, and where; with everything inside it.

data.py gathers, other modules of this room make a section each, this module puts them together and writes the
page. Equal inputs give equal bytes: no date, no name of the machine.
"""

from __future__ import annotations

from pathlib import Path

from pysrn.report import comparison as paper
from pysrn.report import how_made as manifest
from pysrn.report import images, relations, results
from pysrn.report.data import Gap, Gathered, gather
from pysrn.report.images import BoxSource
from pysrn.report.markup import Html, code, contents, document, element, join, section
from pysrn.report.pictures import curves
from pysrn.report.style import STYLE
from pysrn.whole_files import written_beside

NAME = "report.html"
NO_BOX_SOURCE = BoxSource()


def write_report(
    run: Path,
    out: Path,
    data: str | Path | None = None,
    split: str = "test",
    boxes: BoxSource = NO_BOX_SOURCE,
    gpu: int | None = None,
) -> list[Gap]:
    """Write the page of a run to `out`, whole or not at all; returns what it lacks.

    `data`: folder of the LMDB pair where it is not the one that the run was trained on. Raises as `gather`.
    """
    found = gather(run, data, split)
    text = page(found, boxes, gpu)
    with written_beside(out) as partial:
        partial.write_text(text, encoding="utf-8")
    return found.gaps


def page(found: Gathered, boxes: BoxSource = NO_BOX_SOURCE, gpu: int | None = None) -> str:
    """The HTML page. Sections add to `found.gaps` what they find missing, so the list of gaps is made last."""
    recipe = found.settings.recipe
    head = results.headline(found)
    sections = {
        "Comparison with the paper": paper.comparison(found),
        "Metrics": results.metrics(found),
        "Average precision of the labels": results.classes(found),
        "Where the net looks": images.attention(found, boxes, gpu),
        "Images that changed most": images.changes(found),
        "Labels that occur together": relations.co_occurrence(found),
        "Training": curves(found),
        "How it was made": manifest.manifest(found),
    }
    title = f"{recipe.system.title}: {found.run.path.absolute().name}"
    facts = (recipe.dataset.title, recipe.system.words_of(recipe), recipe.system.trunks[recipe.trunk].title)
    lead = ", ".join(filter(None, facts))
    header = element("header", element("h1", title), element("p", lead, class_="lead"), contents(sections))
    parts = [section(heading, *parts) for heading, parts in sections.items()]
    return document(title, STYLE, [header, gaps(found.gaps), head, *parts])


def gaps(missing: list[Gap]) -> Html | None:
    """What the page lacks, each with the command that makes it."""
    if not missing:
        return None
    lines = [element("li", join([f"{gap.what}: ", code(gap.cure)])) for gap in missing]
    return element("div", element("strong", "Not there yet:"), element("ul", *lines), class_="note")
