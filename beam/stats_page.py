"""`stats.html`: what the logs look like, for people; one file that asks nobody for more."""

from collections.abc import Mapping, Sequence
from typing import Any

from beam.accounting import READ, USED
from beam.drift import Change
from tfrs_mmse import page, plots
from tfrs_mmse.page import Node, Section, element, foreign, paragraph, table
from tfrs_mmse.plots import MANY, Series
from tfrs_mmse.schema import Level

_MOST = 40  # positions, words and days that a plot shows


def document(
    title: str, stats: Mapping[str, Any], drift: Sequence[Change], *, compared_to: str
) -> str:
    """The page.

    Args:
        title: What was preprocessed.
        stats: `stats.json`.
        drift: What has changed.
        compared_to: Since which run; `""` where there is none to compare with.
    """
    sections = [
        _accounting(stats),
        _drift(drift, compared_to),
        _positions(stats.get("position", {})),
        _days(stats.get("day", {})),
        _frequencies(stats),
        _words(stats.get("words", {})),
        _missing(stats),
    ]
    return page.document(title, [section for section in sections if section])


def _accounting(stats: Mapping[str, Any]) -> Section:
    rows: list[Sequence[Node]] = []
    for source, counts in stats["accounting"].items():
        read = counts.get(READ, 0)
        names = sorted(
            counts, key=lambda name: (name != READ, name != USED, -counts[name])
        )
        rows += [
            (f"{source} {name}", f"{counts[name]:,}", _percent(counts[name], read))
            for name in names
        ]
    splits: list[Sequence[Node]] = [
        (split, *(f"{number:,}" for number in counts.values()))
        for split, counts in stats["splits"].items()
    ]
    heads = ["split", *next(iter(stats["splits"].values()), {})]
    body: list[Node] = [
        paragraph(
            "Every row read is used, dropped by a policy, or rejected for a reason."
        ),
        table(["rows", "number", "of those read"], rows, class_="figures"),
    ]
    if splits:
        body.append(table(heads, splits, class_="figures"))
    return Section("rows", "Where every row went", body)


def _drift(drift: Sequence[Change], compared_to: str) -> Section | None:
    if not compared_to:
        return None
    told = paragraph(
        "Compared with ",
        foreign(compared_to),
        ": what moved by more than a factor of 1.25 (and 2 points).",
    )
    if not drift:
        return Section(
            "drift", "Since the run before", [told, paragraph("Nothing did.")]
        )
    rows = [
        (foreign(change.name), change.shown(change.before), change.shown(change.now))
        for change in drift
    ]
    return Section(
        "drift",
        "Since the run before",
        [told, table(["figure", "before", "now"], rows, class_="figures")],
    )


def _positions(levels: Mapping[str, Mapping[str, int]]) -> Section | None:
    known = sorted(
        {int(key) for numbers in levels.values() for key in numbers if int(key) >= 0}
    )[:_MOST]
    shown = {
        p: sum(numbers.get(str(p), 0) for numbers in levels.values()) for p in known
    }
    unknown = sum(numbers.get("-1", 0) for numbers in levels.values())
    told = (
        f"{unknown:,} of {unknown + sum(shown.values()):,} items have no position."
        if unknown
        else None
    )
    if not known:
        return (
            Section("positions", "Positions", [paragraph("No item has a position.")])
            if unknown
            else None
        )
    rates, counts = [], []
    for level in (Level.CLICKED, Level.ORDERED):
        numbers = levels.get(level.name.lower(), {})
        share = [numbers.get(str(p), 0) / shown[p] for p in known]
        rates.append(Series(level.name.lower(), plots.LEVELS[level], known, share))
    for level in (Level.UNCLICKED, Level.CLICKED, Level.ORDERED):
        numbers = levels.get(level.name.lower(), {})
        counts.append(
            Series(
                level.name.lower(),
                plots.LEVELS[level],
                known,
                [numbers.get(str(p), 0) for p in known],
            )
        )
    figures = element(
        "div",
        plots.lines(
            "Share of the shown items that got this far",
            rates,
            x_label="position",
            y_label="share",
        ),
        plots.lines(
            "Shown items by their deepest level",
            counts,
            x_label="position",
            y_label="items",
        ),
        class_="plots",
    )
    return Section(
        "positions", "Positions", [paragraph(told) if told else None, figures]
    )


def _days(days: Mapping[str, int]) -> Section | None:
    if len(days) < 2:
        return None
    names = list(days)
    ticks: dict[float, str] = {
        n: names[n] for n in range(0, len(names), max(1, len(names) // 4))
    }
    series = [Series("requests", MANY[0], range(len(names)), list(days.values()))]
    figure = plots.lines(
        "Requests with a click, by day",
        series,
        x_label="day (UTC)",
        y_label="requests",
        ticks=ticks,
    )
    return Section("days", "Time", [figure])


def _frequencies(stats: Mapping[str, Any]) -> Section | None:
    queries = stats.get("query_frequency", {})
    items = stats.get("item_frequency", {}).get("items", {})
    rows: list[Sequence[Node]] = []
    total = sum(queries.get("requests", {}).values())
    for power, number in queries.get("queries", {}).items():
        requests = queries["requests"].get(power, 0)
        rows.append(
            (_from(power), f"{number:,}", f"{requests:,}", _percent(requests, total))
        )
    body: list[Node] = []
    if rows:
        body.append(
            table(
                ["requests of a query", "queries", "their requests", "share"],
                rows,
                class_="figures",
            )
        )
    shares = [
        (_from(power), f"{number:,}", _percent(number, sum(items.values())))
        for power, number in items.items()
    ]
    if items:
        body.append(
            table(
                ["train requests that show an item", "items", "share"],
                shares,
                class_="figures",
            )
        )
    return Section("frequency", "Frequent and rare", body) if body else None


def _from(power: str) -> str:
    number = int(power)
    return power if number < 2 else f"{number:,} to {2 * number - 1:,}"


def _words(fields: Mapping[str, Mapping[str, int]]) -> Section | None:
    series = []
    for style, (field, numbers) in zip(MANY, fields.items(), strict=False):
        total = max(sum(numbers.values()), 1)
        lengths = sorted(int(length) for length in numbers)[:_MOST]
        series.append(
            Series(field, style, lengths, [numbers[str(n)] / total for n in lengths])
        )
    if not series:
        return None
    told = paragraph(
        "Words that are used; longer texts are cut at the limits of the config."
    )
    figure = plots.lines(
        "Share of the queries, and of each text field, by length",
        series,
        x_label="words",
        y_label="share",
    )
    return Section("words", "Lengths", [told, figure])


def _missing(stats: Mapping[str, Any]) -> Section | None:
    tokens: list[Sequence[Node]] = []
    for of, grains in stats.get("token", {}).items():
        for grain, numbers in grains.items():
            total = sum(numbers.values())
            share = _percent(numbers.get("unknown", 0), total)
            tokens.append((f"{grain} tokens in {of}", f"{total:,}", share))
    values: list[Sequence[Node]] = []
    for column, numbers in stats.get("value", {}).items():
        total = sum(numbers.values())
        shares = (_percent(numbers.get(kind, 0), total) for kind in ("missing", "rare"))
        values.append((foreign(column), *shares))
    body: list[Node] = []
    if tokens:
        body.append(
            table(
                ["tokens", "number", "not in the vocabulary"], tokens, class_="figures"
            )
        )
    if values:
        body.append(
            table(
                ["column", "items without a value", "with one too rare for an id"],
                values,
                class_="figures",
            )
        )
    return Section("missing", "Unknown and missing", body) if body else None


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "–"
