"""Plots as SVG inside an `img`: nothing in them runs, and no text but ours is in them.

Colours are those of Okabe and Ito, which people of all colour visions tell apart; where colours could still be mixed
up, markers or dashes differ as well. Legends are HTML beside the plot, because names in them can be a stranger's.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfrs_mmse.page import element, foreign
from tfrs_mmse.schema import Level


class Style(NamedTuple):
    """How one thing looks in every plot.

    Attributes:
        color: As matplotlib and CSS name it.
        marker: Matplotlib's marker.
        glyph: The marker as a character, for the legend.
        dash: Matplotlib's line style.
    """

    color: str
    marker: str = "o"
    glyph: str = "●"
    dash: str = "-"


class Series(NamedTuple):
    """One line or cloud of a plot; the label is only for the legend."""

    label: str
    style: Style
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


SYSTEMS = (
    Style("#0072b2"),
    Style("#555555", "s", "■", "--"),
    Style("#e69f00", "D", "◆", "-."),
)
"""The model, BM25, the previous run."""

LEVELS = {
    Level.ORDERED: Style("#d55e00"),
    Level.CLICKED: Style("#009e73"),
    Level.UNCLICKED: Style("#56b4e9"),
    Level.RANDOM: Style("#999999"),
}

MANY = (
    Style("#0072b2"),
    Style("#e69f00", "s", "■"),
    Style("#009e73", "^", "▲"),
    Style("#d55e00", "D", "◆"),
    Style("#cc79a7", "v", "▼"),
    Style("#56b4e9", "P", "✚"),
    Style("#7a5c00", "X", "✖"),
    Style("#332288", "*", "★"),
)
"""For things without a colour of their own."""

OTHER = Style("#c4c9ce", ".", "•")

_SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9aa3ab",
    "axes.grid": True,
    "axes.labelcolor": "#3c4650",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 10,
    "grid.color": "#e6eaee",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "svg.hashsalt": "tfrs-mmse",
    "text.parse_math": False,
    "xtick.color": "#3c4650",
    "ytick.color": "#3c4650",
}


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    ticks: dict[float, str] | None = None,
    from_zero: bool = True,
) -> Element:
    """Lines over a common axis.

    Args:
        title: What is shown.
        series: The lines.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        log_x: Whether the horizontal axis is logarithmic.
        ticks: Labels of the horizontal axis by their place; None leaves them to matplotlib.
        from_zero: Whether the vertical axis starts at 0.
    """
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure(5.4, 3.3)
        for s in series:
            style = s.style
            axes.plot(s.x, s.y, style.dash, color=style.color, marker=style.marker)
        if log_x:
            axes.set_xscale("log")
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.minorticks_off()
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        return _captioned(title, figure, series)


def dots(
    title: str, rows: Sequence[str], series: Sequence[Series], *, x_label: str
) -> Element:
    """A row for each thing, in it a dot for each series, one below the other; `y` counts the rows from the top."""
    with mpl.rc_context({**_SETTINGS, "axes.grid": False}):
        figure, axes = _figure(5.4, 0.7 + 0.42 * max(3, len(rows)))
        axes.grid(axis="x")
        for row in range(1, len(rows)):
            axes.axhline(row - 0.5, color="#e6eaee", linewidth=0.8)
        for place, s in zip(np.linspace(-0.24, 0.24, len(series)), series, strict=True):
            y = np.asarray(s.y) + (place if len(series) > 1 else 0)
            axes.plot(s.x, y, s.style.marker, color=s.style.color, markersize=6)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(x_label)
        return _captioned(title, figure, series)


def distributions(
    title: str, series: Sequence[Series], *, x_label: str, bins: int = 60
) -> Element:
    """Histograms one above the other on a common axis: `x` are the values, `y` their weights, a line the median."""
    with mpl.rc_context({**_SETTINGS, "axes.grid": False}):
        figure = Figure(figsize=(7.2, 0.6 + 0.9 * len(series)), layout="constrained")
        all_axes = np.atleast_1d(figure.subplots(len(series), sharex=True))
        values = np.concatenate([np.asarray(s.x) for s in series])
        edges = np.linspace(values.min(), values.max() + 1e-6, bins + 1)
        for axes, s in zip(all_axes, series, strict=True):
            weights = np.asarray(s.y) / np.sum(s.y)
            axes.hist(s.x, edges, weights=weights, color=s.style.color, alpha=0.85)
            median = weighted_median(np.asarray(s.x), weights)
            axes.axvline(median, color="#1b1f24", linewidth=1.4)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        all_axes[-1].set_xlabel(x_label)
        return _captioned(title, figure, series, class_="wide")


def cloud(title: str, series: Sequence[Series]) -> Element:
    """Points in the plane, without axes: only nearness means something."""
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure(7.2, 5.6)
        for s in series:
            axes.scatter(
                s.x,
                s.y,
                s=16,
                c=s.style.color,
                marker=s.style.marker,
                linewidths=0,
                alpha=0.8,
                rasterized=True,
            )
        axes.set_axis_off()
        axes.set_aspect("equal", "datalim")
        return _captioned(title, figure, series, class_="wide")


def legend(series: Sequence[Series]) -> Element:
    """What the colours mean."""
    entries = [
        element(
            "li",
            element("span", f"{s.style.glyph} ", style=f"color:{s.style.color}"),
            foreign(s.label),
        )
        for s in series
    ]
    return element("ul", *entries, class_="legend")


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The smallest value that, with those below it, has half of the weight.

    Args:
        values: [n], at least one.
        weights: [n], not negative, not all 0.
    """
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulated, cumulated[-1] / 2)]])


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _captioned(
    title: str, figure: Figure, series: Sequence[Series], *, class_: str = ""
) -> Element:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=160)
    source = base64.b64encode(buffer.getvalue()).decode("ascii")
    return element(
        "figure",
        element("figcaption", title),
        legend(series) if len(series) > 1 else None,
        element("img", src=f"data:image/svg+xml;base64,{source}", alt=title),
        class_=class_,
    )
