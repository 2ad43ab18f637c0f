"""How recall grows with the number of results, and for which queries and items it is good."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tfrs_mmse import metrics, plots
from tfrs_mmse.evaluation import BM25, Evaluation
from tfrs_mmse.page import (
    Node,
    Section,
    element,
    number,
    paragraph,
    short_path,
    table,
)
from tfrs_mmse.plots import Series, Style

_TITLES = {
    "clicked": "Recall of clicked or ordered items",
    "ordered": "Recall of ordered items",
}
_GROUPS = {
    "seen": "seen queries",
    "unseen": "unseen queries",
    "head": "head queries",
    "torso": "torso queries",
    "tail": "tail queries",
    "new_items": "new items",
    "items_without_clicks": "items without clicks",
    "items_with_clicks": "items with clicks",
}
_COLUMNS = (
    ("clicked", "recall@10"),
    ("clicked", "recall@100"),
    ("ordered", "recall@10"),
    ("ordered", "recall@100"),
    ("all", "ndcg@10"),
)

_BASELINE_NOTE = "Small below each figure: that of BM25, and the difference. "
_NOTE = (
    "Seen queries occur in the train split. Head, torso and "
    "tail go by traffic: the train requests of a query, or its held-out requests if no query here was seen. The most "
    "frequent queries that together make half of the traffic are the head, the next 30% the torso; queries of equal "
    "traffic stay together. For groups of items it is the recall of those items alone: new ones are in no train "
    "record; those without clicks, the new among them, were neither clicked nor ordered there."
)


def sections(evaluation: Evaluation) -> list[Section]:
    """Recall curves and groups."""
    systems = _systems(evaluation)
    curves = [_curve(segment, systems) for segment in _TITLES]
    there = [name for name in _GROUPS if evaluation.result["groups"][name]]
    baseline_note = _BASELINE_NOTE if BM25 in evaluation.found else None
    missing = [_GROUPS[name] for name in _GROUPS if name not in there]
    return [
        Section(
            "recall",
            "Recall by number of results",
            [element("div", *curves, class_="plots")],
        ),
        Section(
            "groups",
            "Groups of queries and items",
            [
                element(
                    "div",
                    *(_group_dots(segment, there, systems) for segment in _TITLES),
                    class_="plots",
                ),
                _group_table(evaluation, there),
                paragraph(f"Empty here: {', '.join(missing)}.") if missing else None,
                element("p", baseline_note, _NOTE, class_="note"),
            ],
        ),
    ]


class _System(NamedTuple):
    """A system: its name for people, its look, its name in the document, and the document it is in."""

    label: str
    style: Style
    name: str
    result: dict[str, Any]


def _systems(evaluation: Evaluation) -> list[_System]:
    model = evaluation.trained.config.preset
    systems = [_System(model, plots.SYSTEMS[0], model, evaluation.result)]
    if BM25 in evaluation.found:
        systems.append(_System("BM25", plots.SYSTEMS[1], BM25, evaluation.result))
    if previous := evaluation.previous:
        label = short_path(previous.model_dir)
        systems.append(
            _System(label, plots.SYSTEMS[2], previous.system, previous.result)
        )
    return systems


def _curve(segment: str, systems: list[_System]) -> Node:
    series = []
    for system in systems:
        recall = system.result["curves"][system.name][segment]
        known = [
            (k, recall[f"recall@{k}"])
            for k in metrics.CUT_OFFS
            if recall[f"recall@{k}"] is not None
        ]
        series.append(_series(system, known))
    return plots.lines(
        _TITLES[segment],
        series,
        x_label="results",
        y_label="recall",
        log_x=True,
        ticks={k: str(k) for k in metrics.CUT_OFFS if str(k)[0] == "1"},
    )


def _series(system: _System, points: Sequence[tuple[float, float]]) -> Series:
    return Series(
        system.label, system.style, [x for x, _ in points], [y for _, y in points]
    )


def _group_dots(segment: str, groups: list[str], systems: list[_System]) -> Node:
    series = []
    for system in systems:
        points = []
        for row, group in enumerate(groups):
            known = (system.result["groups"][group] or {"systems": {}})["systems"]
            value = known.get(system.name, {}).get(segment, {}).get("recall@100")
            if value is not None:
                points.append((value, row))
        series.append(_series(system, points))
    return plots.dots(
        _TITLES[segment], [_GROUPS[g] for g in groups], series, x_label="recall@100"
    )


def _group_table(evaluation: Evaluation, groups: list[str]) -> Node:
    model = evaluation.trained.config.preset
    rows = []
    for name in groups:
        group = evaluation.result["groups"][name]
        num = group["averaged_over"]
        with_orders = element("span", f"{num['ordered']} with orders", class_="small")
        row: list[Node] = [
            _GROUPS[name],
            element("span", str(num["clicked"]), with_orders),
        ]
        for segment, figure in _COLUMNS:
            ours = group["systems"][model].get(segment, {}).get(figure)
            bm25 = group["systems"].get(BM25, {}).get(segment, {}).get(figure)
            beside = None if bm25 is None else f"{bm25:.3f}, {ours - bm25:+.3f}"
            row.append(
                element(
                    "span",
                    number(ours),
                    element("span", beside, class_="small") if beside else None,
                )
            )
        rows.append(row)
    head = ["", "queries", *(f if s == "all" else f"{s} {f}" for s, f in _COLUMNS)]
    return table(head, rows, class_="figures")
