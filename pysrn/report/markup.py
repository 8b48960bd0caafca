"""HTML of the report, element by element: every text is escaped unless it is markup already (`Html`)."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

EMPTY_ELEMENTS = ("img", "image", "line", "meta", "rect")  # they have no closing tag, or none in SVG's short form
# The page may show what it holds and nothing else: no script, no request.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Markup that stands for itself. Any other string is text."""

    __slots__ = ()


def element(tag: str, /, *children: object, **attributes: object) -> Html:
    """`<tag attribute="...">children</tag>`; `class_` is class, `_` in other attributes is `-`.

    A child that is None is left out, as is an attribute.
    """
    pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opening = tag + "".join(f' {key}="{html.escape(str(value))}"' for key, value in pairs.items())
    if tag in EMPTY_ELEMENTS:
        return Html(f"<{opening}/>")
    return Html(f"<{opening}>{join(children)}</{tag}>")


def join(children: Iterable[object]) -> Html:
    """Children of an element one after the other, texts escaped."""
    there = (child for child in children if child is not None)
    return Html("".join(each if isinstance(each, Html) else html.escape(str(each), quote=False) for each in there))


def section(title: str, *children: object) -> Html:
    """A part of the page under its heading, to which `contents` links."""
    return element("section", element("h2", title, id=anchor(title)), *children)


def contents(titles: Iterable[str]) -> Html:
    """Links to the sections."""
    return element("nav", *(element("a", title, href=f"#{anchor(title)}") for title in titles))


def anchor(title: str) -> str:
    """A section's name in addresses."""
    return title.lower().replace(" ", "-")


def paragraph(*children: object) -> Html:
    """A sentence or more."""
    return element("p", *children)


def note(*children: object) -> Html:
    """Something that is not there, or to beware of."""
    return element("p", *children, class_="note")


def code(text: str) -> Html:
    """A command, a hash or a name in the code."""
    return element("code", text)


def folded(summary: str, *children: object) -> Html:
    """Details that open on a click, without a script."""
    return element("details", element("summary", summary), *children)


def table(header: Sequence[object], rows: Iterable[Sequence[object]], marked: int | None = None, text: int = 1) -> Html:
    """A table in a box that scrolls by itself; the first `text` columns are text, the others numbers.

    `marked`: a row that stands out.
    """

    def cells(kind: str, row: Sequence[object]) -> list[Html]:
        return [element(kind, cell, class_=None if i < text else "number") for i, cell in enumerate(row)]

    head = element("thead", element("tr", *cells("th", header)))
    body = [element("tr", *cells("td", row), class_="marked" if i == marked else None) for i, row in enumerate(rows)]
    return element("div", element("table", head, element("tbody", *body)), class_="scroll")


def picture(data: bytes, kind: str, description: str, size: tuple[int, int]) -> Html:
    """An inline `<img>` of `kind` jpeg or png, `size` (width, height) in pixels."""
    return element("img", src=data_address(data, kind), alt=description, width=size[0], height=size[1])


def data_address(data: bytes, kind: str) -> str:
    """The bytes of a picture as an address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def document(title: str, style: str, body: Iterable[object]) -> str:
    """The whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style)),
    )
    page = element("html", head, element("body", element("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"
