"""`report.html` of tiny shops, read as a browser would."""

import base64
import dataclasses
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tfrs_mmse import evaluate
from tfrs_mmse.config import TrainConfig

SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"'><img src=x onerror=alert(1)>"
QUERY = f"{SCRIPT} $x_1$ \"quotes' \U0001f600 nut"
SECTIONS = [
    "Figures",
    "Recall by number of results",
    "Groups of queries and items",
    "Scores by level",
    "Fusion weights by query length",
    "Training",
    "The 2 best queries",
    "The 1 worst queries",
    "Map of items",
    "Data and config",
]


class Page(HTMLParser):
    """What a browser makes of it: elements, their attributes, headings and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.headings: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open[-1:] == ["h2"]:
            self.headings.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open.append(f"/{tag}")


def write_shop(
    writer: Any, config: TrainConfig, requests: Sequence[tuple[str, dict[str, int]]]
) -> list[str]:
    """The arguments of an evaluation."""
    writer.write_items(
        {
            "a": f"nut {SCRIPT} $x_1$\nsteel",
            "b": f"bolt {IMAGE} \U0001f600",
            "c": "screw $\\frac{",
            "d": "tea",
            **{f"d{i}": "tea" for i in range(12)},
        },
        {"a": 1, "b": 2, "c": 1},
    )
    writer.write_requests("train", [(QUERY, {"a": 2})])
    writer.write_requests("test", requests)
    writer.write_model(config)
    return ["--data", str(writer.data), "--model-dir", str(writer.run)]


REQUESTS = [
    (QUERY, {"a": 3, "b": 2, "c": 1}),
    (IMAGE, {"b": 2, "gone": 3}),
    ("tea", {"d": 2, "d11": 2}),
]


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, shop_writer: Callable[..., Any]
) -> Path:
    """The report on a shop whose strangers try to break out of their place."""
    writer = shop_writer(
        tmp_path_factory.mktemp("shop") / IMAGE.replace("/", ""),
        ["nut", "bolt", "tea"],
        [SCRIPT, "$y_1$ \U0001f600"],
    )
    arguments = write_shop(writer, TrainConfig(embedding_dim=4), REQUESTS)
    log = '{"epoch": 1, "retrieval_loss": 2.0, "fusion/<script>$z_1$": 0.5}\n'
    (writer.run / "metrics.jsonl").write_text(log)
    assert evaluate.main(arguments) == 0
    assert evaluate.main([*arguments, "--compare", str(writer.run)]) == 0
    return writer.run / "evaluation" / "report.html"


def test_has_every_section(hostile: Path) -> None:
    assert Page(hostile).headings == SECTIONS


def test_markup_of_strangers_is_text(hostile: Path) -> None:
    page = Page(hostile)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "link", "base", "form", "svg"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        if tag == "img":
            assert attributes["src"].startswith("data:image/svg+xml;base64,")
    for text in (
        QUERY,
        IMAGE,
        f"nut {SCRIPT} $x_1$",
        "screw $\\frac{",
        "$y_1$ \U0001f600",
    ):
        assert text in page.text


def test_asks_nobody_for_anything(hostile: Path) -> None:
    for tag, attributes in Page(hostile).elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")), (tag, name, value)


def test_no_text_of_strangers_is_in_an_image(hostile: Path) -> None:
    images = [
        base64.b64decode(attributes["src"].partition(",")[2])
        for tag, attributes in Page(hostile).elements
        if tag == "img"
    ]
    # Recall twice, groups twice, levels, fusion, training twice, the map.
    assert len(images) == 9
    for image in images:
        text = "".join(ElementTree.fromstring(image).itertext())
        assert "alert" not in text and "_1" not in text


def test_shows_results_side_by_side_with_levels_and_what_was_missed(
    hostile: Path,
) -> None:
    page = Page(hostile)
    levels = [a["class"] for t, a in page.elements if a.get("class", "")[:5] == "level"]
    assert set(levels) == {"level ordered", "level clicked", "level unclicked"}
    assert "1 judged items are no longer in the catalogue" in page.text
    # Equal items rank by their row: `d` comes first, `d11` after it and eleven others.
    assert "tea rank 13" in page.text


def test_names_the_previous_run_and_the_test(hostile: Path) -> None:
    text = Page(hostile).text
    assert "mmse against BM25: " in text
    assert "/run: no figure differs beyond chance." in text
    assert "paired Student's t-test" in text


def test_early_fusion_has_no_weights_to_show(
    tmp_path: Path, shop_writer: Callable[..., Any]
) -> None:
    config = dataclasses.replace(TrainConfig(embedding_dim=4), fusion="early")
    writer = shop_writer(tmp_path / "shop", ["nut"])
    arguments = write_shop(writer, config, REQUESTS)
    assert evaluate.main([*arguments, "--no-bm25"]) == 0
    page = Page(writer.run / "evaluation" / "report.html")
    assert page.headings == SECTIONS
    assert "(early fusion): there are no weights to show" in page.text
    assert "There is no metrics.jsonl beside the model." in page.text
    assert "The catalogue has no categorical attribute to colour by." in page.text
    assert "BM25" not in page.text


def test_a_split_of_one_query_can_be_shown(
    tmp_path: Path, shop_writer: Callable[..., Any]
) -> None:
    writer = shop_writer(tmp_path / "shop", ["nut"])
    arguments = write_shop(writer, TrainConfig(embedding_dim=4), [("tea", {"d": 2})])
    assert evaluate.main(arguments) == 0
    page = Page(writer.run / "evaluation" / "report.html")
    assert "The 0 worst queries" in page.headings
    assert "Empty here: seen queries" in page.text


def test_the_train_split_has_a_report_of_its_own(
    tmp_path: Path, shop_writer: Callable[..., Any]
) -> None:
    writer = shop_writer(tmp_path / "shop", ["nut"])
    arguments = write_shop(writer, TrainConfig(embedding_dim=4), REQUESTS)
    assert evaluate.main([*arguments, "--split", "train"]) == 0
    assert [p.name for p in (writer.run / "evaluation").glob("*.html")] == [
        "report-train.html"
    ]
