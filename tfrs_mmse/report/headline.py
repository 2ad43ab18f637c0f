"""The figures that count, against BM25 and an earlier run, and whether the differences could be chance."""

from typing import Any

from tfrs_mmse.evaluation import BM25, PREVIOUS, Evaluation
from tfrs_mmse.page import Node, Section, element, number, short_path, table
from tfrs_mmse.significance import MAX_P

_MEANING = {
    "clicked": "clicked or ordered items",
    "ordered": "ordered items",
    "all": "all levels as gains",
}


def section(evaluation: Evaluation) -> Section:
    """The headline table, and what it says in one sentence."""
    result, model = evaluation.result, evaluation.trained.config.preset
    others = _others(evaluation)
    head: list[Node] = ["", "queries", model]
    for name, _ in others.values():
        head += [element("bdi", name), "difference"]
    rows = []
    for segment, figures in result["systems"][model].items():
        for figure, value in figures.items():
            row: list[Node] = [
                element(
                    "span", figure, element("span", _MEANING[segment], class_="small")
                ),
                str(result["averaged_over"][segment]),
                number(value),
            ]
            for key, (_, theirs) in others.items():
                comparison = result["comparisons"][key][segment][figure]
                row += [
                    number(theirs[segment][figure]),
                    _difference(comparison, theirs[segment][figure]),
                ]
            rows.append(row)
    return Section(
        "figures",
        "Figures",
        [
            *(
                _verdict(model, name, result["comparisons"][key])
                for key, (name, _) in others.items()
            ),
            table(head, rows, class_="figures"),
            element(
                "p",
                f"{result['num_queries']} distinct queries of the split, each against all {result['num_items']} items; "
                "a mean is over the queries that have a relevant item of that kind. Differences: two-sided paired "
                f"Student's t-test of ranx over these queries, each figure by itself; in colour where p ≤ {MAX_P}. "
                "Beside the p-value: for how many queries the model is better and worse.",
                class_="note",
            ),
        ],
    )


def _others(evaluation: Evaluation) -> dict[str, tuple[str, dict[str, Any]]]:
    """What the model is compared with: name for people and mean figures, by the name in the document."""
    others = {}
    if BM25 in evaluation.found:
        others[BM25] = ("BM25", evaluation.result["systems"][BM25])
    if previous := evaluation.previous:
        name = short_path(previous.model_dir)
        others[PREVIOUS] = (name, previous.result["systems"][previous.system])
    return others


def _difference(comparison: dict[str, Any], theirs: float | None) -> Node:
    difference, p_value = comparison["difference"], comparison["p_value"]
    if difference is None:
        return "–"
    relative = f" ({difference / theirs:+.1%})" if theirs else ""
    chance = "" if p_value is None else f"p {p_value:.2g}, "
    return element(
        "span",
        element("span", f"{difference:+.3f}{relative}", class_=_direction(comparison)),
        element(
            "span",
            f"{chance}{comparison['better']} ↑ {comparison['worse']} ↓",
            class_="small",
        ),
    )


def _direction(comparison: dict[str, Any]) -> str:
    if not comparison["significant"]:
        return "same"
    return "better" if comparison["difference"] > 0 else "worse"


def _verdict(model: str, name: str, comparisons: dict[str, Any]) -> Node:
    """One sentence: which of the figures are better, which worse, beyond chance."""
    by_direction: dict[str, list[str]] = {"better": [], "worse": [], "same": []}
    for segment, figures in comparisons.items():
        for figure, comparison in figures.items():
            label = figure if segment == "all" else f"{segment} {figure}"
            by_direction[_direction(comparison)].append(label)
    total = sum(len(labels) for labels in by_direction.values())
    parts = []
    for direction in ("better", "worse"):
        if labels := by_direction[direction]:
            named = "all figures" if len(labels) == total else ", ".join(labels)
            parts.append(f"{direction} in {named}")
    said = "; ".join(parts) or "no figure differs beyond chance"
    return element(
        "p", f"{model} against ", element("bdi", name), f": {said}.", class_="verdict"
    )
