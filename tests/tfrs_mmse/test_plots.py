import base64
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from tfrs_mmse import plots
from tfrs_mmse.plots import Series

HOSTILE = "<script>alert(1)</script> $x_1$ $\\frac{"


def svg(figure: Element) -> Element:
    """The image, which must be well-formed XML."""
    [image] = figure.iter("img")
    kind, _, data = image.get("src", "").partition(",")
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(data))


def line(label: str, values: list[float]) -> Series:
    return Series(label, plots.MANY[0], range(len(values)), values)


@pytest.mark.parametrize(
    "figure",
    [
        plots.lines(
            "t", [line(HOSTILE, [1, 2]), line("b", [2, 1])], x_label="x", y_label="y"
        ),
        plots.dots("t", ["r"], [line(HOSTILE, [0]), line("b", [0])], x_label="x"),
        plots.distributions(
            "t", [line(HOSTILE, [1, 2]), line("b", [2, 1])], x_label="x"
        ),
        plots.cloud("t", [line(HOSTILE, [1, 2]), line("b", [2, 1])]),
    ],
)
def test_labels_are_in_the_legend_and_not_in_the_image(figure: Element) -> None:
    assert [e.text for e in figure.iter("bdi")] == [HOSTILE, "b"]
    assert "alert" not in ElementTree.tostring(svg(figure), "unicode")


def test_text_in_an_image_is_not_taken_for_a_formula() -> None:
    figure = plots.lines("t", [line("a", [1, 2])], x_label=HOSTILE, y_label="$y_1$")
    text = "".join(svg(figure).itertext())
    assert HOSTILE in text and "$y_1$" in text


def test_one_series_needs_no_legend() -> None:
    assert not list(plots.cloud("t", [line("a", [1, 2])]).iter("ul"))


def test_series_of_nothing_or_one_point_can_be_drawn() -> None:
    svg(plots.lines("t", [line("a", []), line("b", [1])], x_label="x", y_label="y"))
    svg(plots.distributions("t", [line("a", [0.5])], x_label="x"))
    svg(plots.dots("t", ["r"], [line("a", [])], x_label="x"))


def test_the_same_data_gives_the_same_image() -> None:
    one, other = (plots.cloud("t", [line("a", [1, 2, 0])]) for _ in range(2))
    assert ElementTree.tostring(one) == ElementTree.tostring(other)


def test_styles_differ_in_colour_and_in_form() -> None:
    for styles in (plots.MANY, plots.SYSTEMS):
        assert len({s.color for s in styles}) == len(styles)
        assert len({s.glyph for s in styles}) == len(styles)
        assert len({s.marker for s in styles}) == len(styles)


def test_the_median_has_half_of_the_weight_at_or_below_it() -> None:
    values = np.array([5.0, 1, 3])
    assert plots.weighted_median(values, np.array([1, 1, 1])) == 3
    assert plots.weighted_median(values, np.array([3, 1, 1])) == 5
    assert plots.weighted_median(values, np.array([1, 2, 1])) == 1
