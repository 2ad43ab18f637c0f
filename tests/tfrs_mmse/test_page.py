from html.parser import HTMLParser

from tfrs_mmse import page
from tfrs_mmse.page import Section, element


class Parsed(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(*body: page.Node) -> Parsed:
    return Parsed(page.document("A title", [Section("here", "Heading", body)]))


def test_text_and_elements_stand_in_their_order() -> None:
    made = element("p", "on", "e ", element("b", "two"), " three ", None, "four")
    assert "".join(made.itertext()) == "one two three four"


def test_markup_in_text_and_attributes_stays_text() -> None:
    hostile = """<script>alert(1)</script>&amp;"'><img src=x onerror=alert(1)>"""
    parsed = rendered(
        page.foreign(hostile), element("a", hostile, href=f'#"><b>{hostile}')
    )
    assert "script" not in parsed.tags and "img" not in parsed.tags
    assert hostile in parsed.text
    assert ("a", "href", f'#"><b>{hostile}') in parsed.attributes


def test_bytes_that_are_not_utf_8_are_shown_as_far_as_they_are() -> None:
    assert page.foreign(b"ma\xe7a \xf0\x9f\x98\x80").text == "ma\ufffda \U0001f600"


def test_every_section_can_be_jumped_to() -> None:
    parsed = rendered("text")
    assert ("a", "href", "#here") in parsed.attributes
    assert ("section", "id", "here") in parsed.attributes


def test_the_page_forbids_the_browser_to_fetch_anything() -> None:
    meta = [(n, v) for tag, n, v in rendered().attributes if tag == "meta"]
    assert meta[-2:] == [
        ("http-equiv", "Content-Security-Policy"),
        ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'"),
    ]


def test_a_missing_figure_is_a_dash() -> None:
    assert (page.number(0.12345), page.number(None)) == ("0.123", "–")


def test_a_row_starts_with_its_heading() -> None:
    html = page.document("", [Section("", "", [page.table(["a", "b"], [["x", "y"]])])])
    assert '<tr><th scope="row">x</th><td>y</td></tr>' in html
