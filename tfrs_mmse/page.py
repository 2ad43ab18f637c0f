"""HTML as a tree of elements: text becomes part of the page only through the serialiser, which escapes it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, tostring

Node = Element | str | None


class Section(NamedTuple):
    """One part of the page.

    Attributes:
        anchor: Its name in links.
        title: Its heading.
        body: What stands below.
    """

    anchor: str
    title: str
    body: Sequence[Node]


def element(tag: str, *children: Node, **attributes: str) -> Element:
    """One element.

    Args:
        tag: Its name.
        *children: Elements and plain text in order; None is nothing.
        **attributes: Its attributes; `class_` stands for `class`, which is a word of Python's, and `_` for `-`.
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    made = Element(tag, {names[name]: value for name, value in attributes.items()})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif child is not None and last is None:
            made.text = (made.text or "") + child
        elif child is not None and last is not None:
            last.tail = (last.tail or "") + child
    return made


def foreign(text: str | bytes) -> Element:
    """Somebody else's text, kept apart from ours also where it is written from right to left."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    return element("bdi", text)


def table(
    head: Sequence[Node], rows: Iterable[Sequence[Node]], *, class_: str = ""
) -> Element:
    """A table whose rows start with a heading; it scrolls by itself where the window is too narrow."""
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell) for cell in row[1:]),
        )
        for row in rows
    ]
    headings = element("tr", *(element("th", cell, scope="col") for cell in head))
    made = element(
        "table", element("thead", headings), element("tbody", *body), class_=class_
    )
    return element("div", made, class_="scroll")


def paragraph(*children: Node) -> Element:
    """Text that explains."""
    return element("p", *children)


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def short_path(path: Path) -> str:
    """The end of a path, which tells runs and data sets apart."""
    return "/".join(path.absolute().parts[-2:])


def document(title: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: Title and first heading.
        sections: The parts, in order.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        element("style", _STYLE),
    )
    links = [element("a", s.title, href=f"#{s.anchor}") for s in sections]
    parts = [
        element("section", element("h2", s.title), *s.body, id=s.anchor)
        for s in sections
    ]
    body = element(
        "body",
        element("h1", foreign(title)),
        element("nav", *links),
        element("main", *parts),
    )
    html = tostring(element("html", head, body, lang="en"), "unicode", method="html")
    return f"<!DOCTYPE html>\n{html}\n"


# No browser asks anybody for anything because of this page, whatever is in it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #5b6570; --line: #dde2e7; --wash: #f5f7f9; --good: #00664b;
  --bad: #a33f00; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 72rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { max-width: 48rem; margin: .5rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: .6rem 0; border-bottom: 1px solid var(--line); }
a { color: #0062a3; text-decoration: none; }
a:hover { text-decoration: underline; }
section { margin-top: 2rem; padding-top: .25rem; }
.verdict { font-size: 1.1rem; }
.note, .small { color: var(--soft); font-size: .87rem; }
.small { display: block; line-height: 1.3; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; color: var(--soft); font-size: .87rem; vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
.figures td { white-space: nowrap; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.same { color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem 1.5rem; }
figure { margin: .75rem 0 0; max-width: 34rem; }
.wide { max-width: 46rem; }
figcaption { font-weight: 600; }
figure img { width: 100%; height: auto; display: block; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .2rem 0; padding: 0; list-style: none;
  font-size: .87rem; }
details { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .45rem 0; overflow-wrap: anywhere; }
summary:hover { background: var(--wash); }
.query { font-weight: 600; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .5rem 2rem;
  padding-bottom: 1rem; }
.sides h4 { margin: .5rem 0 .25rem; font-size: .87rem; color: var(--soft); }
.results { margin: 0; padding: 0 0 0 1.6rem; font-size: .9rem; }
.results li { padding: .1rem 0; overflow-wrap: anywhere; }
.results li::marker { color: var(--soft); font-variant-numeric: tabular-nums; }
.unjudged { color: var(--soft); }
.level { display: inline-block; padding: 0 .4em; margin-right: .35em; border-radius: .25em; font-size: .75rem;
  font-weight: 600; line-height: 1.5; color: #fff; }
.ordered { background: #b04a00; } .clicked { background: #00735a; }
.unclicked { background: #d7e9f5; color: #1b4a6b; }
@media (max-width: 40rem) { body { padding: 1rem .75rem 3rem; } tbody th { white-space: normal; } }
@media print { details > * { display: block; } }
"""
